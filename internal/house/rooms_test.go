package house

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A room is one line of the design's table: what a package of ours may import of ours, and why no more.
type room struct {
	imports []string // below the module; group names are expanded
	std     bool     // nothing from outside but the standard library (and golang.org/x/text, where hl7 decodes)
	aid     bool     // for tests: not even the command may import it
	why     string
}

// groups are names for several packages. Arrows run one way: cmd → api, console, control → capabilities → seal, audit → db.
var groups = map[string][]string{
	"hl7...": {"hl7", "hl7/mllp", "hl7/dictionary"},
	"capabilities": {
		"hl7", "hl7/mllp", "hl7/dictionary", "internal/config", "internal/db", "internal/seal", "internal/audit",
		"internal/identity", "internal/access", "internal/transform", "internal/script", "internal/engine", "internal/fhir",
		"internal/network", "internal/scan", "internal/compliance", "internal/retention", "internal/backup",
		"internal/notify", "internal/alert",
	},
	"record": {"internal/db", "internal/seal", "internal/audit"},
}

// rooms is the table of section 3 of the design. Rooms that are planned stand in it already; one that stands in no line
// is a question that somebody has to answer here first.
var rooms = map[string]room{
	"cmd/lazaret": {imports: []string{"*"}, why: "it wires everything and nothing imports it"},

	"hl7":                     {std: true, why: "public library: others take it without the engine"},
	"hl7/mllp":                {imports: []string{"hl7"}, std: true, why: "public library: a transport, content is opaque to it"},
	"hl7/dictionary":          {imports: []string{"hl7"}, std: true, why: "public library: names and structures, loaded when asked"},
	"hl7/dictionary/generate": {imports: []string{"hl7/dictionary"}, std: true, why: "makes the embedded file; runs at our desk only"},

	"internal/config":     {why: "stands alone: text in, typed settings out; cmd hands the pieces on"},
	"internal/db":         {why: "the lowest floor: it knows databases and nothing of what they keep"},
	"internal/db/dbtest":  {imports: []string{"internal/db"}, aid: true, why: "opens databases for tests, one suite for both engines"},
	"internal/seal":       {imports: []string{"internal/db"}, why: "keys and sealed bytes; it records its acts through an interface it declares"},
	"internal/kms":        {why: "root keys elsewhere; seal asks them through its own interface and knows no service"},
	"internal/audit":      {imports: []string{"internal/db", "internal/seal"}, why: "everybody writes to it, so it may know nobody"},
	"internal/identity":   {imports: []string{"record"}, why: "who it is; what they may is package access"},
	"internal/access":     {imports: []string{"hl7"}, std: true, why: "pure: policy in, decision out; testable without any store"},
	"internal/transform":  {imports: []string{"hl7"}, why: "pure: message in, message out"},
	"internal/script":     {imports: []string{"hl7"}, why: "the sandbox must not be able to reach anything"},
	"internal/engine":     {imports: []string{"hl7", "record", "internal/access", "internal/transform"}, why: "declares what it needs of transports and scripts; never imports one"},
	"internal/fhir":       {imports: []string{"hl7", "record", "internal/access"}, why: "a store and a mapping beside the engine, not below it"},
	"internal/network":    {why: "intent to plan to files: no store needed"},
	"internal/scan":       {imports: []string{"internal/db", "internal/audit"}, why: "findings hold no message content, so no keys"},
	"internal/compliance": {why: "asks the others through interfaces it declares, so that a check can be tested without them"},
	"internal/retention":  {imports: []string{"record"}, why: "disposal is done by interface: each room disposes of its own"},
	"internal/backup":     {imports: []string{"record"}, why: "copies what is stored, without knowing what it means"},
	"internal/notify":     {imports: []string{"record"}, why: "out to people; queued mail is sealed"},
	"internal/alert":      {imports: []string{"record"}, why: "conditions; who is told is wired in cmd"},

	"internal/connect/mllp": {imports: []string{"internal/engine", "hl7", "hl7/mllp"}, why: "a transport knows the engine; the engine no transport"},
	"internal/connect/http": {imports: []string{"internal/engine", "hl7"}, why: "a transport, as above"},
	"internal/connect/fhir": {imports: []string{"internal/engine", "hl7", "internal/fhir"}, why: "a transport, as above"},
	"internal/connect/file": {imports: []string{"internal/engine", "hl7"}, why: "a transport, as above"},
	"internal/connect/sftp": {imports: []string{"internal/engine", "hl7"}, why: "a transport, as above"},
	"internal/connect/sql":  {imports: []string{"internal/engine", "hl7"}, why: "a transport, as above"},
	"internal/connect/smtp": {imports: []string{"internal/engine", "hl7"}, why: "a transport, as above"},

	"internal/api":     {imports: []string{"capabilities"}, why: "shows what the capabilities do; decides nothing itself"},
	"internal/console": {imports: []string{"capabilities"}, why: "as api, for people"},
	"internal/control": {imports: []string{"capabilities"}, why: "commands to the running server over a Unix socket, until there are accounts"},

	"internal/hospital": {std: true, why: "a sender that shares code with the engine would share its mistakes"},
	"internal/bench":    {imports: []string{"capabilities", "internal/connect/mllp", "internal/hospital"}, why: "measures from outside; nothing but cmd imports it"},
	"internal/faults":   {imports: []string{"capabilities", "internal/connect/mllp", "internal/hospital", "internal/db/dbtest"}, aid: true, why: "breaks disks and lines under the engine, for tests"},
	"internal/house":    {std: true, aid: true, why: "looks at the others, uses none"},
	"interop":           {aid: true, imports: []string{"hl7...", "internal/hospital"}, why: "foreign peers against what we ship"},
	"tools/testsum":     {std: true, why: "counts tests; must build before anything else does"},
}

// imports holds the table. Tests may import more; what is shipped may not, under any build tag.
func imports(_ *testing.T, tr *tree) (findings []string) {
	for dir, files := range tr.packages() {
		r, known := rooms[dir]
		if !known {
			findings = append(findings, fmt.Sprintf("%s: the table of rooms does not know this package; add it in internal/house, with its reason", dir))
			continue
		}
		for _, f := range files {
			if f.test {
				continue
			}
			for _, spec := range f.ast.Imports {
				p, _ := strconv.Unquote(spec.Path.Value)
				switch sub, ours := strings.CutPrefix(p, module+"/"); {
				case ours && !r.may(sub):
					findings = append(findings, fmt.Sprintf("%s: %s may not import %s (%s)", tr.at(spec.Pos()), dir, sub, r.why))
				case !ours && r.std && outside(p) && !(strings.HasPrefix(dir, "hl7") && strings.HasPrefix(p, "golang.org/x/text/")):
					findings = append(findings, fmt.Sprintf("%s: %s may not import %s: standard library only (%s)", tr.at(spec.Pos()), dir, p, r.why))
				}
			}
		}
	}
	slices.Sort(findings)
	return findings
}

func (r room) may(sub string) bool {
	for _, i := range r.imports {
		if i == "*" && !rooms[sub].aid || i == sub || slices.Contains(groups[i], sub) {
			return true
		}
	}
	return false
}

// outside: the first element of an import path of the standard library has no dot.
func outside(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return strings.Contains(first, ".")
}

// A door is a module of somebody else: which rooms may use it in what is shipped, and why we have it at all. Tests may use
// any of the table. golang.org/x/... is maintained by the Go team and counts as half of home.
type door struct {
	module string
	rooms  []string // nil: tests only
	why    string
}

var anywhere = []string{"*"}

var allDoors = []door{
	{"github.com/jackc/pgx", []string{"internal/db", "internal/db/dbtest"}, "PostgreSQL; both databases stand behind one small door, so that one suite can hold them"},
	{"github.com/ncruces/go-sqlite3", []string{"internal/db", "internal/faults"}, "SQLite without cgo; behind the same door, but for the tests' disk that fails"},
	{"modernc.org/sqlite", []string{"internal/db"}, "SQLite without cgo; behind the same door, and never two drivers in one binary"},
	{"zombiezen.com/go/sqlite", []string{"internal/db"}, "bound statements over modernc.org/sqlite; behind the same door"},
	{"go.yaml.in/yaml", []string{"internal/config"}, "all errors at once with line and column; they quote values, so one room strips them"},
	{"github.com/aws/aws-sdk-go-v2", []string{"internal/kms"}, "AWS KMS: signatures and identities of AWS are nothing to write anew"},
	{"github.com/aws/smithy-go", []string{"internal/kms"}, "the errors of the SDK above"},
	{"golang.org/x/crypto", []string{"internal/seal"}, "Argon2id, for a root key under a passphrase"},
	{"github.com/VictoriaMetrics/metrics", anywhere, "Prometheus text in three modules instead of nine, in a set that we own"},
	{"github.com/mattn/go-isatty", []string{"cmd/lazaret"}, "is somebody looking? progress and colour only then"},
	{"golang.org/x/text", []string{"hl7"}, "character sets of MSH-18; everybody else sees UTF-8"},
	{"golang.org/x/mod", []string{"internal/audit"}, "the Merkle tree that sum.golang.org runs on"},
	{"golang.org/x/sync", anywhere, "errgroup: who starts a goroutine waits for it"},
	{"golang.org/x/sys", anywhere, "system calls that std does not have"},
	{"golang.org/x/time", anywhere, "rate limits"},
	{"filippo.io/age", []string{"internal/backup", "internal/seal"}, "to recipients whose key is elsewhere, in a format that others read too"},
	{"github.com/minio/minio-go", []string{"internal/backup"}, "backups to an S3-compatible store, in a third of the official client's size"},
	{"github.com/klauspost/compress", []string{"internal/backup"}, "zstd, which comes with minio-go and which any rescue system can read"},
	{"github.com/johannesboyne/gofakes3", nil, "an S3 store in the test's own process"},
	{"github.com/santhosh-tekuri/jsonschema", nil, "our schema is checked by another's reading of the standard"},
	{"golang.org/x/tools", nil, "txtar: a script test with its files in one"},
	{"go.uber.org/goleak", nil, "no goroutine left behind"},
	{"pgregory.net/rapid", nil, "properties"},
	{"rsc.io/script", nil, "tests of the command, a script a behaviour"},
	{"github.com/google/go-cmp", nil, "differences that can be read"},
}

// doors: every module has a reason, and stays in the rooms that were made for it.
func doors(t *testing.T, tr *tree) (findings []string) {
	for _, f := range tr.code {
		for _, spec := range f.ast.Imports {
			p, _ := strconv.Unquote(spec.Path.Value)
			if !outside(p) || p == module || strings.HasPrefix(p, module+"/") {
				continue
			}
			k := slices.IndexFunc(allDoors, func(d door) bool { return p == d.module || strings.HasPrefix(p, d.module+"/") })
			if k < 0 {
				findings = append(findings, fmt.Sprintf("%s: %s is a new module; add it to the table of doors in internal/house, with its reason", tr.at(spec.Pos()), p))
				continue
			}
			d := allDoors[k]
			if !f.test && !slices.Contains(d.rooms, "*") && !slices.Contains(d.rooms, f.dir) {
				findings = append(findings, fmt.Sprintf("%s: %s may be imported only by %q (%s)", tr.at(spec.Pos()), d.module, d.rooms, d.why))
			}
		}
	}
	return findings
}

// TestRoomsAreSound holds the table itself: real names, a reason each, and arrows that cannot form a circle.
func TestRoomsAreSound(t *testing.T) {
	state := map[string]int{} // 1: on the way, 2: done
	var visit func(dir string, from []string)
	visit = func(dir string, from []string) {
		if state[dir] == 1 {
			t.Errorf("the table allows a circle: %s", strings.Join(append(from, dir), " → "))
			return
		}
		if state[dir] == 2 {
			return
		}
		state[dir] = 1
		for _, i := range rooms[dir].imports {
			for _, sub := range expand(i) {
				if sub != dir {
					visit(sub, append(slices.Clone(from), dir))
				}
			}
		}
		state[dir] = 2
	}
	for _, dir := range slices.Sorted(maps.Keys(rooms)) {
		r := rooms[dir]
		if r.why == "" {
			t.Errorf("%s: no reason", dir)
		}
		for _, i := range r.imports {
			for _, sub := range expand(i) {
				if _, ok := rooms[sub]; !ok {
					t.Errorf("%s: may import %s, which the table does not know", dir, sub)
				}
				if path.Dir(sub) == "cmd" {
					t.Errorf("%s: may import %s; nothing imports the command", dir, sub)
				}
			}
		}
		visit(dir, nil)
	}
}

func expand(name string) []string {
	switch g, ok := groups[name]; {
	case ok:
		return g
	case name == "*":
		return nil // only the command; nothing may import it
	}
	return []string{name}
}
