package kms

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"
)

// TransitConfig says where a transit engine is and who asks. Address, Key, Now and either Token or RoleID with SecretID are
// required.
type TransitConfig struct {
	Address   string // https://HOST:PORT; http only on this machine
	Namespace string // X-Vault-Namespace
	Mount     string // of the engine; default "transit"
	Key       string // its name there; type aes256-gcm96
	CA        []byte // PEM of who signed the service's certificate; nil: whom the system trusts

	Token     func() (string, error) // read before each use: an agent may renew it
	RoleID    string                 // AppRole
	SecretID  func() (string, error)
	AuthMount string // of AppRole; default "approle"

	Timeout time.Duration // of one try; default DefaultTimeout
	Now     func() time.Time
}

// A Transit is a root key in OpenBao's or Vault's transit engine. Only encrypt, decrypt and rewrap are asked of it, so the policy of
// its token needs "update" on those three paths and nothing else. ("create" on encrypt would make a key under a mistyped name.)
type Transit struct {
	c    TransitConfig
	base string
	http *http.Client

	mu    sync.Mutex
	token string    // of a login
	until time.Time // it is used until then
}

var pathName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$`)

// NewTransit checks the configuration. It asks nothing yet.
func NewTransit(c TransitConfig) (*Transit, error) {
	if c.Mount == "" {
		c.Mount = "transit"
	}
	if c.AuthMount == "" {
		c.AuthMount = "approle"
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	u, err := url.Parse(c.Address)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "":
		return nil, errors.New("transit: the address must be https://HOST:PORT and nothing more")
	case u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())):
		return nil, errors.New("transit: the address must be https, for data keys travel to it")
	case !pathName.MatchString(c.Key) || strings.Contains(c.Key, "/"):
		return nil, errors.New("transit: the key's name must be letters, digits, dots, dashes and underscores")
	case !pathName.MatchString(c.Mount) || !pathName.MatchString(c.AuthMount):
		return nil, errors.New("transit: a mount must be a path of letters, digits, dots, dashes and underscores")
	case c.Now == nil:
		return nil, errors.New("transit: Config.Now is missing")
	case c.Token == nil && (c.RoleID == "" || c.SecretID == nil):
		return nil, errors.New("transit: neither a token nor an AppRole with its secret is given")
	case c.Token != nil && c.RoleID != "":
		return nil, errors.New("transit: a token and an AppRole are given; one is enough")
	}
	t := &http.Transport{
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   c.Timeout,
		ResponseHeaderTimeout: c.Timeout,
		MaxIdleConns:          2,
		IdleConnTimeout:       time.Minute,
		ForceAttemptHTTP2:     true,
	}
	if c.CA != nil {
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(c.CA) {
			return nil, errors.New("transit: the CA file holds no certificate")
		}
	}
	return &Transit{c: c, base: u.Scheme + "://" + u.Host + "/v1/", http: &http.Client{
		Transport: t, Timeout: c.Timeout,
		// Followed, it would carry the token to wherever it points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// ID is the key's namespace, mount and name. It does not change when the service moves to another address.
func (t *Transit) ID() string {
	id := "transit-" + t.c.Mount + "/" + t.c.Key
	if t.c.Namespace != "" {
		id = "transit-" + t.c.Namespace + ":" + t.c.Mount + "/" + t.c.Key
	}
	return id
}

// String is the id: no verb prints a token.
func (t *Transit) String() string   { return t.ID() }
func (t *Transit) GoString() string { return t.ID() }

// Close lets go of idle connections.
func (t *Transit) Close() { t.http.CloseIdleConnections() }

type transitAnswer struct {
	Data struct {
		Ciphertext string `json:"ciphertext"`
		Plaintext  string `json:"plaintext"`
	} `json:"data"`
	Auth struct {
		Token   string `json:"client_token"`
		Seconds int64  `json:"lease_duration"`
	} `json:"auth"`
}

// Wrap encrypts a data key.
func (t *Transit) Wrap(ctx context.Context, plaintext, aad []byte) ([]byte, error) {
	bound := bind(plaintext, aad)
	defer clear(bound)
	a, err := t.ask(ctx, "encrypt", map[string]string{"plaintext": base64.StdEncoding.EncodeToString(bound)})
	if err != nil {
		return nil, err
	}
	return ciphertext(a)
}

func ciphertext(a *transitAnswer) ([]byte, error) {
	if !strings.HasPrefix(a.Data.Ciphertext, "vault:v") { // OpenBao writes so too
		return nil, fmt.Errorf("%w: its answer holds no ciphertext", ErrUnreachable)
	}
	return []byte(a.Data.Ciphertext), nil
}

// Unwrap decrypts it.
func (t *Transit) Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error) {
	a, err := t.ask(ctx, "decrypt", map[string]string{"ciphertext": string(wrapped)})
	if err != nil {
		return nil, err
	}
	bound, err := base64.StdEncoding.DecodeString(a.Data.Plaintext)
	if err != nil {
		return nil, fmt.Errorf("%w: its answer holds no plaintext", ErrUnreachable)
	}
	return unbind(bound, aad)
}

// Rewrap has the service put a wrapped key under the newest version of its key. The data key is not shown to us; that it is still
// the right one shows when it is unwrapped.
func (t *Transit) Rewrap(ctx context.Context, wrapped, _ []byte) ([]byte, error) {
	a, err := t.ask(ctx, "rewrap", map[string]string{"ciphertext": string(wrapped)})
	if err != nil {
		return nil, err
	}
	return ciphertext(a)
}

// ask calls an operation of the engine. A login's token may have been revoked, so a refusal is tried once more with a fresh one.
func (t *Transit) ask(ctx context.Context, op string, body map[string]string) (a *transitAnswer, err error) {
	err = repeat(ctx, func() error {
		token, fresh, err := t.auth(ctx)
		if err != nil {
			return err
		}
		a, err = t.post(ctx, t.c.Mount+"/"+op+"/"+t.c.Key, token, body)
		if errors.Is(err, ErrDenied) && !fresh && t.c.Token == nil {
			t.mu.Lock()
			t.token = ""
			t.mu.Unlock()
			if token, _, err = t.auth(ctx); err == nil {
				a, err = t.post(ctx, t.c.Mount+"/"+op+"/"+t.c.Key, token, body)
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("transit %s: %w", op, err)
	}
	return a, nil
}

// auth gives the token, and says whether it was fetched just now.
func (t *Transit) auth(ctx context.Context) (token string, fresh bool, err error) {
	if t.c.Token != nil {
		if token, err = t.c.Token(); err != nil {
			return "", false, fmt.Errorf("%w: the token is not at hand: %w", ErrDenied, err)
		}
		return token, true, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.token != "" && t.c.Now().Before(t.until) {
		return t.token, false, nil
	}
	secret, err := t.c.SecretID()
	if err != nil {
		return "", false, fmt.Errorf("%w: the AppRole's secret is not at hand: %w", ErrDenied, err)
	}
	a, err := t.post(ctx, "auth/"+t.c.AuthMount+"/login", "", map[string]string{"role_id": t.c.RoleID, "secret_id": secret})
	if err != nil {
		return "", false, fmt.Errorf("sign in by AppRole: %w", err)
	}
	if a.Auth.Token == "" {
		return "", false, fmt.Errorf("sign in by AppRole: %w: its answer holds no token", ErrUnreachable)
	}
	t.token = a.Auth.Token
	// Two thirds of its life; without an end it is fetched anew each hour.
	life := time.Hour
	if a.Auth.Seconds > 0 && a.Auth.Seconds < 1<<31 {
		life = time.Duration(a.Auth.Seconds) * time.Second * 2 / 3
	}
	t.until = t.c.Now().Add(life)
	return t.token, true, nil
}

// post sends one request. What the service writes about an error is not repeated: it is a stranger's text.
func (t *Transit) post(ctx context.Context, path, token string, body map[string]string) (*transitAnswer, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.base+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Vault-Request", "true")
	if token != "" {
		r.Header.Set("X-Vault-Token", token)
	}
	if t.c.Namespace != "" {
		r.Header.Set("X-Vault-Namespace", t.c.Namespace)
	}
	answer, err := t.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, plain(err))
	}
	defer answer.Body.Close()
	out, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("%w: its answer ended early: %w", ErrUnreachable, plain(err))
	}
	defer clear(out)
	if err := statusError(answer.StatusCode, path); err != nil {
		return nil, err
	}
	a := &transitAnswer{}
	if json.Unmarshal(out, a) != nil {
		return nil, fmt.Errorf("%w: what answers there does not speak its language", ErrUnreachable)
	}
	return a, nil
}

// statusError has the meaning of each status from the API's text.
func statusError(status int, path string) error {
	switch {
	case status == http.StatusOK:
		return nil
	case status >= 300 && status < 400:
		return fmt.Errorf("%w: it points elsewhere (status %d): name the address of the active server, or of the load balancer", ErrUnreachable, status)
	case status == http.StatusBadRequest && strings.HasPrefix(path, "auth/"):
		return fmt.Errorf("%w (status 400): the role or its secret is wrong, used up or expired", ErrDenied)
	case status == http.StatusBadRequest && strings.Contains(path, "/encrypt/"):
		return fmt.Errorf("%w (status 400): is there a key of this name, of type aes256-gcm96 and not derived?", ErrNoKey)
	case status == http.StatusBadRequest:
		return fmt.Errorf("%w (status 400)", ErrNotOurs)
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return fmt.Errorf("%w (status %d): the token is wrong or expired, or its policy lacks \"update\" on %s", ErrDenied, status, path)
	case status == http.StatusNotFound:
		return fmt.Errorf("%w (status 404): is the engine mounted there, and in this namespace?", ErrNoKey)
	case status == http.StatusTooManyRequests:
		return fmt.Errorf("%w: too many requests (status 429)", ErrUnreachable)
	case status == http.StatusServiceUnavailable:
		return fmt.Errorf("%w: it is sealed, or in maintenance (status 503)", ErrUnreachable)
	}
	return fmt.Errorf("%w (status %d)", ErrUnreachable, status)
}

// plain takes the request's URL out of an error.
func plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
