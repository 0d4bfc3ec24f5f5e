// Package control is how commands reach the running service until there are accounts: HTTP and JSON over a local socket that
// only its owner may open.
//
// The socket has mode 0600 and lies in a directory of mode 0700. That alone is not relied on: the kernel says who stands at
// the other end of each connection (SO_PEERCRED), anybody but the owner of the service and root is turned away, and the name of
// the operating system's user goes on record with what they do ([engine.Actor]). Where the kernel does not tell, nothing is
// served.
//
// Nothing about a patient stands in a URL, for URLs are logged: searches are POST. Errors are problem details (RFC 9457), made in
// one place from an error's class; a plain error becomes "internal" with a number that the service's log has too. Bodies are
// limited and decoded strictly.
//
// [Probes] are what monitoring asks: /healthz, /readyz, /metrics. They hold no names of people and may be served over TCP too,
// nothing else may.
package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/engine"
	"github.com/lazaret-health/lazaret/internal/retention"
	"github.com/lazaret-health/lazaret/internal/seal"
)

// maxBody bounds a request: a search or a few names.
const maxBody = 1 << 16

// Config is what a Server needs. All fields but Retention are required.
type Config struct {
	Engine *engine.Engine
	// Retention carries out the policy; nil: its routes are not there.
	Retention *retention.Keeper
	// Keys keeps the keys; nil: its routes are not there. Host is what the program says of its process beside them.
	Keys   *seal.Keeper
	Host   map[string]string
	Probes *Probes
	Owner  uint32 // the user who may connect, beside root (0)
	Log    *slog.Logger
	Now    func() time.Time
	Rand   io.Reader // for the numbers of requests
}

// A Server answers commands.
type Server struct {
	c    Config
	http *http.Server
}

// New makes a server. It listens to nothing yet.
func New(c Config) (*Server, error) {
	if c.Engine == nil || c.Probes == nil || c.Log == nil || c.Now == nil || c.Rand == nil {
		return nil, errors.New("control: Engine, Probes, Log, Now and Rand must be given")
	}
	s := &Server{c: c}
	s.http = &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      2 * time.Minute, // a search through years may take a while
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    1 << 14,
		ErrorLog:          slog.NewLogLogger(c.Log.Handler(), slog.LevelWarn),
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			if c, ok := nc.(*conn); ok {
				ctx = context.WithValue(ctx, userKey{}, c.user)
			}
			return ctx
		},
	}
	return s, nil
}

type userKey struct{}

// Serve answers what comes through ln, which is from [Listen], until ctx ends. Requests under way are finished.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	return serve(ctx, s.http, &guard{Listener: ln, owner: s.c.Owner, log: s.c.Log})
}

// serve runs a server until ctx ends, and waits for what is under way.
func serve(ctx context.Context, srv *http.Server, ln net.Listener) error {
	done := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		done <- srv.Shutdown(limit)
	})
	err := srv.Serve(ln)
	if stop() { // it ended by itself
		return fmt.Errorf("control: %w", err)
	}
	return <-done
}

// An action is what a route does. What it returns is written as JSON in one place, and so is its error.
type action func(ctx context.Context, who engine.Actor, r *http.Request) (any, error)

func (s *Server) routes() http.Handler {
	m := http.NewServeMux()
	for pattern, act := range map[string]action{
		"GET /v1/channels":                                              s.channels,
		"POST /v1/channels/{channel}/start":                             s.startChannel,
		"POST /v1/channels/{channel}/stop":                              s.stopChannel,
		"POST /v1/channels/{channel}/destinations/{destination}/pause":  s.pauseDestination,
		"POST /v1/channels/{channel}/destinations/{destination}/resume": s.resumeDestination,
		"POST /v1/messages/search":                                      s.list,
		"POST /v1/messages/{id}/show":                                   s.showMessage,
		"POST /v1/messages/{id}/trace":                                  s.trace,
		"POST /v1/messages/{id}/resend":                                 s.resend,
	} {
		m.Handle(pattern, s.handler(act))
	}
	for pattern, act := range s.retentionRoutes() {
		m.Handle(pattern, s.handler(act))
	}
	for pattern, act := range s.keyRoutes() {
		m.Handle(pattern, s.handler(act))
	}
	s.c.Probes.mount(m)
	return m
}

// handler finds out who asks, runs the action, and writes its result.
func (s *Server) handler(act action) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request := db.NewID(s.c.Now(), s.c.Rand)
		user, known := r.Context().Value(userKey{}).(string)
		if !known {
			s.refuse(w, request, &Problem{Status: http.StatusForbidden, Title: "the kernel does not say who asks"})
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		who := engine.Actor{OSUser: user, Program: program(r.UserAgent()), Purpose: r.Header.Get(purposeHeader)}
		if who.Purpose != "" && !validPurpose(who.Purpose) {
			s.refuse(w, request, &Problem{Status: http.StatusBadRequest, Title: "unknown purpose of use", Detail: "one of " + strings.Join(Purposes(), ", ")})
			return
		}
		result, err := act(r.Context(), who, r)
		if err != nil {
			s.refuse(w, request, s.problem(err, request, r))
			return
		}
		writeJSON(w, http.StatusOK, "application/json", result)
	})
}

// purposeHeader carries the purpose of use, so that every request may have one.
const purposeHeader = "Lazaret-Purpose"

// program is what the asking command calls itself, in letters that may stand anywhere.
func program(agent string) string {
	clean := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.ContainsRune(" ./-_", c):
			return c
		}
		return -1
	}, agent)
	return clean[:min(len(clean), 64)]
}

// Purposes are the purposes of use that may be given: HL7 PurposeOfUse (v3 code system ActReason), as far as an interface
// engine's content is read for them.
func Purposes() []string {
	return []string{"TREAT", "ETREAT", "CAREMGT", "HPAYMT", "HOPERAT", "HSYSADMIN", "HRESCH", "PUBHLTH", "PATRQT", "BTG"}
}

func validPurpose(p string) bool {
	for _, known := range Purposes() {
		if p == known {
			return true
		}
	}
	return false
}
