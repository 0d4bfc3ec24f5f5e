package control

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/engine"
	"github.com/lazaret-health/lazaret/internal/seal"
)

// A Problem is an error as it travels (RFC 9457). Its texts are ours: they repeat nothing of a message.
type Problem struct {
	Status   int    `json:"status"`
	Title    string `json:"title"`
	Detail   string `json:"detail,omitempty"`
	Instance string `json:"instance,omitempty"` // urn:uuid:..., as in the service's log
}

func (p *Problem) Error() string {
	if p.Detail != "" {
		return p.Title + ": " + p.Detail
	}
	return p.Title
}

// bad says that a request is wrong.
func bad(detail string) error {
	return &Problem{Status: http.StatusBadRequest, Title: "the request is wrong", Detail: detail}
}

// problem gives an error its class. A class tells a stranger enough; only those of the engine's errors that are about the
// request itself carry their text.
func (s *Server) problem(err error, request db.ID, r *http.Request) *Problem {
	var p *Problem
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &long):
		return &Problem{Status: http.StatusRequestEntityTooLarge, Title: "the request is too long"}
	case errors.Is(err, engine.ErrNotFound):
		return &Problem{Status: http.StatusNotFound, Title: "not found", Detail: detailOf(err, engine.ErrNotFound)}
	case errors.Is(err, engine.ErrConflict):
		return &Problem{Status: http.StatusConflict, Title: "not possible in the present state", Detail: detailOf(err, engine.ErrConflict)}
	case errors.Is(err, seal.ErrKeyMissing):
		return &Problem{Status: http.StatusGone, Title: "the content can no longer be opened", Detail: "its data key is not in the key store"}
	case errors.Is(err, db.ErrStopped), errors.Is(err, db.ErrFull):
		return &Problem{Status: http.StatusServiceUnavailable, Title: "the database takes no more writes", Detail: "see the service's log"}
	}
	s.c.Log.Error("control: a request failed", "request", request, "route", r.Pattern, "error", err)
	return &Problem{Status: http.StatusInternalServerError, Title: "internal error", Detail: "the service's log has it under request " + request.String()}
}

// detailOf is what an error says beyond its class.
func detailOf(err, class error) string {
	return strings.TrimSuffix(strings.TrimSuffix(err.Error(), class.Error()), ": ")
}

func (s *Server) refuse(w http.ResponseWriter, request db.ID, p *Problem) {
	p.Instance = "urn:uuid:" + request.String()
	writeJSON(w, p.Status, "application/problem+json", p)
}

func writeJSON(w http.ResponseWriter, status int, kind string, v any) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a peer that is gone gets nothing
}
