package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/engine"
)

// A Search says which messages are wanted: [engine.Query] as it travels, in a body and never in a URL.
type Search struct {
	Channel   string    `json:"channel,omitempty"`
	Status    string    `json:"status,omitempty"`
	Type      string    `json:"type,omitempty"`
	ControlID string    `json:"control_id,omitempty"`
	Patient   string    `json:"patient,omitempty"`
	From      time.Time `json:"from,omitzero"`
	To        time.Time `json:"to,omitzero"`
	Before    int64     `json:"before,omitempty"`
	Limit     int       `json:"limit,omitempty"`
}

// A Resend names the destinations; none means all.
type Resend struct {
	Destinations []string `json:"destinations,omitempty"`
}

// done is the answer of what has nothing to show.
type done struct {
	Done bool `json:"done"`
}

// channels lists what each channel does.
func (s *Server) channels(ctx context.Context, _ engine.Actor, _ *http.Request) (any, error) {
	return s.c.Engine.Channels(ctx)
}

func (s *Server) startChannel(ctx context.Context, who engine.Actor, r *http.Request) (any, error) {
	return done{true}, s.c.Engine.StartChannel(ctx, who, r.PathValue("channel"))
}

func (s *Server) stopChannel(ctx context.Context, who engine.Actor, r *http.Request) (any, error) {
	return done{true}, s.c.Engine.StopChannel(ctx, who, r.PathValue("channel"))
}

func (s *Server) pauseDestination(ctx context.Context, who engine.Actor, r *http.Request) (any, error) {
	return done{true}, s.c.Engine.PauseDestination(ctx, who, r.PathValue("channel"), r.PathValue("destination"))
}

func (s *Server) resumeDestination(ctx context.Context, who engine.Actor, r *http.Request) (any, error) {
	return done{true}, s.c.Engine.ResumeDestination(ctx, who, r.PathValue("channel"), r.PathValue("destination"))
}

// list searches. 404 for a channel that there is not.
func (s *Server) list(ctx context.Context, who engine.Actor, r *http.Request) (any, error) {
	var q Search
	if err := decode(r.Body, &q); err != nil {
		return nil, err
	}
	page, err := s.c.Engine.List(ctx, who, engine.Query{
		Channel: q.Channel, Status: q.Status, Type: q.Type, ControlID: q.ControlID, Patient: q.Patient,
		From: q.From, To: q.To, Before: q.Before, Limit: q.Limit,
	})
	if page.Messages == nil {
		page.Messages = []engine.Summary{} // a list in JSON, not null
	}
	return page, err
}

// showMessage hands content over, and only for a purpose.
func (s *Server) showMessage(ctx context.Context, who engine.Actor, r *http.Request) (any, error) {
	id, err := messageID(r)
	if err != nil {
		return nil, err
	}
	if who.Purpose == "" {
		return nil, bad("content is shown for a purpose of use only")
	}
	return s.c.Engine.Show(ctx, who, id)
}

// trace tells a message's way, without content.
func (s *Server) trace(ctx context.Context, who engine.Actor, r *http.Request) (any, error) {
	id, err := messageID(r)
	if err != nil {
		return nil, err
	}
	return s.c.Engine.Trace(ctx, who, id)
}

// resend queues a message again. 409 when the channel still refuses it.
func (s *Server) resend(ctx context.Context, who engine.Actor, r *http.Request) (any, error) {
	id, err := messageID(r)
	if err != nil {
		return nil, err
	}
	var body Resend
	if err := decode(r.Body, &body); err != nil {
		return nil, err
	}
	return s.c.Engine.Resend(ctx, who, id, body.Destinations)
}

// messageID reads the id in the path. One that is none is "not found" too: no id tells anything.
func messageID(r *http.Request) (db.ID, error) {
	id, err := db.ParseID(r.PathValue("id"))
	if err != nil {
		return id, &Problem{Status: http.StatusNotFound, Title: "not found", Detail: "that is no message's id"}
	}
	return id, nil
}

// decode reads a body strictly. Errors never quote it: it may name a patient.
func decode(body io.Reader, v any) error {
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		return err
	case err != nil:
		return bad("its body is not the JSON that this route takes; are command and service of one version?")
	case d.More():
		return bad("its body goes on behind the JSON")
	}
	return nil
}
