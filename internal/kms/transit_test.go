package kms_test

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/kms"
	"github.com/lazaret-health/lazaret/internal/seal"
)

var (
	_ seal.Root      = (*kms.Transit)(nil)
	_ seal.Rewrapper = (*kms.Transit)(nil)
	_ seal.Root      = (*kms.AWS)(nil)
	_ seal.Rewrapper = (*kms.AWS)(nil)
)

const inventedToken = "invented token of a test"

// transitDouble answers as the API texts of OpenBao and Vault say: auth/approle/login, transit/encrypt, decrypt and rewrap. Its
// ciphertext is a number in a drawer, so nothing can be taken out of it but by asking.
type transitDouble struct {
	mu      sync.Mutex
	version int
	drawer  map[string]string // ciphertext → plaintext
	tokens  map[string]bool
	logins  int
	asked   []string
	fault   func(n int, w http.ResponseWriter, r *http.Request) bool // true: it has answered
}

func (d *transitDouble) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	d.asked = append(d.asked, path)
	if d.fault != nil && d.fault(len(d.asked), w, r) {
		return
	}
	refuse := func(status int) {
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(map[string]any{"errors": []string{"an invented text that nobody should repeat"}})
	}
	var body struct {
		Plaintext, Ciphertext string
		RoleID                string `json:"role_id"`
		SecretID              string `json:"secret_id"`
	}
	if json.NewDecoder(r.Body).Decode(&body) != nil || r.Method != http.MethodPost || r.Header.Get("X-Vault-Request") != "true" {
		refuse(400)
		return
	}
	if path == "auth/approle/login" {
		if body.RoleID != "role" || body.SecretID != "secret" {
			refuse(400)
			return
		}
		d.logins++
		token := fmt.Sprintf("login-%d", d.logins)
		d.tokens[token] = true
		json.NewEncoder(w).Encode(map[string]any{"auth": map[string]any{"client_token": token, "lease_duration": 3600}})
		return
	}
	if !d.tokens[r.Header.Get("X-Vault-Token")] {
		refuse(403)
		return
	}
	keep := func(plain string) string {
		c := fmt.Sprintf("vault:v%d:%s", d.version, base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "number %d", len(d.drawer))))
		d.drawer[c] = plain
		return c
	}
	data := map[string]any{}
	switch path {
	case "transit/encrypt/lazaret":
		if _, err := base64.StdEncoding.DecodeString(body.Plaintext); err != nil {
			refuse(400)
			return
		}
		data["ciphertext"] = keep(body.Plaintext)
	case "transit/decrypt/lazaret", "transit/rewrap/lazaret":
		plain, ok := d.drawer[body.Ciphertext]
		if !ok {
			refuse(400)
			return
		}
		if path == "transit/decrypt/lazaret" {
			data["plaintext"] = plain
		} else {
			data["ciphertext"] = keep(plain)
		}
	default:
		refuse(404)
		return
	}
	json.NewEncoder(w).Encode(map[string]any{"data": data})
}

// transit is a client over a double with TLS.
func transit(t *testing.T, change ...func(*kms.TransitConfig)) (*kms.Transit, *transitDouble) {
	t.Helper()
	d := &transitDouble{version: 1, drawer: map[string]string{}, tokens: map[string]bool{inventedToken: true}}
	srv := httptest.NewTLSServer(d)
	t.Cleanup(srv.Close)
	c := kms.TransitConfig{
		Address: srv.URL, Key: "lazaret", Timeout: 2 * time.Second, Now: time.Now,
		CA:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}),
		Token: func() (string, error) { return inventedToken, nil },
	}
	for _, f := range change {
		f(&c)
	}
	root, err := kms.NewTransit(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(root.Close)
	return root, d
}

func approle(c *kms.TransitConfig) {
	c.Token, c.RoleID, c.SecretID = nil, "role", func() (string, error) { return "secret", nil }
}

func TestTransitWrapsUnwrapsAndRewraps(t *testing.T) {
	root, d := transit(t)
	aad := []byte("what is said about the key")
	key := []byte("an invented key of 32 characters")
	wrapped, err := root.Wrap(t.Context(), key, aad)
	if err != nil {
		t.Fatal(err)
	}
	d.version = 2
	again, err := root.Rewrap(t.Context(), wrapped, aad)
	if err != nil || !strings.HasPrefix(string(again), "vault:v2:") {
		t.Fatalf("rewrapped to %.9q, %v", again, err)
	}
	for _, w := range [][]byte{wrapped, again} {
		if back, err := root.Unwrap(t.Context(), w, aad); err != nil || string(back) != string(key) {
			t.Errorf("unwrapped %q, %v", back, err)
		}
		if _, err := root.Unwrap(t.Context(), w, []byte("another key's name")); !errors.Is(err, kms.ErrNotOurs) {
			t.Errorf("under another name: %v, want ErrNotOurs", err)
		}
	}
	if root.ID() != "transit-transit/lazaret" {
		t.Errorf("id %s", root.ID())
	}
	want := []string{"transit/encrypt/lazaret", "transit/rewrap/lazaret", "transit/decrypt/lazaret"}
	for _, p := range d.asked {
		if !slices.Contains(want, p) {
			t.Errorf("asked for %s, which the policy need not allow", p)
		}
	}
}

func TestTransitSignsInByAppRole(t *testing.T) {
	now := time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	root, d := transit(t, approle, func(c *kms.TransitConfig) { c.Now = func() time.Time { return now } })
	use := func(why string, logins int) {
		t.Helper()
		if _, err := root.Wrap(t.Context(), []byte("key"), nil); err != nil {
			t.Errorf("%s: %v", why, err)
		}
		if d.logins != logins {
			t.Errorf("%s: %d log-ins, want %d", why, d.logins, logins)
		}
	}
	use("the first use signs in", 1)
	use("the second uses the token", 1)
	now = now.Add(41 * time.Minute)
	use("after two thirds of its life it signs in again", 2)
	d.tokens = map[string]bool{}
	use("a revoked token is replaced", 3)

	wrong, _ := transit(t, approle, func(c *kms.TransitConfig) { c.RoleID = "nobody" })
	if _, err := wrong.Wrap(t.Context(), nil, nil); !errors.Is(err, kms.ErrDenied) {
		t.Errorf("a wrong role: %v, want ErrDenied", err)
	}
}

func TestTransitFailsWithAReason(t *testing.T) {
	status := func(code int) func(int, http.ResponseWriter, *http.Request) bool {
		return func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(code)
			fmt.Fprint(w, `{"errors":["invented secret text"]}`)
			return true
		}
	}
	text := func(body string) func(int, http.ResponseWriter, *http.Request) bool {
		return func(_ int, w http.ResponseWriter, _ *http.Request) bool { fmt.Fprint(w, body); return true }
	}
	for _, c := range []struct {
		name  string
		fault func(int, http.ResponseWriter, *http.Request) bool
		want  error
		hint  string
		asked int
	}{
		{"refused, it says what the policy lacks, and does not try again", status(403), kms.ErrDenied, `"update" on transit/encrypt/lazaret`, 1},
		{"a missing mount is named, and not tried again", status(404), kms.ErrNoKey, "mounted", 1},
		{"a missing key is named", status(400), kms.ErrNoKey, "aes256-gcm96", 1},
		{"a sealed server is tried again", status(503), kms.ErrUnreachable, "sealed", 3},
		{"too many requests are tried again", status(429), kms.ErrUnreachable, "429", 3},
		{"an error of its own is tried again", status(500), kms.ErrUnreachable, "500", 3},
		{"a redirection is not followed, for it would carry the token away", func(_ int, w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "https://elsewhere.invalid/", http.StatusTemporaryRedirect)
			return true
		}, kms.ErrUnreachable, "points elsewhere", 3},
		{"garbage is no answer", text("<html>invented secret text</html>"), kms.ErrUnreachable, "its language", 3},
		{"an empty answer is none", text(`{"data":{}}`), kms.ErrUnreachable, "no ciphertext", 1},
		{"a connection that is cut is tried again", func(_ int, _ http.ResponseWriter, _ *http.Request) bool { panic(http.ErrAbortHandler) }, kms.ErrUnreachable, "", 3},
		{"slow beyond its time it is given up", func(int, http.ResponseWriter, *http.Request) bool { time.Sleep(400 * time.Millisecond); return true }, kms.ErrUnreachable, "", 3},
		{"what works at the third try has worked", func(n int, w http.ResponseWriter, _ *http.Request) bool {
			if n < 3 {
				w.WriteHeader(503)
			}
			return n < 3
		}, nil, "", 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			root, d := transit(t, func(c *kms.TransitConfig) { c.Timeout = 300 * time.Millisecond })
			d.fault = c.fault
			_, err := root.Wrap(t.Context(), []byte("an invented key"), []byte("aad"))
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err != nil {
				if !strings.Contains(err.Error(), c.hint) {
					t.Errorf("%q has no hint %q", err, c.hint)
				}
				for _, secret := range []string{inventedToken, "invented secret text", base64.StdEncoding.EncodeToString([]byte("an invented key"))} {
					if strings.Contains(err.Error(), secret) {
						t.Errorf("the error repeats %q", secret)
					}
				}
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			if len(d.asked) != c.asked && c.hint != "" {
				t.Errorf("asked %d times, want %d", len(d.asked), c.asked)
			}
		})
	}
}

func TestTransitTrustsOnlyItsAuthority(t *testing.T) {
	root, _ := transit(t, func(c *kms.TransitConfig) { c.CA = nil })
	if _, err := root.Wrap(t.Context(), nil, nil); !errors.Is(err, kms.ErrUnreachable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a stranger's certificate: %v", err)
	}
}

func TestTransitConfigIsChecked(t *testing.T) {
	good := kms.TransitConfig{Address: "https://bao.example:8200", Key: "k", Now: time.Now, Token: func() (string, error) { return "t", nil }}
	for _, c := range []struct {
		name   string
		change func(*kms.TransitConfig)
		want   string
	}{
		{"as it should be", func(*kms.TransitConfig) {}, ""},
		{"plain http on this machine", func(c *kms.TransitConfig) { c.Address = "http://127.0.0.1:8200" }, ""},
		{"plain http elsewhere", func(c *kms.TransitConfig) { c.Address = "http://bao.example:8200" }, "must be https"},
		{"a password in the address", func(c *kms.TransitConfig) { c.Address = "https://a:b@bao.example" }, "https://HOST:PORT"},
		{"a path in the key's name", func(c *kms.TransitConfig) { c.Key = "../sys" }, "key's name"},
		{"a climbing mount", func(c *kms.TransitConfig) { c.Mount = "transit/../sys" }, "mount"},
		{"no way to sign in", func(c *kms.TransitConfig) { c.Token = nil }, "neither a token"},
		{"two ways to sign in", func(c *kms.TransitConfig) { c.RoleID = "r" }, "one is enough"},
		{"a CA file without a certificate", func(c *kms.TransitConfig) { c.CA = []byte("x") }, "no certificate"},
		{"no clock", func(c *kms.TransitConfig) { c.Now = nil }, "Config.Now"},
	} {
		cfg := good
		c.change(&cfg)
		_, err := kms.NewTransit(cfg)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}
