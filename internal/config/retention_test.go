package config_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/lazaret-health/lazaret/internal/config"
)

func TestHowLongContentIsKept(t *testing.T) {
	const channels = "channels:\n  - {name: a, source: {mllp: {listen: '127.0.0.1:0'}}}\n  - {name: b, source: {mllp: {listen: '127.0.0.1:0'}}, retention: {%}}\n"
	for _, c := range []struct{ name, org, own, a, b string }{
		{"nothing given", "{}", "", "keep keep", "keep keep"},
		{"the organisation's", "{content: 90d}", "", "90d 90d", "90d 90d"},
		{"refused ones for less", "{content: 90d, rejected: 7d}", "", "90d 7d", "90d 7d"},
		{"a channel's own", "{content: 90d}", "content: 1y", "90d 90d", "1y 1y"},
		{"a channel's own, refused ones as everywhere", "{content: 90d, rejected: 7d}", "content: keep", "90d 7d", "keep 7d"},
		{"a channel's own for both", "{content: 90d}", "content: 30d, rejected: 1d", "90d 90d", "30d 1d"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, _ := load(t, "retention: "+c.org+"\n"+strings.Replace(channels, "%", c.own, 1))
			for i, want := range []string{c.a, c.b} {
				content, rejected := cfg.Kept(&cfg.Channels[i])
				if got := content.String() + " " + rejected.String(); got != want {
					t.Errorf("channel %s keeps %s, want %s", cfg.Channels[i].Name, got, want)
				}
			}
		})
	}
}

func TestTimesToKeepThatAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"{audit_details: 5y}":    "shorter than 6 years",
		"{audit_details: 2191d}": "shorter than 6 years",
		"{content: 0d}":          "is not a time to keep",
		"{content: 90}":          "is not a time to keep",
		"{content: 3m}":          "is not a time to keep",
		"{at: '24:00'}":          "is not a time of day",
	} {
		dir := write(t, map[string]string{"lazaret.yaml": "retention: " + text})
		if _, err := config.Load(filepath.Join(dir, "lazaret.yaml")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	for _, text := range []string{"{audit_details: 6y}", "{audit_details: 2192d}", "{audit_details: keep}"} {
		load(t, "retention: "+text)
	}
}

func TestTimesToKeepThatDoNotFit(t *testing.T) {
	const a = "\nchannels:\n  - {name: a, source: {mllp: {listen: '127.0.0.1:0'}}, admit: {duplicates: 240h}}\n  - {name: b, source: {mllp: {listen: '127.0.0.1:0'}}"
	for _, c := range []struct{ name, text, want string }{
		{"metadata for less than content", "retention: {content: 90d, metadata: 30d}", "error lazaret.yaml:3: retention.metadata: is shorter than content"},
		{"metadata for less than content that stays", "retention: {metadata: 6y}", "is shorter than content"},
		{"metadata for less than a channel's content", "retention: {content: 30d, metadata: 90d}" + a + ", retention: {content: 1y}}", "keeps content longer than retention.metadata"},
		{"content for less than the window", "retention: {content: 5d}" + a + "}", "warning lazaret.yaml:5: channels.a.retention: keeps content for less"},
		{"one channel for good", "retention: {content: 90d}" + a + ", retention: {content: keep}}", "keeps content for good, and so the keys"},
		{"a usual one", "retention: {content: 90d, rejected: 30d, metadata: 6y, audit_details: 6y}", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := strings.Join(findings(t, t.TempDir(), c.text), "\n")
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("findings:\n%s\nwant %q", got, c.want)
			}
		})
	}
}
