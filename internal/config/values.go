package config

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// A setting reads itself from a file and describes itself in JSON Schema, side by side, so that both say the same.
type setting interface {
	read(r *reader, n *yaml.Node, key string)
	schema() map[string]any
}

// Text is a scalar as it is written: 2.3, 0123 and true are these characters, not a number or a truth.
type Text string

// Size is a number of bytes. It is written as 16MiB, 64KiB, 1GiB, 500kB, or as a plain number of bytes.
type Size int64

// File is a path. It is written as file:PATH or as PATH; a relative one starts at the configuration's folder.
type File string

// Address is HOST:PORT to listen on. No host means all addresses, port 0 any free port.
type Address string

// Endpoint is HOST:PORT to connect to.
type Endpoint string

// GiveUp says after which time or how many attempts a delivery is set aside. The zero value is never.
type GiveUp struct {
	After    time.Duration
	Attempts int
}

var sizeUnits = []struct {
	name  string
	bytes float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// The forms of values: Load and the schema hold a text against the same.
const (
	sizePattern     = `^[0-9]{1,18}(\.[0-9]{1,9})? ?([KMGT]iB|[kKMGT]?B)?$`
	timePart        = `[0-9]{1,9}(\.[0-9]{1,9})?(ns|us|µs|ms|s|m|h)`
	durationPattern = `[0-9]{1,5}d(` + timePart + `)*|(` + timePart + `)+`
	attemptsPattern = `[1-9][0-9]{0,5} attempts?`
	hostPattern     = `[^\s:\[\]/@?#]`
	prefixPattern   = `^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$`
	addressPattern  = `^(\[[^\s\[\]/@?#]+\]|` + hostPattern + `*):[0-9]{1,5}$`
	endpointPattern = `^(\[[^\s\[\]/@?#]+\]|` + hostPattern + `+):[0-9]{1,5}$`
	filePattern     = `^(file:[^\r\n\x00]+|[./][^\r\n\x00]*|[^:\r\n\x00]+)$`
)

func (r *reader) parseSize(s string) (Size, bool) {
	if !r.matches(sizePattern, s) {
		return 0, false
	}
	factor := 1.0
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(s, u.name); ok {
			s, factor = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f*factor >= math.MaxInt64/2 {
		return 0, false
	}
	return Size(f * factor), true
}

// String writes the size in the largest unit that divides it.
func (s Size) String() string {
	for i := 3; i >= 0; i-- {
		if u := sizeUnits[i]; s != 0 && s%Size(u.bytes) == 0 {
			return strconv.FormatInt(int64(s)/int64(u.bytes), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

func (s *Size) read(r *reader, n *yaml.Node, key string) {
	text, ok := r.scalar(n, key, "a size", `write a size, such as "16MiB"`)
	if !ok {
		return
	}
	v, ok := r.parseSize(text)
	if !ok || v <= 0 {
		r.fail(n, key, "is not a size", `write a number with KiB, MiB or GiB, such as "16MiB"`)
		return
	}
	*s = v
}

func (*Size) schema() map[string]any {
	return map[string]any{
		"title": "size", "type": []any{"string", "integer"}, "minimum": 1,
		"pattern": sizePattern,
	}
}

// parseDuration reads what time.ParseDuration does, and days: 7d, 1d12h.
func (r *reader) parseDuration(s string) (time.Duration, bool) {
	if !r.matches(`^(`+durationPattern+`)$`, s) {
		return 0, false
	}
	var days time.Duration
	if before, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(before, 10, 16)
		if err != nil {
			return 0, false
		}
		days, s = time.Duration(n)*24*time.Hour, after // 65,535 days fit
		if s == "" {
			return days, true
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d > math.MaxInt64-days {
		return 0, false
	}
	return days + d, true
}

// writeDuration is the shortest form that parseDuration reads.
func writeDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func durationSchema(words string) map[string]any {
	if words != "" {
		words += "|"
	}
	return map[string]any{"title": "time", "type": "string", "pattern": `^(` + words + durationPattern + `)$`}
}

func (g *GiveUp) read(r *reader, n *yaml.Node, key string) {
	const next = `write a time such as "24h", a number such as "10 attempts", or "none"`
	text, ok := r.scalar(n, key, "a time or a number of attempts", next)
	if !ok || text == "none" {
		return
	}
	if r.matches(`^(`+attemptsPattern+`)$`, text) {
		number, _, _ := strings.Cut(text, " ")
		g.Attempts, _ = strconv.Atoi(number) // six digits at most
		return
	}
	if d, ok := r.parseDuration(text); ok && d > 0 {
		g.After = d
		return
	}
	r.fail(n, key, "is neither a time nor a number of attempts", next)
}

func (*GiveUp) schema() map[string]any {
	s := durationSchema(`none|` + attemptsPattern)
	s["title"] = "time, or number of attempts"
	return s
}

// String is the form that the file has.
func (g GiveUp) String() string {
	switch {
	case g.Attempts == 1:
		return "1 attempt"
	case g.Attempts > 0:
		return fmt.Sprintf("%d attempts", g.Attempts)
	case g.After > 0:
		return writeDuration(g.After)
	}
	return "none"
}

func (f *File) read(r *reader, n *yaml.Node, key string) {
	const next = "write file:PATH; a relative path starts at the configuration's folder"
	text, ok := r.scalar(n, key, "a path", next)
	if !ok {
		return
	}
	switch {
	case strings.Contains(text, "-----BEGIN") || strings.Contains(text, "\n"):
		r.fail(n, key, "is not a path, but seems to hold what the file should", "put it into a file, and "+next)
	case text == "" || text == "file:":
		r.fail(n, key, "is an empty path", next)
	case !r.matches(filePattern, text):
		r.fail(n, key, "is not a file: only file:PATH is read here", next)
	default:
		*f = File(strings.TrimPrefix(text, "file:"))
	}
}

func (*File) schema() map[string]any {
	return map[string]any{"title": "path", "type": "string", "pattern": filePattern}
}

func (a *Address) read(r *reader, n *yaml.Node, key string) {
	const next = `write HOST:PORT, or ":2575" for all addresses`
	if text, ok := r.scalar(n, key, "an address", next); ok {
		if _, _, ok := splitAddress(text); !ok || !r.matches(addressPattern, text) {
			r.fail(n, key, "is not an address to listen on", next)
			return
		}
		*a = Address(text)
	}
}

func (*Address) schema() map[string]any {
	return map[string]any{"title": "address to listen on", "type": "string", "pattern": addressPattern}
}

func (e *Endpoint) read(r *reader, n *yaml.Node, key string) {
	const next = `write HOST:PORT, such as "lab.example:2575"`
	if text, ok := r.scalar(n, key, "an address", next); ok {
		if host, port, ok := splitAddress(text); !ok || port == 0 || host == "" || !r.matches(endpointPattern, text) {
			r.fail(n, key, "is not an address to connect to", next)
			return
		}
		*e = Endpoint(text)
	}
}

func (*Endpoint) schema() map[string]any {
	return map[string]any{"title": "address to connect to", "type": "string", "pattern": endpointPattern}
}

func splitAddress(s string) (host string, port uint16, ok bool) {
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, false
	}
	if strings.Contains(host, ":") {
		if _, err := netip.ParseAddr(host); err != nil {
			return "", 0, false
		}
	}
	v, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return "", 0, false
	}
	return host, uint16(v), true
}

// loopback says whether an address can be reached from this machine alone.
func loopback(hostport string) bool {
	host, _, ok := splitAddress(hostport)
	if !ok {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
