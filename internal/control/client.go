package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"strings"
)

// ErrUnreachable says that no service answers at the socket.
var ErrUnreachable = errors.New("the service does not answer")

// maxAnswer bounds an answer: a message with a large document, as base64, and its tree.
const maxAnswer = 256 << 20

// A Client speaks to the service of one socket.
type Client struct {
	path    string
	program string
	http    *http.Client
}

// Dial makes a client for the socket at path. program is what goes on record as having asked: "lazaret message show". It
// connects when it is first used.
func Dial(path, program string) *Client {
	return &Client{path: path, program: program, http: &http.Client{Transport: &http.Transport{
		DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			name, release, err := shorten(path)
			if err != nil {
				return nil, err
			}
			defer release()
			var d net.Dialer
			return d.DialContext(ctx, "unix", name)
		},
	}}}
}

// Close lets go of the connection.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Ready asks whether the service is up, with all its sources listening.
func (c *Client) Ready(ctx context.Context) error {
	return c.do(ctx, "GET", "/readyz", "", nil, nil)
}

// do asks and decodes the answer into out. An error of the service is a *Problem.
func (c *Client) do(ctx context.Context, method, path, purpose string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://lazaret"+path, body)
	if err != nil {
		return err
	}
	r.Header.Set("User-Agent", c.program)
	r.Header.Set("Content-Type", "application/json")
	if purpose != "" {
		r.Header.Set(purposeHeader, purpose)
	}
	answer, err := c.http.Do(r)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the control socket %s may be opened by its owner only: %w", c.path, fs.ErrPermission)
	case errors.Is(err, io.EOF), err != nil && strings.Contains(err.Error(), "connection reset"):
		return fmt.Errorf("%w for this user at %s: its owner and root may ask", ErrUnreachable, c.path)
	case err != nil:
		return fmt.Errorf("%w at %s", ErrUnreachable, c.path)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the service's answer: %w", err)
	}
	if answer.StatusCode >= 300 {
		return readProblem(answer, text)
	}
	switch out := out.(type) {
	case nil:
		return nil
	case *string: // what is no JSON
		*out = string(text)
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("the service's answer does not read; is it of another version? %w", err)
	}
	return nil
}

func readProblem(answer *http.Response, text []byte) error {
	kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	p := &Problem{}
	if kind != "application/problem+json" || json.Unmarshal(text, p) != nil {
		p = &Problem{Title: "the service answered " + answer.Status}
	}
	p.Status = answer.StatusCode
	return p
}
