// Package config reads Lazaret's configuration files into typed settings.
//
// A configuration is one FILE and, beside it, the YAML and JSON files of a directory lazaret.d, merged: mappings are
// joined, lists whose members have names (channels) are joined by name, and the same key or name twice is an error that
// names both places. YAML is read by its 1.2 core rules, JSON (RFC 8259) by its own parser, so that each has true lines.
//
// Load reports everything it finds wrong in one [Errors], each [Problem] with file, line, key, and what to do next. It
// refuses what cannot be understood: unknown keys, wrong types, values out of range, keys given twice, aliases that
// multiply, files over 4 MiB. What is understood but unsafe or not yet in force is the matter of [Config.Check], whose
// findings name the same places.
//
// Neither an error nor a finding ever quotes a value that may be a secret, and a [Secret] shows itself to no printer,
// log or encoder. Filters, conditions and steps are kept as text with their place in the file ([Expression]); package
// transform compiles them. The package knows nothing of the rest of Lazaret.
package config

import (
	"path/filepath"
	"time"
)

// A Config is what the files say, with defaults filled in and relative paths made relative to the first file's folder.
type Config struct {
	Organisation  string           `key:"organisation" pattern:"name" doc:"The organisation whose messages these are. Part of every stored row and of every seal: it cannot be renamed later. Needed by the service."`
	Database      Database         `key:"database" doc:"Where messages, deliveries and the audit log lie: sqlite:PATH, postgres://USER@HOST/NAME, or {url: …, password: REFERENCE}. Not given: sqlite: and lazaret.db in the folder data."`
	Data          File             `key:"data" doc:"The folder for everything that Lazaret writes and for which no other place is given."`
	Keys          Keys             `key:"keys" doc:"The keys that seal content."`
	Log           Log              `key:"log" doc:"The program's own log, on standard error. It never holds message content."`
	Listen        Listen           `key:"listen" doc:"Addresses the program itself listens on, apart from the channels' sources."`
	Control       Control          `key:"control" doc:"How commands reach the running service."`
	Retention     Retention        `key:"retention" doc:"How long what is kept. Not given: everything, for good."`
	Tables        map[string]Table `key:"tables" names:"name" doc:"Code tables by name, for the step map."`
	Channels      []Channel        `key:"channels" doc:"The channels: each takes messages at one source and delivers them to any number of destinations."`
	Security      Security         `key:"security" doc:"Rules for people who sign in."`
	OAuth2        OAuth2           `key:"oauth2" doc:"Single sign-on."`
	SecurityScans map[string]Scan  `key:"security_scans" names:"name" doc:"Scans by name: which tool looks for what, and when."`

	dir   string
	files []string
	at    map[string]Position
}

// Log shapes the program's own log.
type Log struct {
	Level  string `key:"level" enum:"debug,info,warn,error" doc:"The least level that is written."`
	Format string `key:"format" enum:"text,json" doc:"One line of key=value pairs, or one JSON object a line."`
}

// Listen holds the program's own addresses.
type Listen struct {
	Metrics Address `key:"metrics" doc:"HOST:PORT for metrics (Prometheus), health and readiness, over HTTP. Not given: not served."`
}

// Control says how commands reach the running service.
type Control struct {
	Socket File `key:"socket" doc:"The local socket through which commands reach the service. Only its owner may open it. Not given: control.sock in the folder data."`
}

// A Table translates codes. A value that it does not hold becomes Default where there is one.
type Table struct {
	Values  map[string]Text `key:"values" required:"true" doc:"The code as it comes, and what it becomes."`
	Default *Text           `key:"default" doc:"What a code that the table does not hold becomes. Not given: the step decides (missing)."`
	Trim    bool            `key:"trim" doc:"Cut white space around the code before it is looked up."`
	Case    string          `key:"case" enum:"exact,ignore" doc:"ignore: the letters' case does not matter for the look-up."`
	At      Position        `json:"-"`
}

func (c *Config) setDefaults() {
	c.Data = "data"
	c.Log = Log{Level: "info", Format: "text"}
	c.Keys.Store, c.Keys.Grace = "keys/data", time.Hour
}

func (t *Table) setDefaults() { t.Case = "exact" }

// settle fills the defaults that depend on other settings, and makes paths relative to the configuration's folder.
func (c *Config) settle() {
	if c.Database.Kind == "" {
		c.Database.Kind, c.Database.Path = "sqlite", string(c.Data)+"/lazaret.db"
	}
	if c.Control.Socket == "" {
		c.Control.Socket = c.Data + "/control.sock"
	}
	for _, p := range []*File{&c.Data, &c.Keys.Store, &c.Control.Socket} {
		p.under(c.dir)
	}
	if c.Database.Kind == "sqlite" {
		path := File(c.Database.Path)
		path.under(c.dir)
		c.Database.Path = string(path)
	}
	c.Database.Password.dir = c.dir
	c.Keys.settle(c.dir)
	for i := range c.Channels {
		c.Channels[i].settle(c.dir)
	}
	for name, p := range c.OAuth2.Providers {
		p.ClientSecret.dir = c.dir
		c.OAuth2.Providers[name] = p
	}
}

// Dir is the folder of the first file: relative paths start here.
func (c *Config) Dir() string { return c.dir }

// Files are the files that were read, in the order of reading.
func (c *Config) Files() []string { return append([]string(nil), c.files...) }

// Where says where a key such as "channels.adt.source.mllp.listen" was written. For a key that was not, it is the place
// of the nearest key around it, and for none the start of the first file.
func (c *Config) Where(key string) Position {
	for key != "" {
		if p, ok := c.at[key]; ok {
			return p
		}
		key = parentKey(key)
	}
	if p, ok := c.at[""]; ok {
		return p
	}
	return Position{}
}

// given says whether the files hold this key.
func (c *Config) given(key string) bool { _, ok := c.at[key]; return ok }

func (f *File) under(dir string) {
	if *f != "" && !filepath.IsAbs(string(*f)) {
		*f = File(filepath.Join(dir, string(*f)))
	}
}

// soon is how long before its end a certificate becomes a finding.
const soon = 30 * 24 * time.Hour
