package config

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxSecret bounds a file that a secret is read from.
const maxSecret = 64 << 10

// hidden is all that a Secret shows of itself.
const hidden = "[secret]"

// A Secret is a reference to one (env:NAME, file:PATH), or, and then a finding, one in the clear. It shows itself to no
// printer, log or encoder; only Resolve gives the value. The zero value is no secret at all.
type Secret struct {
	kind string  // "env", "file", "clear", or "" for none
	text *string // a pointer, so that printing a struct around it shows an address
	dir  string
}

// ParseSecret reads env:NAME, file:PATH, or a secret in the clear.
func ParseSecret(s string) Secret {
	for _, kind := range []string{"env", "file"} {
		if rest, ok := strings.CutPrefix(s, kind+":"); ok {
			return Secret{kind: kind, text: &rest}
		}
	}
	if s == "" {
		return Secret{}
	}
	return Secret{kind: "clear", text: &s}
}

// IsZero says that there is none.
func (s Secret) IsZero() bool { return s.kind == "" }

// Clear says that the secret itself stands in the file.
func (s Secret) Clear() bool { return s.kind == "clear" }

// Reference is env:NAME or file:PATH, and empty for a secret in the clear.
func (s Secret) Reference() string {
	if s.kind == "" || s.Clear() {
		return ""
	}
	return s.kind + ":" + *s.text
}

// Resolve gives the secret's value. A file loses one line end.
func (s Secret) Resolve() (string, error) {
	var value string
	switch s.kind {
	case "":
		return "", nil
	case "clear":
		value = *s.text
	case "env":
		v, ok := os.LookupEnv(*s.text)
		if !ok {
			return "", fmt.Errorf("environment variable %s is not set", *s.text)
		}
		value = v
	case "file":
		b, err := readBounded(s.path(), maxSecret)
		if err != nil {
			return "", fmt.Errorf("read secret: %w", err)
		}
		value = string(bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r")))
	}
	if value == "" {
		return "", fmt.Errorf("%s is empty", s.Reference())
	}
	return value, nil
}

func (s Secret) path() string {
	if s.kind != "file" {
		return ""
	}
	if filepath.IsAbs(*s.text) {
		return *s.text
	}
	return filepath.Join(s.dir, *s.text)
}

// String, and all below it, show that there is a secret, and where a reference leads.
func (s Secret) String() string {
	switch {
	case s.IsZero():
		return ""
	case s.Clear():
		return hidden
	}
	return s.Reference()
}

// Format keeps every verb of package fmt from looking inside.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText serves encoding/json and its kin.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML serves package yaml.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// LogValue serves log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

func (s *Secret) read(r *reader, n *yaml.Node, key string) {
	const next = "write env:NAME or file:PATH"
	text, ok := r.scalar(n, key, "a secret", next)
	if !ok {
		return
	}
	*s = ParseSecret(text)
	if s.IsZero() || *s.text == "" || s.kind == "env" && strings.ContainsAny(*s.text, "= \t\r\n\x00") {
		*s = Secret{}
		r.fail(n, key, "is no reference to a secret", next)
	}
}

func (*Secret) schema() map[string]any {
	return map[string]any{"title": "secret", "type": []any{"string", "number", "boolean"}, "minLength": 1}
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is longer than %s", path, Size(limit))
	}
	return b, nil
}
