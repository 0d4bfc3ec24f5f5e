package control

import (
	"context"
	"errors"
	"net/http"

	"github.com/lazaret-health/lazaret/internal/engine"
	"github.com/lazaret-health/lazaret/internal/seal"
)

// Renewal asks for fresh data keys.
type Renewal struct {
	Reseal bool `json:"reseal,omitempty"` // and old records under them
}

// Renewed tells how many keys seal no more.
type Renewed struct {
	Retired int `json:"retired"`
}

// Shredding names the keys to destroy.
type Shredding struct {
	Organisation uint32       `json:"organisation"`
	Purpose      seal.Purpose `json:"purpose"`
	Period       seal.Period  `json:"period"`
}

// Shredded names the keys that were destroyed.
type Shredded struct {
	Keys []seal.KeyID `json:"keys"`
}

// CopyRequest asks for a recovery copy.
type CopyRequest struct {
	Needed     int      `json:"needed,omitempty"`
	Shares     int      `json:"shares,omitempty"`
	Recipients []string `json:"recipients,omitempty"`
}

// Tried tells which root key a recovery copy gave.
type Tried struct {
	Root string `json:"root"`
}

// keyRoutes are there where somebody keeps the keys.
func (s *Server) keyRoutes() map[string]action {
	k := s.c.Keys
	if k == nil {
		return nil
	}
	return map[string]action{
		"GET /v1/keys": func(ctx context.Context, _ engine.Actor, _ *http.Request) (any, error) {
			status, err := k.Status(ctx)
			status.Host = s.c.Host
			return status, err
		},
		"GET /v1/keys/work": func(context.Context, engine.Actor, *http.Request) (any, error) { return k.Work(), nil },
		"POST /v1/keys/check": func(ctx context.Context, who engine.Actor, _ *http.Request) (any, error) {
			return done{true}, keyProblem(k.Check(ctx, holderOf(who)))
		},
		"POST /v1/keys/rotate-root": func(ctx context.Context, who engine.Actor, _ *http.Request) (any, error) {
			return done{true}, keyProblem(k.RotateRoot(ctx, holderOf(who)))
		},
		"POST /v1/keys/renew": func(ctx context.Context, who engine.Actor, r *http.Request) (any, error) {
			var body Renewal
			if err := decode(r.Body, &body); err != nil {
				return nil, err
			}
			n, err := k.Renew(ctx, holderOf(who), body.Reseal)
			return Renewed{n}, keyProblem(err)
		},
		"POST /v1/keys/shred": func(ctx context.Context, who engine.Actor, r *http.Request) (any, error) {
			var body Shredding
			if err := decode(r.Body, &body); err != nil {
				return nil, err
			}
			ids, err := k.Shred(ctx, holderOf(who), body.Organisation, body.Purpose, body.Period)
			if ids == nil {
				ids = []seal.KeyID{}
			}
			return Shredded{ids}, keyProblem(err)
		},
		"POST /v1/keys/recovery": func(ctx context.Context, who engine.Actor, r *http.Request) (any, error) {
			var body CopyRequest
			if err := decode(r.Body, &body); err != nil {
				return nil, err
			}
			c, err := k.Copy(ctx, holderOf(who), body.Needed, body.Shares, body.Recipients)
			return c, keyProblem(err)
		},
		"POST /v1/keys/recovery/confirm": func(ctx context.Context, who engine.Actor, r *http.Request) (any, error) {
			var body Tried
			if err := decode(r.Body, &body); err != nil {
				return nil, err
			}
			return done{true}, keyProblem(k.Confirm(ctx, holderOf(who), body.Root))
		},
	}
}

func holderOf(who engine.Actor) seal.Actor {
	return seal.Actor{OSUser: who.OSUser, Program: who.Program}
}

// keyProblem gives the errors of package seal that are about the request their class. The root key's own errors are for the
// operator, who is the only one to reach this socket.
func keyProblem(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, seal.ErrBusy), errors.Is(err, seal.ErrNotOver), errors.Is(err, seal.ErrOtherRoot), errors.Is(err, seal.ErrNotLocal):
		return &Problem{Status: http.StatusConflict, Title: "not possible in the present state", Detail: err.Error()}
	case errors.Is(err, seal.ErrRoot):
		return &Problem{Status: http.StatusBadGateway, Title: "the root key does not answer", Detail: err.Error()}
	case errors.Is(err, seal.ErrRecovery):
		return bad(err.Error())
	}
	return err
}

// Keys tells all that is said about keys.
func (c *Client) Keys(ctx context.Context) (s seal.Status, err error) {
	return s, c.do(ctx, "GET", "/v1/keys", "", nil, &s)
}

// KeyWork tells how far a long work on keys is.
func (c *Client) KeyWork(ctx context.Context) (w seal.Work, err error) {
	return w, c.do(ctx, "GET", "/v1/keys/work", "", nil, &w)
}

// CheckRoot has the root key wrap and unwrap once.
func (c *Client) CheckRoot(ctx context.Context) error {
	return c.do(ctx, "POST", "/v1/keys/check", "", nil, nil)
}

// RotateRoot begins to put all data keys under a new root key.
func (c *Client) RotateRoot(ctx context.Context) error {
	return c.do(ctx, "POST", "/v1/keys/rotate-root", "", nil, nil)
}

// RenewKeys lets fresh data keys seal from now on.
func (c *Client) RenewKeys(ctx context.Context, r Renewal) (n Renewed, err error) {
	return n, c.do(ctx, "POST", "/v1/keys/renew", "", r, &n)
}

// ShredKeys destroys keys.
func (c *Client) ShredKeys(ctx context.Context, s Shredding) (gone Shredded, err error) {
	return gone, c.do(ctx, "POST", "/v1/keys/shred", "", s, &gone)
}

// CopyRoot hands out a recovery copy.
func (c *Client) CopyRoot(ctx context.Context, r CopyRequest) (out seal.Copy, err error) {
	return out, c.do(ctx, "POST", "/v1/keys/recovery", "", r, &out)
}

// ConfirmCopy puts on record that a recovery copy gave this root key.
func (c *Client) ConfirmCopy(ctx context.Context, root string) error {
	return c.do(ctx, "POST", "/v1/keys/recovery/confirm", "", Tried{root}, nil)
}
