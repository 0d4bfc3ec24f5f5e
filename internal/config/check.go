package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// A Level says what a finding means for the service.
type Level string

const (
	Error   Level = "error"   // the service does not start like this
	Warning Level = "warning" // it starts; a person should know
)

// A Finding is what Check found: legible, but unsafe, broken, or not in force.
type Finding struct {
	Level Level
	Problem
}

// checker collects findings.
type checker struct {
	c        *Config
	now      time.Time
	findings []Finding
}

// Check looks at what the settings refer to and at how they stand to each other: addresses, names, files, certificates,
// secrets. It reads files and environment variables, opens no connection and changes nothing. now is held against
// certificates. The findings are sorted by file and line.
func (c *Config) Check(now time.Time) []Finding {
	k := &checker{c: c, now: now}
	k.essentials()
	k.database()
	k.configurationFiles()
	k.rootKey()
	k.listeners()
	for i := range c.Channels {
		k.channel(&c.Channels[i])
	}
	k.retention()
	k.people()
	slices.SortStableFunc(k.findings, func(a, b Finding) int { return byPlace(a.Problem, b.Problem) })
	return k.findings
}

func (k *checker) add(level Level, key, what, next string) {
	p := k.c.Where(key)
	k.findings = append(k.findings, Finding{level, Problem{File: p.File, Line: p.Line, Column: p.Column, Key: key, What: what, Next: next}})
}

func (k *checker) essentials() {
	if k.c.Organisation == "" {
		k.add(Error, "organisation", "is not given", "add organisation: NAME; it is part of every stored message and cannot be changed later")
	}
	if k.c.Keys.Root.Kind == "" {
		k.add(Error, "keys.root", "is not given: without a root key nothing can be sealed, and nothing is taken", `add keys: {root: "file:keys/root"}, best on a device of its own`)
	}
	if len(k.c.Channels) == 0 {
		k.add(Warning, "channels", "there are none: nothing is taken and nothing delivered", "add one, here or in a file of lazaret.d")
	}
	if a := string(k.c.Listen.Metrics); a != "" && !loopback(a) {
		k.add(Warning, "listen.metrics", "serves metrics without TLS or sign-in on an address that is not loopback", "let a firewall admit the monitoring network alone, or listen on 127.0.0.1")
	}
}

func (k *checker) database() {
	d := &k.c.Database
	key := "database"
	if k.c.given("database.password") {
		key = "database.password"
	}
	k.secret(key, d.Password, "DATABASE_PASSWORD")
	remote, mode := d.remote()
	if !remote {
		return
	}
	switch mode {
	case "verify-full":
	case "verify-ca":
		k.add(Warning, "database", "checks who signed PostgreSQL's certificate, but not that it is this server's (sslmode verify-ca)", "write sslmode=verify-full")
	case "require":
		k.add(Warning, "database", "encrypts the way to PostgreSQL, but does not check who answers (sslmode require)", "write sslmode=verify-full&sslrootcert=PATH")
	default:
		k.add(Error, "database", "reaches PostgreSQL on another machine without TLS being demanded", "write ?sslmode=verify-full&sslrootcert=PATH behind the database's name")
	}
}

// secret looks at one secret: is it a reference, and does it lead anywhere.
func (k *checker) secret(key string, s Secret, env string) {
	if s.IsZero() {
		return
	}
	if s.Clear() {
		k.add(Warning, key, "is a secret in the clear: whoever may read the file, a backup or a repository of it has it",
			"put it into a file of mode 0600 and write file:PATH here, or write env:"+env+"; then have a new one issued")
		return
	}
	if _, err := s.Resolve(); err != nil {
		k.add(Error, key, "cannot be resolved: "+err.Error(), "provide what "+s.Reference()+" names")
	}
	if path := s.path(); path != "" {
		k.private(key, path)
	}
}

// listeners finds two listeners that cannot both have their address.
func (k *checker) listeners() {
	type listener struct{ key, address string }
	var all []listener
	for _, ch := range k.c.Channels {
		if m := ch.Source.MLLP; m != nil && ch.Enabled {
			all = append(all, listener{"channels." + ch.Name + ".source.mllp.listen", string(m.Listen)})
		}
	}
	if a := string(k.c.Listen.Metrics); a != "" {
		all = append(all, listener{"listen.metrics", a})
	}
	for i, b := range all {
		for _, a := range all[:i] {
			if collide(a.address, b.address) {
				k.add(Error, b.key, fmt.Sprintf("listens where %s listens already, at %s", a.key, k.c.Where(a.key)), "give each its own port, or its own address")
				break
			}
		}
	}
}

// collide says whether two listening addresses exclude each other.
func collide(a, b string) bool {
	hostA, portA, okA := splitAddress(a)
	hostB, portB, okB := splitAddress(b)
	if !okA || !okB || portA != portB || portA == 0 {
		return false
	}
	if everywhere(hostA) || everywhere(hostB) {
		return true
	}
	ipA, ipB := hostIP(hostA), hostIP(hostB)
	if ipA.IsValid() && ipB.IsValid() {
		return ipA == ipB
	}
	return strings.EqualFold(hostA, hostB)
}

func everywhere(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.Unmap().IsUnspecified()
}

func hostIP(host string) netip.Addr {
	if strings.EqualFold(host, "localhost") {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return ip.Unmap()
}

func (k *checker) channel(ch *Channel) {
	key := "channels." + ch.Name
	if !ch.Enabled {
		defer k.soften(len(k.findings))
	}
	if m := ch.Source.MLLP; m != nil {
		k.plaintext(key+".source.mllp", "listen", string(m.Listen), m.TLS != nil, m.Plaintext)
		if m.TLS != nil {
			k.serverTLS(key+".source.mllp.tls", m.TLS)
		}
		if !loopback(string(m.Listen)) && len(m.Allow) == 0 && (m.TLS == nil || m.TLS.Clients == "") {
			k.add(Warning, key+".source.mllp", "takes messages from anyone who reaches its address: it asks for no certificate and allows every address",
				"add tls.clients (the authorities of your senders' certificates), or allow: [RANGE]")
		}
		if ch.Admit.MaxSize > m.MaxMessage {
			k.add(Warning, key+".admit.max_size", "is more than source.mllp.max_message, beyond which nothing is read", "raise source.mllp.max_message, or lower this")
		}
	}
	if len(ch.Destinations) == 0 {
		k.add(Warning, key, "has no destination: its messages are kept and go nowhere", "add one to destinations")
	}
	for i := range ch.Destinations {
		k.destination(joinKey(key+".destinations", ch.Destinations[i].Name), &ch.Destinations[i])
	}
}

// soften makes warnings of the errors found from here on: they are of a part that is switched off and keep nothing from starting.
func (k *checker) soften(from int) {
	for i := range k.findings[from:] {
		k.findings[from+i].Level = Warning
	}
}

func (k *checker) destination(key string, d *Destination) {
	if !d.Enabled {
		defer k.soften(len(k.findings))
	}
	if m := d.MLLP; m != nil {
		k.plaintext(key+".mllp", "address", string(m.Address), m.TLS != nil, m.Plaintext)
		if m.TLS != nil {
			k.clientTLS(key+".mllp.tls", m.TLS)
		}
		if d.Enabled {
			k.loop(key+".mllp.address", string(m.Address))
		}
	}
	for i, s := range d.Steps {
		if s.Map == nil {
			continue
		}
		if _, ok := k.c.Tables[s.Map.Table]; !ok {
			step := fmt.Sprintf("%s.steps[%d].map.table", key, i+1)
			k.add(Error, step, "names a table that there is not", k.tableHint(s.Map.Table))
		}
	}
}

func (k *checker) tableHint(name string) string {
	best, distance := "", max(2, len(name)/2)
	for have := range k.c.Tables {
		if d := editDistance(name, have); d < distance || d == distance && have < best {
			best, distance = have, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	return "add it under tables"
}

// loop warns of a destination on this machine that is one of our own sources.
func (k *checker) loop(key, address string) {
	if !loopback(address) {
		return
	}
	for _, ch := range k.c.Channels {
		if m := ch.Source.MLLP; m != nil && ch.Enabled && collide(address, string(m.Listen)) {
			k.add(Warning, key, "is the source of channel "+ch.Name+" of this same configuration", "make sure that messages do not go round in a circle")
		}
	}
}

// plaintext holds that MLLP leaves this machine only encrypted, or with a reason.
func (k *checker) plaintext(key, name, address string, tls bool, p *Plaintext) {
	switch {
	case tls && p != nil:
		k.add(Warning, key+".plaintext", "is accepted, but this connection has TLS", "remove plaintext")
	case tls || loopback(address):
	case p != nil:
		k.add(Warning, key+".plaintext", "messages cross the network readable by anyone on the way; accepted, because: "+oneLine(p.Accepted), "give it tls as soon as the other side can")
	default:
		k.add(Error, joinKey(key, name), "is plain MLLP on an address that is not loopback: messages would cross the network readable by anyone on the way",
			`add tls, or accept it with a reason: plaintext: {accepted: "WHY"}`)
	}
}

func oneLine(s string) string { return printable(strings.Join(strings.Fields(s), " ")) }

// people reports the blocks that are read and understood, but of which nothing acts yet.
func (k *checker) people() {
	const what = "is read and understood, but not yet in force: "
	if k.c.Security.MFA != nil {
		k.add(Warning, "security.mfa", what+"there are no accounts yet, so nobody signs in, with or without a second factor", "keep it; it takes effect when accounts come")
	}
	for name, p := range k.c.OAuth2.Providers {
		key := "oauth2.providers." + name
		k.add(Warning, key, what+"there is no single sign-on yet", "keep it; it takes effect when accounts come")
		k.secret(key+".client_secret", p.ClientSecret, strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(name))+"_CLIENT_SECRET")
	}
	for name := range k.c.SecurityScans {
		k.add(Warning, "security_scans."+name, what+"Lazaret runs no scans yet", "keep it, and run the tool by other means until then")
	}
}
