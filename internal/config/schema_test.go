package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lazaret-health/lazaret/internal/config"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

func compiled(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(config.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("lazaret.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("lazaret.json") // checks it against the 2020-12 meta schema too
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// generic reads YAML as a JSON Schema validator wants it, with each key as the text that it is written as.
func generic(text []byte) (any, error) {
	var v any
	if err := yaml.Load(text, &v); err != nil {
		return nil, err
	}
	b, err := json.Marshal(textKeys(v))
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(b))
}

func textKeys(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = textKeys(v[k])
		}
	case map[any]any:
		m := map[string]any{}
		for k, one := range v {
			if k == nil {
				k = "null"
			}
			m[fmt.Sprint(k)] = textKeys(one)
		}
		return m
	case []any:
		for i := range v {
			v[i] = textKeys(v[i])
		}
	}
	return v
}

// agrees says whether Load and the schema think the same of a YAML file that Load takes: the schema takes it too.
func agrees(t testing.TB, s *jsonschema.Schema, text string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "lazaret.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(path); err != nil {
		return
	}
	v, err := generic([]byte(text))
	if err != nil || v == nil {
		return // what JSON cannot say, such as keys that are numbers
	}
	if err := s.Validate(v); err != nil {
		t.Errorf("Load takes it, the schema does not: %v\n%s", err, text)
	}
}

func TestSchemaTakesWhatLoadTakes(t *testing.T) {
	s := compiled(t)
	v, err := generic([]byte(site))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(v); err != nil {
		t.Errorf("the example is refused: %v", err)
	}
}

func TestSchemaAndLoadRefuseTheSame(t *testing.T) {
	s := compiled(t)
	dest := func(s string) string {
		return "channels: [{name: a, source: {mllp: {listen: ':1'}}, destinations: [{name: b, mllp: {address: 'h:1'}, " + s + "}]}]\n"
	}
	for name, text := range map[string]string{
		"an unknown key":                "nothing: 1\n",
		"an unknown key inside":         dest("ordr: strict"),
		"a number for a text":           "organisation: 1\n",
		"a name with a space":           "organisation: 'st mary'\n",
		"a word that is none":           dest("order: random"),
		"a number out of range":         dest("window: 0"),
		"a fraction for a whole number": dest("window: 1.5"),
		"jitter over 1":                 dest("retry: {jitter: 2}"),
		"a time without a unit":         dest("retry: {first: 5}"),
		"a step that does nothing":      dest("steps: [{for: OBX}]"),
		"a step that does two things":   dest("steps: [{delete: NK1, set: {PID-3: x}}]"),
		"a value of two kinds":          dest("steps: [{set: {PID-3: {expr: a, raw: b}}}]"),
		"an empty set":                  dest("steps: [{set: {}}]"),
		"a receiver without a port":     "channels: [{name: a, source: {mllp: {listen: ':1'}}, destinations: [{name: b, mllp: {address: h}}]}]\n",
		"a channel without a source":    "channels: [{name: a}]\n",
		"a negative size":               "channels: [{name: a, source: {mllp: {listen: ':1', max_message: -1}}}]\n",
		"an unknown charset":            "channels: [{name: a, source: {mllp: {listen: ':1', charset: latin}}}]\n",
		"a table without values":        "tables: {t: {}}\n",
		"a table with a bad name":       "tables: {'a b': {values: {a: b}}}\n",
		"a second factor that is none":  "security: {mfa: {methods: [palm]}}\n",
		"another database":              "database: mysql:x\n",
		"a key management service":      "keys: {root: 'elsewhere:x'}\n",
		"a list for a mapping":          "log: []\n",
		"no value":                      "log:\n",
	} {
		t.Run(name, func(t *testing.T) {
			problems(t, map[string]string{"lazaret.yaml": text})
			v, err := generic([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			var refused *jsonschema.ValidationError
			if err := s.Validate(v); !errors.As(err, &refused) {
				t.Errorf("the schema takes it (%v)", err)
			}
		})
	}
}

// Every key has a description, so that editors and the documentation can say what it is.
func TestEveryKeyIsDescribed(t *testing.T) {
	n := 0
	for key, s := range schemaKeys(t) {
		n++
		if d, _ := s["description"].(string); len(d) < 10 {
			t.Errorf("%s has no description", key)
		}
	}
	if n < 100 {
		t.Errorf("only %d keys found", n)
	}
}

// schemaKeys lists the schema's keys as the documentation writes them: channels[].source.mllp.listen, tables.*.values.
func schemaKeys(t *testing.T) map[string]map[string]any {
	t.Helper()
	var root map[string]any
	if err := json.Unmarshal(config.Schema(), &root); err != nil {
		t.Fatal(err)
	}
	keys := map[string]map[string]any{}
	var walk func(s map[string]any, at string)
	walk = func(s map[string]any, at string) {
		if p, ok := s["properties"].(map[string]any); ok {
			for k, v := range p {
				key := strings.TrimPrefix(at+"."+k, ".")
				one := maps.Clone(v.(map[string]any))
				if required, _ := s["required"].([]any); slices.Contains(required, any(k)) {
					one["required"] = "here"
				}
				keys[key] = one
				walk(v.(map[string]any), key)
			}
		}
		if i, ok := s["items"].(map[string]any); ok {
			walk(i, at+"[]")
		}
		if a, ok := s["additionalProperties"].(map[string]any); ok {
			walk(a, at+".*")
		}
		if o, ok := s["oneOf"].([]any); ok {
			for _, one := range o {
				walk(one.(map[string]any), at)
			}
		}
	}
	walk(root, "")
	return keys
}

// FuzzLoad holds that Load ends, quotes nothing that is marked, and takes nothing that the schema refuses.
func FuzzLoad(f *testing.F) {
	s := compiled(f)
	f.Add(site)
	f.Add(oauth)
	f.Add("log: &l {level: info}\nkeys: {root: a}\ndata: b\n")
	f.Add("database: {url: 'postgres://u@h/d', password: env:P}\n")
	f.Add("channels: [{name: a, source: {mllp: {listen: '[::1]:2575', idle_timeout: 1d12h, max_message: 1.5MiB}}}]\n")
	f.Add("security_scans: {a: {tool: b, schedule: daily, config: |\n  [x]\n, targets: [\"10.0.0.0/8\"]}}\n")
	f.Add("a: &x [*x]\nb: {*x : 1}\n<<: *x\n")
	f.Fuzz(func(t *testing.T, text string) { agrees(t, s, text) })
}
