package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/config"
)

func TestRootKeysAreReadByReference(t *testing.T) {
	t.Setenv("INVENTED_PASSPHRASE", "an invented passphrase of a test")
	for text, want := range map[string]string{
		"file:keys/root": "file", "keys/root": "file", "passphrase:env:INVENTED_PASSPHRASE": "passphrase", "passphrase:prompt": "passphrase",
		"credential:lazaret-root": "credential", "openbao:lazaret": "openbao", "vault:lazaret": "vault",
		"awskms:arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000": "awskms",
	} {
		c, dir := load(t, "organisation: st-mary\nkeys: {root: '"+text+"', former: [file:old], grace: 2h}\n")
		r := c.Keys.Root
		if r.Kind != want || c.Keys.Grace != 2*time.Hour || c.Keys.Former[0].File() != dir+"/old" {
			t.Errorf("%s: kind %q, grace %s, former %q", text, r.Kind, c.Keys.Grace, c.Keys.Former)
		}
		if strings.Contains(r.String(), "an invented passphrase") {
			t.Errorf("%s shows the passphrase", text)
		}
		found := map[string]bool{}
		for _, f := range c.Check(time.Now()) {
			found[f.Key+" "+f.What] = true
		}
		elsewhere := strings.Contains(strings.Join(keysOf(found), "\n"), "only as a double")
		if want == "awskms" && !elsewhere || want == "file" && elsewhere {
			t.Errorf("%s: findings %v", text, found)
		}
	}
	var missing config.Level
	c, _ := load(t, "organisation: st-mary\nkeys: {root: 'openbao:lazaret'}\n")
	for _, f := range c.Check(time.Now()) {
		if f.Key == "keys.root" && strings.Contains(f.What, "keys.transit does not say") {
			missing = f.Level
		}
	}
	if missing != config.Error {
		t.Error("a transit engine without an address is no error")
	}
}

func keysOf(m map[string]bool) (list []string) {
	for k := range m {
		list = append(list, k)
	}
	return list
}
