package config

// Security holds the rules for people who sign in (the guide's block "security").
type Security struct {
	MFA *MFA `key:"mfa" doc:"Second factors."`
}

// MFA says who needs a second factor, and which ones there are (the guide's block "security.mfa").
type MFA struct {
	Enabled          bool     `key:"enabled" doc:"Second factors may be used."`
	RequiredForAdmin bool     `key:"required_for_admin" doc:"Administrators must use one."`
	Methods          []string `key:"methods" enum:"totp,sms,email" doc:"Which ones: an authenticator app, a text message, an e-mail."`
	BackupCodes      bool     `key:"backup_codes" doc:"Codes for the day the second factor is lost."`
}

// OAuth2 holds single sign-on (the guide's block "oauth2").
type OAuth2 struct {
	Providers map[string]Provider `key:"providers" names:"name" doc:"Identity providers by name."`
}

// A Provider is one identity provider (the guide's block "oauth2.providers").
type Provider struct {
	ClientID     string   `key:"client_id" required:"true" doc:"The name under which the provider knows this program."`
	ClientSecret Secret   `key:"client_secret" doc:"The password that goes with it: env:NAME or file:PATH."`
	TenantID     string   `key:"tenant_id" doc:"Microsoft: the tenant."`
	Authority    string   `key:"authority" doc:"The provider's address; {tenant_id} stands for the tenant."`
	Scopes       []string `key:"scopes" doc:"What is asked for."`
	RedirectURI  string   `key:"redirect_uri" doc:"Where the provider sends people back to."`
}

// A Scan is one tool that looks for weaknesses (the guide's block "security_scans").
type Scan struct {
	Tool     string   `key:"tool" required:"true" doc:"The tool's name."`
	Schedule string   `key:"schedule" enum:"hourly,daily,weekly,monthly,on_build" doc:"When it runs."`
	Config   string   `key:"config" doc:"The tool's own configuration, handed over as it is written."`
	Command  string   `key:"command" doc:"The command line."`
	Targets  []string `key:"targets" doc:"What it looks at: addresses or ranges."`
}
