package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/lazaret-health/lazaret/internal/db"
	"golang.org/x/mod/sumdb/tlog"
)

// leafVersion is the first byte of every leaf. Another encoding takes another number; old entries keep theirs.
const leafVersion = 1

const saltSize = 16

// A Record is an entry as the log keeps it.
type Record struct {
	Entry
	Seq         int64     // its place in the log, from 0
	ID          db.ID     // begins with Seq
	Time        time.Time // UTC, in microseconds
	PrivateHash []byte    // SHA-256 of what is sealed beside it; nil if nothing is

	salt [saltSize]byte
}

// appendLeaf writes what is hashed. Every part has a fixed width or its length before it, and all stand in a fixed order, so two
// records that differ in anything never write alike:
//
//	1   version
//	8   sequence, big endian
//	16  id
//	8   time, microseconds since 1970, two's complement, big endian
//	4   organisation, big endian
//	then, each with its length before it (unsigned LEB128, Go's uvarint):
//	event, action, result, resource type, resource id, user id, session, request (16 bytes or none), address (4, 16 or none),
//	user agent, purpose, program, operating system user, private hash (32 bytes or none), salt
//	then the number of details (uvarint) and, by key in byte order, for each: key with its length, kind (1 text, 2 whole number,
//	3 yes or no), and text with its length, 8 bytes of two's complement, or one byte 0 or 1
func (r *Record) appendLeaf(b []byte) []byte {
	b = append(b, leafVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Seq))
	b = append(b, r.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time.UnixMicro()))
	b = binary.BigEndian.AppendUint32(b, r.Org)
	b = appendText(b, string(r.Event))
	b = appendText(b, string(r.Action))
	b = appendText(b, string(r.Result))
	b = appendText(b, r.ResourceType)
	b = appendText(b, r.ResourceID)
	b = appendID(b, r.User)
	b = appendID(b, r.Session)
	b = appendID(b, r.Request)
	b = appendIP(b, r.IP)
	b = appendText(b, r.Agent)
	b = appendText(b, r.Purpose)
	b = appendText(b, r.Program)
	b = appendText(b, r.OSUser)
	b = binary.AppendUvarint(b, uint64(len(r.PrivateHash)))
	b = append(b, r.PrivateHash...)
	b = binary.AppendUvarint(b, saltSize)
	b = append(b, r.salt[:]...)
	b = binary.AppendUvarint(b, uint64(len(r.Details)))
	for _, d := range r.Details {
		b = appendText(b, d.key)
		b = append(b, d.kind)
		switch d.kind {
		case kindText:
			b = appendText(b, d.text)
		case kindInt:
			b = binary.BigEndian.AppendUint64(b, uint64(d.num))
		case kindBool:
			b = append(b, byte(d.num))
		}
	}
	return b
}

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendID(b []byte, id db.ID) []byte {
	if id.IsZero() {
		return append(b, 0)
	}
	b = append(b, byte(len(id)))
	return append(b, id[:]...)
}

func appendIP(b []byte, ip netip.Addr) []byte {
	if !ip.IsValid() {
		return append(b, 0)
	}
	raw := ip.AsSlice()
	b = append(b, byte(len(raw)))
	return append(b, raw...)
}

// leafHash is RFC 6962's hash of a leaf: SHA-256 over a zero byte and the leaf. buf is room to write in, and comes back.
func (r *Record) leafHash(buf []byte) (tlog.Hash, []byte) {
	buf = r.appendLeaf(append(buf[:0], 0))
	return sha256.Sum256(buf), buf
}

// appendDetails writes details as JSON text in the one form that we write: no blanks, by key, as little escaped as JSON allows.
func appendDetails(b []byte, ds []Detail) []byte {
	b = append(b, '{')
	for i, d := range ds {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendJSON(b, d.key)
		b = append(b, ':')
		switch d.kind {
		case kindInt:
			b = strconv.AppendInt(b, d.num, 10)
		case kindBool:
			b = strconv.AppendBool(b, d.num != 0)
		default:
			b = appendJSON(b, d.text)
		}
	}
	return append(b, '}')
}

func appendJSON(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

var errDetails = errors.New("details are not what the log writes")

// parseDetails reads what appendDetails wrote, or what PostgreSQL's jsonb made of it (blanks, its own order and escapes).
func parseDetails(s string) (ds []Detail, err error) {
	p := jsonText{s}
	if !p.eat('{') {
		return nil, errDetails
	}
	for !p.eat('}') {
		if len(ds) > 0 && !p.eat(',') {
			return nil, errDetails
		}
		var d Detail
		var ok bool
		if d.key, ok = p.str(); !ok || !p.eat(':') {
			return nil, errDetails
		}
		if d, ok = p.value(d); !ok {
			return nil, errDetails
		}
		ds = append(ds, d)
	}
	if p.s != "" || len(ds) == 0 {
		return nil, errDetails
	}
	return sorted(ds)
}

// jsonText is what is left to read of a flat JSON object.
type jsonText struct{ s string }

func (p *jsonText) eat(c byte) bool {
	p.s = strings.TrimLeft(p.s, " ")
	if p.s == "" || p.s[0] != c {
		return false
	}
	p.s = p.s[1:]
	return true
}

func (p *jsonText) str() (string, bool) {
	p.s = strings.TrimLeft(p.s, " ")
	if p.s == "" || p.s[0] != '"' {
		return "", false
	}
	for i := 1; i < len(p.s); i++ {
		switch p.s[i] {
		case '\\':
			i++
		case '"':
			token := p.s[:i+1]
			p.s = p.s[i+1:]
			if strings.IndexByte(token, '\\') < 0 {
				return token[1:i], true
			}
			var out string
			err := json.Unmarshal([]byte(token), &out)
			return out, err == nil
		}
	}
	return "", false
}

func (p *jsonText) value(d Detail) (Detail, bool) {
	p.s = strings.TrimLeft(p.s, " ")
	if p.s != "" && p.s[0] == '"' {
		text, ok := p.str()
		d.kind, d.text = kindText, text
		return d, ok
	}
	end := strings.IndexAny(p.s, " ,}")
	if end < 0 {
		return d, false
	}
	token := p.s[:end]
	p.s = p.s[end:]
	switch token {
	case "true":
		d.kind, d.num = kindBool, 1
	case "false":
		d.kind = kindBool
	default:
		n, err := strconv.ParseInt(token, 10, 64)
		if err != nil || strconv.FormatInt(n, 10) != token {
			return d, false
		}
		d.kind, d.num = kindInt, n
	}
	return d, true
}
