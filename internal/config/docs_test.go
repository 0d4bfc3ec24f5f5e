package config_test

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/lazaret-health/lazaret/internal/config"
)

const docs = "../../docs/"

var update = flag.Bool("update", false, "write the reference of docs/configuration.md anew")

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The reference is made from the schema, which is made from the types: all three say the same.
func TestTheReferenceNamesEveryKeyAsItIs(t *testing.T) {
	const begin, end = "<!-- reference: made by go test ./internal/config -update -->\n", "<!-- end of the reference -->\n"
	path := docs + "configuration.md"
	text := read(t, path)
	head, rest, ok := strings.Cut(text, begin)
	if !ok {
		t.Fatalf("%s has no line %q", path, begin)
	}
	_, tail, ok := strings.Cut(rest, end)
	if !ok {
		t.Fatalf("%s has no line %q", path, end)
	}
	want := head + begin + reference(t) + end + tail
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := gocmp.Diff(want, text); d != "" {
		t.Errorf("%s is not what the schema says; run go test ./internal/config -update\n%s", path, d)
	}
}

// reference writes one table a part of the file, with key, kind, default, and what it is.
func reference(t *testing.T) string {
	var b strings.Builder
	part := ""
	keys := schemaKeys(t)
	for _, key := range slices.SortedFunc(maps.Keys(keys), func(a, b string) int {
		return cmp.Or(cmp.Compare(partOf(a), partOf(b)), cmp.Compare(a, b))
	}) {
		s := keys[key]
		if key == "$schema" || s["type"] == "object" && s["properties"] != nil && s["default"] == nil && !strings.Contains(key, ".") {
			continue
		}
		if p := partOf(key); p != part {
			part = p
			fmt.Fprintf(&b, "\n### `%s`\n\n| key | kind | default | what it is |\n|---|---|---|---|\n", part)
		}
		def := ""
		if s["required"] == "here" {
			def = "must be given"
		}
		if d, ok := s["default"]; ok {
			def = fmt.Sprintf("`%s`", number(d))
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", key, kind(s), def, strings.ReplaceAll(s["description"].(string), "|", `\|`))
	}
	return b.String() + "\n"
}

// partOf groups keys: the channels, which are many, by what is below them.
func partOf(key string) string {
	part, rest, _ := strings.Cut(key, ".")
	part = strings.TrimSuffix(part, "[]")
	if part != "channels" {
		return part
	}
	next, rest, deeper := strings.Cut(rest, ".")
	sub := strings.TrimSuffix(next, "[]")
	if sub == "destinations" && deeper {
		if third, _, _ := strings.Cut(rest, "."); third == "steps[]" {
			return "channels[].destinations[].steps[]"
		}
		return "channels[].destinations[]"
	}
	if deeper {
		return "channels[]." + sub
	}
	return "channels[]"
}

// number writes a number as people do, and anything else as it is.
func number(v any) string {
	if f, ok := v.(float64); ok {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

func kind(s map[string]any) string {
	if t, ok := s["title"].(string); ok {
		if p, _ := s["pattern"].(string); strings.HasPrefix(p, "^(off|") {
			t += ", or `off`"
		}
		return t
	}
	if e, ok := s["enum"].([]any); ok {
		var words []string
		for _, v := range e {
			if w, ok := v.(string); ok {
				words = append(words, "`"+w+"`")
			}
		}
		return strings.Join(words, ", ")
	}
	switch s["type"] {
	case "array":
		return "list of: " + kind(s["items"].(map[string]any))
	case "object":
		if s["additionalProperties"] != false {
			return "mapping of names"
		}
		return "mapping"
	case "boolean":
		return "`true`, `false`"
	case "integer", "number":
		if s["minimum"] != nil {
			return fmt.Sprintf("number, %s to %s", number(s["minimum"]), number(s["maximum"]))
		}
		return "number"
	}
	return "text"
}

// Each block of the documentation marked yaml or json loads, and the schema takes it.
func TestExamplesOfTheDocumentationLoad(t *testing.T) {
	s := compiled(t)
	fence := regexp.MustCompile("(?ms)^```(yaml|json)\n(.*?)^```$")
	n := 0
	for _, m := range fence.FindAllStringSubmatch(read(t, docs+"configuration.md"), -1) {
		n++
		name := "lazaret." + m[1]
		dir := write(t, map[string]string{name: m[2]})
		if _, err := config.Load(filepath.Join(dir, name)); err != nil {
			t.Errorf("%v\n%s", err, m[2])
		}
		v, err := generic([]byte(m[2]))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(v); err != nil {
			t.Errorf("%v\n%s", err, m[2])
		}
	}
	if n < 8 {
		t.Errorf("only %d examples found", n)
	}
}

// The guide's three configuration blocks load as printed: each as the only file, and together in lazaret.d.
func TestTheGuidesBlocksLoad(t *testing.T) {
	s := compiled(t)
	files := map[string]string{"lazaret.yaml": "organisation: st-mary\n"}
	for _, name := range []string{"mfa.json", "oauth2.json", "security-scans.yaml"} {
		text := read(t, docs+"guide/"+name)
		files["lazaret.d/"+name] = text
		dir := write(t, map[string]string{name: text})
		if _, err := config.Load(filepath.Join(dir, name)); err != nil {
			t.Errorf("%s alone: %v", name, err)
		}
		v, err := generic([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := write(t, files)
	c, err := config.Load(filepath.Join(dir, "lazaret.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	mfa := config.MFA{Enabled: true, RequiredForAdmin: true, Methods: []string{"totp", "sms", "email"}, BackupCodes: true}
	if d := gocmp.Diff(&mfa, c.Security.MFA); d != "" {
		t.Errorf("mfa (-want +got):\n%s", d)
	}
	microsoft := c.OAuth2.Providers["microsoft"]
	if secret, err := microsoft.ClientSecret.Resolve(); err != nil || secret != "your-client-secret" || !microsoft.ClientSecret.Clear() {
		t.Errorf("microsoft's secret: %v", err)
	}
	if len(c.OAuth2.Providers) != 2 || microsoft.TenantID != "your-tenant-id" || microsoft.Authority != "https://login.microsoftonline.com/{tenant_id}" ||
		!slices.Equal(microsoft.Scopes, []string{"openid", "profile", "email"}) ||
		c.OAuth2.Providers["google"].RedirectURI != "https://your-platform.tietai.com/auth/google/callback" {
		t.Errorf("providers: %+v", c.OAuth2.Providers)
	}
	scans := map[string]config.Scan{
		"static_analysis": {Tool: "bandit", Schedule: "daily",
			Config: "[bandit]\nexclude_dirs = [\"tests\", \"venv\"]\nskips = [\"B101\"] # Skip assert_used test\n"},
		"dependency_scan":     {Tool: "safety", Schedule: "daily", Command: "safety check --json"},
		"container_scan":      {Tool: "trivy", Schedule: "on_build", Command: "trivy image healthcare-integration:latest"},
		"infrastructure_scan": {Tool: "nmap", Schedule: "weekly", Targets: []string{"10.0.0.0/8"}},
	}
	if d := gocmp.Diff(scans, c.SecurityScans); d != "" {
		t.Errorf("scans (-want +got):\n%s", d)
	}
	inForce, clearSecrets := 0, 0
	for _, f := range c.Check(now) {
		if strings.Contains(f.What, "not yet in force") {
			inForce++
		}
		if strings.Contains(f.What, "in the clear") {
			clearSecrets++
			if !strings.HasSuffix(f.File, "lazaret.d/oauth2.json") || f.Line != 6 && f.Line != 13 {
				t.Errorf("a secret in the clear is said to be at %s:%d", f.File, f.Line)
			}
		}
	}
	if inForce != 7 || clearSecrets != 2 {
		t.Errorf("%d blocks are said not to be in force, want 7; %d secrets in the clear, want 2", inForce, clearSecrets)
	}
}

// The blocks are the guide's, byte for byte but for white space (and the tables' bars), and in its order.
func TestTheGuidesBlocksAreAsPrinted(t *testing.T) {
	guide, err := os.ReadFile("../../../shared/guide/security-guide.txt")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the guide does not lie beside the project: nothing to compare with")
	}
	if err != nil {
		t.Fatal(err)
	}
	squeeze := func(s string) string { return strings.NewReplacer(" ", "", "\n", "", "\t", "", "|", "").Replace(s) }
	rest := squeeze(string(guide))
	inOrder := []string{
		"mfa.json", "oauth2.json", "roles.csv", "postgres-at-rest.sql", "luks.sh", "nginx.conf", "ufw.sh", "wg0.conf", "vlan.sh", "audit_logger.py",
		"pgaudit.sql", "baa.csv", "minimum_necessary.py", "security-scans.yaml", "security-scan.sh", "compliance_monitor.py",
	}
	for _, name := range inOrder {
		text := read(t, docs+"guide/"+name)
		if strings.HasSuffix(name, ".csv") {
			rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			text = ""
			for _, r := range rows {
				text += strings.Join(r, "")
			}
		}
		_, after, ok := strings.Cut(rest, squeeze(text))
		if !ok {
			t.Errorf("%s is not in the guide as it is printed there, or not in this order", name)
			continue
		}
		rest = after
	}
	entries, err := os.ReadDir(docs + "guide")
	if err != nil {
		t.Fatal(err)
	}
	page := read(t, docs+"guide.md")
	for _, e := range entries {
		if !slices.Contains(inOrder, e.Name()) {
			t.Errorf("docs/guide/%s is not a block of the guide", e.Name())
		}
		if !strings.Contains(page, "guide/"+e.Name()) {
			t.Errorf("docs/guide.md does not speak of %s", e.Name())
		}
	}
	t.Logf("%d blocks compared", len(inOrder))
}

// docs/guide.md goes through the guide's sections in its order, each of them.
func TestTheGuidesPageHasEverySection(t *testing.T) {
	page := read(t, docs+"guide.md")
	at := 0
	for _, section := range []string{
		"Security Overview", "Authentication & Authorization", "Multi-Factor Authentication", "Single Sign-On", "Role-Based Access Control", "Data Encryption",
		"Encryption at Rest", "Database Encryption", "File System Encryption", "Encryption in Transit", "Network Security", "Firewall Configuration",
		"VPN Configuration", "Network Segmentation", "Audit Logging", "Comprehensive Audit Trail", "Database Audit Logging", "HIPAA Compliance",
		"Business Associate Agreement", "Minimum Necessary Standard", "Security Scanning", "Vulnerability Assessment", "Automated Security Testing",
		"Best Practices", "Secure Development", "Operational Security", "Data Protection", "Compliance Monitoring",
	} {
		heading := regexp.MustCompile(`(?m)^#+ ` + regexp.QuoteMeta(section))
		found := heading.FindStringIndex(page[at:])
		if found == nil {
			t.Errorf("docs/guide.md has no section %q behind the one before it", section)
			continue
		}
		at += found[1]
	}
}

// The steps on transform's page are what a destination's steps may be.
func TestStepsOfTheDocumentationLoad(t *testing.T) {
	fence := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")
	n := 0
	for _, m := range fence.FindAllStringSubmatch(read(t, docs+"transform.md"), -1) {
		if !strings.HasPrefix(m[1], "- ") {
			continue
		}
		n++
		steps := "        " + strings.ReplaceAll(strings.TrimSpace(m[1]), "\n", "\n        ")
		load(t, "channels:\n  - name: a\n    source: {mllp: {listen: ':1'}}\n    destinations:\n    - name: b\n      mllp: {address: 'h:1'}\n      steps:\n"+steps+"\n")
	}
	if n < 5 {
		t.Errorf("only %d examples found", n)
	}
}

// Our audit_log has every column of the guide's, with its type, and its three indexes under their names.
func TestTheGuidesAuditTableIsOurs(t *testing.T) {
	files, err := filepath.Glob("../audit/schema/*postgres*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("no schema of the audit log for PostgreSQL: %v", err)
	}
	var ours strings.Builder
	for _, f := range files {
		ours.WriteString(strings.Join(strings.Fields(read(t, f)), " "))
	}
	guide := strings.Join(strings.Fields(read(t, docs+"guide/pgaudit.sql")), " ")
	_, rest, _ := strings.Cut(guide, "CREATE TABLE audit_log ( ")
	table, rest, ok := strings.Cut(rest, " );")
	if !ok {
		t.Fatal("docs/guide/pgaudit.sql has no table audit_log")
	}
	n := 0
	for column := range strings.SplitSeq(table, ", ") {
		n++
		column, _, _ = strings.Cut(column, " DEFAULT ")
		column = strings.TrimSuffix(column, " PRIMARY KEY")
		if !regexp.MustCompile(`[ (]` + regexp.QuoteMeta(column) + `[ ,]`).MatchString(ours.String()) {
			t.Errorf("the column %q is not in our table", column)
		}
	}
	indexes := regexp.MustCompile(`CREATE INDEX \w+ ON audit_log\([^)]*\)`).FindAllString(rest, -1)
	for _, index := range indexes {
		if !strings.Contains(ours.String(), index) {
			t.Errorf("%s is not one of ours", index)
		}
	}
	if n != 11 || len(indexes) != 3 {
		t.Errorf("the guide has %d columns and %d indexes, not 11 and 3", n, len(indexes))
	}
}

func TestJSONOfTheGuideParsesAsJSON(t *testing.T) {
	for _, name := range []string{"mfa.json", "oauth2.json"} {
		if !json.Valid([]byte(read(t, docs+"guide/"+name))) {
			t.Errorf("%s is not JSON", name)
		}
	}
}
