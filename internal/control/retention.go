package control

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/lazaret-health/lazaret/internal/engine"
	"github.com/lazaret-health/lazaret/internal/retention"
)

// A Release says why a hold ends.
type Release struct {
	Reason string `json:"reason"`
}

// retentionRoutes are there where somebody keeps the policy.
func (s *Server) retentionRoutes() map[string]action {
	k := s.c.Retention
	if k == nil {
		return nil
	}
	return map[string]action{
		"GET /v1/retention/plan": func(ctx context.Context, _ engine.Actor, _ *http.Request) (any, error) {
			return k.Plan(ctx)
		},
		"GET /v1/retention/progress": func(context.Context, engine.Actor, *http.Request) (any, error) {
			return k.Progress(), nil
		},
		// run starts; progress tells what became of it.
		"POST /v1/retention/run": func(_ context.Context, who engine.Actor, _ *http.Request) (any, error) {
			return k.Progress(), retentionProblem(k.Start(keeperOf(who)))
		},
		"GET /v1/retention/certificates": func(ctx context.Context, _ engine.Actor, _ *http.Request) (any, error) {
			return k.Certificates(ctx)
		},
		"GET /v1/retention/holds": func(ctx context.Context, _ engine.Actor, r *http.Request) (any, error) {
			return k.Holds(ctx, r.URL.Query().Get("all") == "true")
		},
		"POST /v1/retention/holds": func(ctx context.Context, who engine.Actor, r *http.Request) (any, error) {
			var h retention.HoldRequest
			if err := decode(r.Body, &h); err != nil {
				return nil, err
			}
			result, err := k.AddHold(ctx, keeperOf(who), h)
			return result, retentionProblem(err)
		},
		"POST /v1/retention/holds/{id}/release": func(ctx context.Context, who engine.Actor, r *http.Request) (any, error) {
			var body Release
			if err := decode(r.Body, &body); err != nil {
				return nil, err
			}
			return done{true}, retentionProblem(k.ReleaseHold(ctx, keeperOf(who), r.PathValue("id"), body.Reason))
		},
	}
}

func keeperOf(who engine.Actor) retention.Actor {
	return retention.Actor{OSUser: who.OSUser, Program: who.Program}
}

// retentionProblem gives the errors of package retention their class.
func retentionProblem(err error) error {
	switch {
	case errors.Is(err, retention.ErrNotFound):
		return &Problem{Status: http.StatusNotFound, Title: "not found", Detail: detailOf(err, retention.ErrNotFound)}
	case errors.Is(err, retention.ErrConflict):
		return &Problem{Status: http.StatusConflict, Title: "not possible in the present state", Detail: detailOf(err, retention.ErrConflict)}
	}
	return err
}

// RetentionPlan tells what a run would do now.
func (c *Client) RetentionPlan(ctx context.Context) (p retention.Plan, err error) {
	return p, c.do(ctx, "GET", "/v1/retention/plan", "", nil, &p)
}

// RetentionProgress tells what a run does now, or did last.
func (c *Client) RetentionProgress(ctx context.Context) (p retention.Progress, err error) {
	return p, c.do(ctx, "GET", "/v1/retention/progress", "", nil, &p)
}

// RunRetention starts a run, and returns the progress from before it.
func (c *Client) RunRetention(ctx context.Context) (before retention.Progress, err error) {
	return before, c.do(ctx, "POST", "/v1/retention/run", "", nil, &before)
}

// Certificates lists the certificates of disposal, oldest first.
func (c *Client) Certificates(ctx context.Context) (list []retention.Certificate, err error) {
	return list, c.do(ctx, "GET", "/v1/retention/certificates", "", nil, &list)
}

// Holds lists the active holds, or with all every one that ever was.
func (c *Client) Holds(ctx context.Context, all bool) (list []retention.Hold, err error) {
	path := "/v1/retention/holds"
	if all {
		path += "?all=true"
	}
	return list, c.do(ctx, "GET", path, "", nil, &list)
}

// AddHold holds messages from disposal.
func (c *Client) AddHold(ctx context.Context, r retention.HoldRequest) (h retention.HoldResult, err error) {
	return h, c.do(ctx, "POST", "/v1/retention/holds", "", r, &h)
}

// ReleaseHold ends a hold.
func (c *Client) ReleaseHold(ctx context.Context, id, reason string) error {
	return c.do(ctx, "POST", "/v1/retention/holds/"+url.PathEscape(id)+"/release", "", Release{reason}, nil)
}
