package config_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/lazaret-health/lazaret/internal/config"
)

// write lays files into a new folder and gives its path.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// load reads lazaret.yaml with this text.
func load(t *testing.T, text string) (*config.Config, string) {
	t.Helper()
	dir := write(t, map[string]string{"lazaret.yaml": text})
	c, err := config.Load(filepath.Join(dir, "lazaret.yaml"))
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	return c, dir
}

// site is an invented hospital's configuration with every kind of value.
const site = `
organisation: st-mary
database: sqlite:data/lazaret.db
keys: {root: "file:keys/root"}
log: {level: debug, format: json}
listen: {metrics: "127.0.0.1:9090"}
tables:
  patient-class:
    values: {I: inpatient, O: outpatient, 1: one, N: no}
    default: unknown
    trim: true
    case: ignore
channels:
  - name: adt
    description: Admissions
    source:
      mllp:
        listen: ":2575"
        tls: {certificate: file:certs/me.pem, key: file:certs/me.key, clients: file:certs/peers.pem, min_version: 1.3, names: [his.st-mary.example]}
        allow: [192.168.100.0/24, 10.1.2.3]
        max_message: 4MiB
        idle_timeout: off
        read_timeout: 20s
        connections: 16
        charset: 8859/1
      unacceptable: AR
    admit:
      types: ["ADT^*", ORU^R01^ORU_R01]
      versions: [2.3, 2.5.1]
      processing_ids: [P, T]
      rate: {messages: 200, per: 1s}
      duplicates: 7d
    destinations:
      - name: laboratory
        mllp: {address: "lab.st-mary.example:2575", tls: {ca: certs/lab-ca.pem}}
        filter: 'MSH-9.2 in ["A01", "A04"]'
        steps:
          - set: {PID-3.4: STMARY, PID-20: {expr: 'PID-3.1'}, PID-19: {null: true}, PV1-3: {raw: "W^1"}}
          - map: {field: PV1-2, table: patient-class, missing: keep}
          - for: OBX
            when: OBX-11 == "X"
            delete: OBX
          - delete: [PID-19, NK1]
          - copy: {from: PID-2, to: PID-4}
          - move: {from: PID-2, to: PID-4}
          - replace: {field: PID-13, pattern: '[^0-9]', with: ""}
        order: patient
        window: 16
        retry: {first: 2s, max: 1m, jitter: 0.5, give_up_after: 10 attempts}
        on_reject: skip
        on_error: skip
`

func TestEveryKindOfValueIsRead(t *testing.T) {
	c, dir := load(t, site)
	in := func(p string) config.File { return config.File(filepath.Join(dir, p)) }
	if got, want := c.Database.String(), "sqlite:"+string(in("data/lazaret.db")); got != want {
		t.Errorf("database %q, want %q", got, want)
	}
	if c.Data != in("data") || c.Keys.Root.File() != string(in("keys/root")) || c.Keys.Store != in("keys/data") || c.Control.Socket != in("data/control.sock") {
		t.Errorf("paths: data %s, root %s, store %s, socket %s", c.Data, c.Keys.Root, c.Keys.Store, c.Control.Socket)
	}
	unknown := config.Text("unknown")
	table := config.Table{
		Values:  map[string]config.Text{"I": "inpatient", "O": "outpatient", "1": "one", "N": "no"},
		Default: &unknown, Trim: true, Case: "ignore",
	}
	got := c.Tables["patient-class"]
	got.At = config.Position{}
	if d := cmp.Diff(table, got); d != "" {
		t.Errorf("table (-want +got):\n%s", d)
	}
	ch := c.Channels[0]
	m := ch.Source.MLLP
	want := config.MLLPSource{
		Listen: ":2575",
		TLS: &config.ServerTLS{
			Certificate: in("certs/me.pem"), Key: in("certs/me.key"), Clients: in("certs/peers.pem"), MinVersion: "1.3",
			Names: []config.Text{"his.st-mary.example"},
		},
		Allow:      []netip.Prefix{netip.MustParsePrefix("192.168.100.0/24"), netip.MustParsePrefix("10.1.2.3/32")},
		MaxMessage: 4 << 20, ReadTimeout: 20 * time.Second, WriteTimeout: 30 * time.Second, KeepAlive: 15 * time.Second,
		Connections: 16, ConnectionsPerPeer: 16, Charset: "8859/1",
	}
	if d := cmp.Diff(want, *m, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Errorf("source (-want +got):\n%s", d)
	}
	admit := config.Admit{
		Types: []config.Text{"ADT^*", "ORU^R01^ORU_R01"}, Versions: []config.Text{"2.3", "2.5.1"}, ProcessingIDs: []config.Text{"P", "T"},
		MaxSize: 4 << 20, Rate: &config.Rate{Messages: 200, Per: time.Second, Burst: 200}, Duplicates: 7 * 24 * time.Hour, RejectedQuota: 64 << 20,
	}
	if d := cmp.Diff(admit, ch.Admit); d != "" {
		t.Errorf("admit (-want +got):\n%s", d)
	}
	dest := ch.Destinations[0]
	if dest.Order != "patient" || dest.Window != 16 || dest.OnReject != "skip" || dest.OnError != "skip" || !dest.Enabled {
		t.Errorf("destination: %+v", dest)
	}
	retry := config.Retry{First: 2 * time.Second, Max: time.Minute, Jitter: 0.5, GiveUpAfter: config.GiveUp{Attempts: 10}}
	if d := cmp.Diff(retry, dest.Retry); d != "" {
		t.Errorf("retry (-want +got):\n%s", d)
	}
	if len(dest.Steps) != 7 {
		t.Fatalf("%d steps, want 7", len(dest.Steps))
	}
	set := dest.Steps[0].Set
	if len(set) != 4 || set[0].Field != "PID-3.4" || set[0].Value != "STMARY" || set[1].Expr.Text != "PID-3.1" || !set[2].Null || set[3].Raw != "W^1" {
		t.Errorf("set: %+v", set)
	}
	if s := dest.Steps[2]; s.For != "OBX" || s.When.Text != `OBX-11 == "X"` || cmp.Diff(s.Delete, config.Paths{"OBX"}) != "" {
		t.Errorf("delete for: %+v", s)
	}
}

func TestDefaults(t *testing.T) {
	c, _ := load(t, "organisation: st-mary\nchannels: [{name: a, source: {mllp: {listen: \":1\"}}, destinations: [{name: b, mllp: {address: \"h:1\"}}]}]\n")
	ch := c.Channels[0]
	m, d := ch.Source.MLLP, ch.Destinations[0]
	if !ch.Enabled || ch.Source.Answer != "accepted" || ch.Source.Unacceptable != "AE" || m.MaxMessage != 16<<20 || m.IdleTimeout != 30*time.Minute ||
		m.Connections != 256 || m.ConnectionsPerPeer != 32 || ch.Admit.Duplicates != 24*time.Hour || ch.Admit.RejectedQuota != 64<<20 || ch.Admit.MaxSize != 16<<20 {
		t.Errorf("channel: %+v\nsource: %+v", ch, m)
	}
	if d.Order != "strict" || d.Window != 8 || d.OnReject != "hold" || d.OnError != "hold" || d.Retry.First != time.Second ||
		d.Retry.Max != 5*time.Minute || d.Retry.GiveUpAfter != (config.GiveUp{}) || d.MLLP.AnswerTimeout != 30*time.Second {
		t.Errorf("destination: %+v", d)
	}
	if c.Log.Level != "info" || c.Log.Format != "text" || c.Listen.Metrics != "" {
		t.Errorf("log %+v, listen %+v", c.Log, c.Listen)
	}
}

// problems loads files that are wrong and gives their problems with the folder's name cut off.
func problems(t *testing.T, files map[string]string) config.Errors {
	t.Helper()
	dir := write(t, files)
	first := "lazaret.yaml"
	if _, ok := files[first]; !ok {
		first = "lazaret.json"
	}
	_, err := config.Load(filepath.Join(dir, first))
	var all config.Errors
	if !errors.As(err, &all) {
		t.Fatalf("got %v, want config.Errors", err)
	}
	for i := range all {
		all[i].File = strings.TrimPrefix(all[i].File, dir+"/")
		all[i].What = strings.ReplaceAll(all[i].What, dir+"/", "")
	}
	return all
}

func TestWhatIsWrongIsNamedWithItsPlace(t *testing.T) {
	one := func(s string) map[string]string { return map[string]string{"lazaret.yaml": s} }
	channel := func(s string) map[string]string {
		return one("channels:\n  - name: adt\n    source: {mllp: {listen: \":2575\"}}\n    " + s + "\n")
	}
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string // FILE:LINE: KEY: WHAT, and behind a bar what to do
	}{
		{"an unknown key, with the one that is meant", one("organization: x\n"),
			"lazaret.yaml:1: organization: is not a key that is known here | did you mean organisation?"},
		{"an unknown key that belongs elsewhere", channel("retry: {first: 1s}"),
			"lazaret.yaml:4: channels.adt.retry: is not a key that is known here | it belongs under channels.destinations"},
		{"organisations, which come later", one("organisations: []\n"),
			"lazaret.yaml:1: organisations: is not a key that is known here | did you mean organisation?"},
		{"a key given twice", one("organisation: a\nlog: {level: info}\norganisation: b\n"),
			"lazaret.yaml:3: organisation: is given twice, first at lazaret.yaml:1 | remove one of them"},
		{"a channel's name given twice", one("channels:\n- {name: a, source: {mllp: {listen: ':1'}}}\n- {name: a, source: {mllp: {listen: ':2'}}}\n"),
			"lazaret.yaml:3: channels.a: has the name of another one, at lazaret.yaml:2 | rename or remove one of them"},
		{"a name given twice in two files", map[string]string{
			"lazaret.yaml":       "channels:\n- {name: a, source: {mllp: {listen: ':1'}}}\n",
			"lazaret.d/b.json":   "{\"channels\": [\n {\"name\": \"a\", \"source\": {\"mllp\": {\"listen\": \":2\"}}}]}",
			"lazaret.d/note.txt": "not read",
		}, "lazaret.d/b.json:2: channels.a: has the name of another one, at lazaret.yaml:2 | rename or remove one of them"},
		{"a key given in two files", map[string]string{
			"lazaret.yaml":    "log:\n  level: info\n",
			"lazaret.d/b.yml": "log:\n\n  level: debug\n  format: json\n",
		}, "lazaret.d/b.yml:3: log.level: is given twice, first at lazaret.yaml:2 | remove one of them"},
		{"an answer mode that comes later", one("channels:\n- name: a\n  source:\n    mllp: {listen: ':1'}\n    answer: delivered\n"),
			"lazaret.yaml:5: channels.a.source.answer: is a value that does not exist yet | for now write accepted"},
		{"a word that is none", channel("destinations: [{name: b, mllp: {address: 'h:1'}, order: random}]"),
			"lazaret.yaml:4: channels.adt.destinations.b.order: is not one of its values | write strict, patient or none"},
		{"a number out of range", channel("destinations: [{name: b, mllp: {address: 'h:1'}, window: 65}]"),
			"lazaret.yaml:4: channels.adt.destinations.b.window: is out of range | write a number from 1 to 64"},
		{"a text where a truth is asked", channel("enabled: yes"),
			"lazaret.yaml:4: channels.adt.enabled: is neither true nor false | write true or false, without quotes"},
		{"a missing source", one("channels:\n  - name: adt\n"),
			"lazaret.yaml:2: channels.adt: has no source | add it: Where its messages come from."},
		{"a time without a unit", channel("admit: {duplicates: 24}"),
			`lazaret.yaml:4: channels.adt.admit.duplicates: is not a time | write a time with its unit, such as "30s", "10m", "24h" or "7d", or off`},
		{"a size that is none", channel("admit: {max_size: -1}"),
			`lazaret.yaml:4: channels.adt.admit.max_size: is not a size | write a number with KiB, MiB or GiB, such as "16MiB"`},
		{"a range with bits behind its length", one("channels:\n- {name: a, source: {mllp: {listen: ':1', allow: [10.1.2.3/8]}}}\n"),
			"lazaret.yaml:2: channels.a.source.mllp.allow[1]: has bits set behind its length | write its first address before the slash, or the one address that is meant without a slash"},
		{"a step that does nothing", channel("destinations: [{name: b, mllp: {address: 'h:1'}, steps: [{for: OBX}]}]"),
			"lazaret.yaml:4: channels.adt.destinations.b.steps[1]: says nothing to do | give one of set, copy, move, delete, map, replace"},
		{"a step that does two things", channel("destinations: [{name: b, mllp: {address: 'h:1'}, steps: [{delete: NK1, set: {PID-3: x}}]}]"),
			"lazaret.yaml:4: channels.adt.destinations.b.steps[1]: says several things to do: set, delete | make each a step of its own"},
		{"a key without a value", one("organisation: x\nchannels:\n"),
			"lazaret.yaml:2: channels: has no value | give it one, or remove the key"},
		{"an empty reason", one("channels:\n- {name: a, source: {mllp: {listen: ':1', plaintext: {accepted: ''}}}}\n"),
			"lazaret.yaml:2: channels.a.source.mllp.plaintext.accepted: is empty | give it a value, or remove the key"},
		{"names of clients that nobody asks for a certificate", one("channels:\n- {name: a, source: {mllp: {listen: ':1', tls: {certificate: c, key: k, names: [x]}}}}\n"),
			"lazaret.yaml:2: channels.a.source.mllp.tls.names: asks for names, but no client has to show a certificate | add clients: file:PATH, the authorities that sign your clients' certificates"},
		{"a merged mapping", one("log: &l {level: info}\nkeys:\n  <<: *l\n"),
			"lazaret.yaml:3: keys: merges a mapping (<<), which is not read here | give the whole value as an alias (*name), or write the keys out"},
		{"two documents", one("organisation: x\n---\nlog: {}\n"),
			"lazaret.yaml: holds several documents (---) | put each into a file of its own in lazaret.d"},
		{"broken YAML", one("organisation: x\nlog: {level: info\n"),
			"lazaret.yaml:3: is not legible YAML: parsing a flow mapping, expected a comma or } | check the quotes, brackets and indentation around it"},
		{"broken JSON", map[string]string{"lazaret.json": "{\n \"organisation\": \"x\",\n \"log\": {\"level\" \"info\"}\n}"},
			"lazaret.json:3: is not legible JSON: invalid character … after object key | check the commas, quotes and brackets around it"},
		{"a JSON file that ends too early", map[string]string{"lazaret.json": "{\n \"organisation\": \"x\""},
			"lazaret.json:2: is not legible JSON: it ends too early | check the commas, quotes and brackets around it"},
		{"bytes that are not UTF-8", one("organisation: x\nlog: {level: \"\xff\"}\n"),
			"lazaret.yaml:2: is not legible YAML: invalid leading UTF-8 octet (value: 255) | save the file as UTF-8"},
		{"a list as a file", one("- a\n"),
			"lazaret.yaml:1: is not a mapping | a configuration file is KEY: VALUE, one below the other"},
		{"a key management service that there is not", one("keys: {root: 'elsewhere:lazaret'}\n"),
			"lazaret.yaml:1: keys.root: is no root key | write file:PATH, passphrase:env:NAME, credential:NAME, openbao:KEY, vault:KEY or awskms:ARN"},
		{"a transit engine without a way to sign in", one("keys: {transit: {address: 'https://bao.example'}}\n"),
			"lazaret.yaml:1: keys.transit: needs one way to sign in | give token, or role and secret"},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := problems(t, c.files)
			if got := all[0].Error() + " | " + all[0].Next; got != c.want || len(all) != 1 {
				t.Errorf("%d problems\n got %s\nwant %s", len(all), got, c.want)
			}
		})
	}
}

func TestAllProblemsComeAtOnceInOrder(t *testing.T) {
	all := problems(t, map[string]string{
		"lazaret.yaml":       "log: {level: loud}\norganisation: '-'\ndata: [x]\n",
		"lazaret.d/a.yaml":   "listen: {metrics: nowhere}\n",
		"lazaret.d/bad.json": "{",
	})
	var got []string
	for _, p := range all {
		got = append(got, p.Error())
	}
	want := []string{
		"lazaret.d/a.yaml:1: listen.metrics: is not an address to listen on",
		"lazaret.d/bad.json:1: is not legible JSON: it ends too early",
		"lazaret.yaml:1: log.level: is not one of its values",
		"lazaret.yaml:2: organisation: is not a name",
		"lazaret.yaml:3: data: is not a path",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
