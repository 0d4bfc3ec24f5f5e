package audit

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"math"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/lazaret-health/lazaret/internal/db"
	"golang.org/x/mod/sumdb/tlog"
)

var update = flag.Bool("update", false, "write testdata/leaves.json anew")

// A vector is a record and what is hashed of it, for this program's later versions and for other programs.
type vector struct {
	Name    string
	Record  map[string]any
	Details [][]any // key, value
	Leaf    string  // hexadecimal
	Hash    string  // RFC 6962 leaf hash, hexadecimal
}

func vectors() []vector {
	at := time.Date(2026, 11, 25, 9, 0, 0, 123456000, time.UTC)
	salt := [saltSize]byte{0xA0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	bare := Record{Entry: Entry{Event: ServiceStarted, Action: Execute, Result: Success}, Time: at, salt: salt, ID: makeID(0, make([]byte, 10))}
	full := Record{Seq: 1<<40 + 7, Time: time.UnixMicro(-1).UTC(), salt: salt, PrivateHash: bytes.Repeat([]byte{0xEE}, 32), Entry: Entry{
		Event: ContentRead, Action: Read, Result: MinorFailure, Org: math.MaxUint32, User: db.ID{1}, Program: "adt-in", OSUser: "operator",
		Purpose: "TREAT", Session: db.ID{2}, Request: db.ID{3}, IP: netip.MustParseAddr("2001:db8::17"), Agent: "invented/1.0 ü",
		ResourceType: "message", ResourceID: "0193e0a0-0000-7000-8000-000000000001",
		Details: []Detail{Bool("broken", false), Int("bytes", -5), Bool("flagged", true), Text("type", "ADT^A01")},
	}}
	full.ID = makeID(full.Seq, bytes.Repeat([]byte{0xFF}, 10))
	v4 := bare
	v4.IP, v4.Seq, v4.ID = netip.MustParseAddr("192.0.2.17"), 1, makeID(1, make([]byte, 10))
	long := bare
	long.Agent = strings.Repeat("x", 300)
	var out []vector
	for _, c := range []struct {
		name string
		r    Record
	}{{"nothing but what is required", bare}, {"everything", full}, {"an IPv4 address", v4}, {"a length of two bytes", long}} {
		leaf := c.r.appendLeaf(nil)
		hash, _ := c.r.leafHash(nil)
		v := vector{Name: c.name, Leaf: hex.EncodeToString(leaf), Hash: hex.EncodeToString(hash[:]), Record: map[string]any{
			"seq": c.r.Seq, "id": c.r.ID.String(), "unix_micro": c.r.Time.UnixMicro(), "organisation": c.r.Org, "event": c.r.Event, "action": c.r.Action,
			"result": c.r.Result, "resource_type": c.r.ResourceType, "resource_id": c.r.ResourceID, "user": hex.EncodeToString(idBytes(c.r.User)),
			"session": hex.EncodeToString(idBytes(c.r.Session)), "request": hex.EncodeToString(idBytes(c.r.Request)), "ip": ipText(c.r.IP),
			"agent": c.r.Agent, "purpose": c.r.Purpose, "program": c.r.Program, "os_user": c.r.OSUser,
			"private_hash": hex.EncodeToString(c.r.PrivateHash), "salt": hex.EncodeToString(c.r.salt[:]),
		}}
		for _, d := range c.r.Details {
			v.Details = append(v.Details, []any{d.Key(), d.Value()})
		}
		out = append(out, v)
	}
	return out
}

func idBytes(id db.ID) []byte {
	if id.IsZero() {
		return nil
	}
	return id[:]
}

func ipText(ip netip.Addr) string {
	if !ip.IsValid() {
		return ""
	}
	return ip.String()
}

// Old logs must verify for ever: what is hashed never changes under one version number.
func TestLeafVectors(t *testing.T) {
	const path = "testdata/leaves.json"
	got, err := json.MarshalIndent(vectors(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the leaf encoding changed; every log written so far would stop verifying. got\n%s", got)
	}
	for _, v := range vectors() { // the hash by another hand
		leaf, _ := hex.DecodeString(v.Leaf)
		if h := tlog.RecordHash(leaf); hex.EncodeToString(h[:]) != v.Hash {
			t.Errorf("%s: hash is not RFC 6962's", v.Name)
		}
	}
}

// A leafReader is a second, slow reading of the format that appendLeaf documents. That it gives back the record shows that no two
// records write alike.
type leafReader struct {
	b   []byte
	err error
}

func (r *leafReader) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.b) {
		r.err = errors.New("cut")
		return make([]byte, max(n, 0))
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *leafReader) lengthOf() int {
	n, size := binary.Uvarint(r.b)
	if size <= 0 || n > 1<<20 {
		r.err = errors.New("no length")
		return 0
	}
	r.take(size)
	return int(n)
}

func (r *leafReader) text() string { return string(r.take(r.lengthOf())) }

func (r *leafReader) id() (id db.ID) {
	if n := r.lengthOf(); n > 0 {
		copy(id[:], r.take(n))
	}
	return id
}

func readLeaf(b []byte) (out Record, err error) {
	r := &leafReader{b: b}
	if r.take(1)[0] != leafVersion {
		return out, errors.New("another version")
	}
	out.Seq = int64(binary.BigEndian.Uint64(r.take(8)))
	copy(out.ID[:], r.take(16))
	out.Time = time.UnixMicro(int64(binary.BigEndian.Uint64(r.take(8)))).UTC()
	out.Org = binary.BigEndian.Uint32(r.take(4))
	out.Event, out.Action, out.Result = Event(r.text()), Action(r.text()), Result(r.text())
	out.ResourceType, out.ResourceID = r.text(), r.text()
	out.User, out.Session, out.Request = r.id(), r.id(), r.id()
	if raw := r.take(r.lengthOf()); len(raw) > 0 {
		out.IP, _ = netip.AddrFromSlice(raw)
	}
	out.Agent, out.Purpose, out.Program, out.OSUser = r.text(), r.text(), r.text(), r.text()
	if n := r.lengthOf(); n > 0 {
		out.PrivateHash = r.take(n)
	}
	copy(out.salt[:], r.take(r.lengthOf()))
	for range r.lengthOf() {
		d := Detail{key: r.text(), kind: r.take(1)[0]}
		switch d.kind {
		case kindText:
			d.text = r.text()
		case kindInt:
			d.num = int64(binary.BigEndian.Uint64(r.take(8)))
		case kindBool:
			d.num = int64(r.take(1)[0])
		}
		out.Details = append(out.Details, d)
	}
	if len(r.b) > 0 && r.err == nil {
		r.err = errors.New("something is left")
	}
	return out, r.err
}

func FuzzLeafTellsRecordsApart(f *testing.F) {
	f.Add(int64(0), int64(0), uint32(0), "e", "a", "r", "", "", []byte{}, []byte{}, "", "", "", "", "k", "v", int64(1), true, byte(0))
	f.Add(int64(7), int64(-1), uint32(9), "ab", "c", "", "a", "bc", []byte{1}, []byte{192, 0, 2, 1}, "x", "\x00", "\x01", "\xff", "", "", int64(-1), false, byte(7))
	f.Add(int64(1)<<47, int64(1)<<50, uint32(1)<<31, "", "", "", "", "", make([]byte, 16), make([]byte, 16), strings.Repeat("y", 200), "", "", "", "k", "", int64(math.MinInt64), true, byte(3))
	f.Fuzz(func(t *testing.T, seq, at int64, org uint32, event, action, result, kind, resource string, id, ip []byte, agent, purpose, program, user, key, text string, num int64, yes bool, has byte) {
		in := Record{Seq: seq, Time: time.UnixMicro(at).UTC(), Entry: Entry{Event: Event(event), Action: Action(action), Result: Result(result), Org: org,
			ResourceType: kind, ResourceID: resource, Agent: agent, Purpose: purpose, Program: program, OSUser: user}}
		copy(in.ID[:], id)
		copy(in.salt[:], ip)
		if has&1 != 0 {
			copy(in.User[:], id)
		}
		if has&2 != 0 {
			copy(in.Session[:], id)
		}
		if has&4 != 0 {
			copy(in.Request[:], ip)
		}
		in.IP, _ = netip.AddrFromSlice(ip)
		if has&8 != 0 {
			in.PrivateHash = bytes.Repeat([]byte{has}, 32)
		}
		if has&16 != 0 {
			in.Details = append(in.Details, Detail{key: key, kind: kindText, text: text})
		}
		if has&32 != 0 {
			in.Details = append(in.Details, Int(key, num), Bool(text, yes))
		}
		out, err := readLeaf(in.appendLeaf(nil))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(in, out) {
			t.Fatalf("wrote\n%+v\nread\n%+v", in, out)
		}
	})
}

// FuzzDetails holds our own JSON against encoding/json: what we write it reads alike, and what it and jsonb write we read alike.
func FuzzDetails(f *testing.F) {
	f.Add("a", "b", "text", int64(5), true)
	f.Add("\x01\"\\", "\u2028<&>", "漢\U0001F3E5\x7f", int64(math.MinInt64), false)
	f.Fuzz(func(t *testing.T, k1, k2, text string, num int64, yes bool) {
		if !keepable(k1) || !keepable(k2) || k1 == k2 {
			return
		}
		ds, err := sorted([]Detail{Text(k1, text), Int(k2, num), Bool(k1+k2+"!", yes)})
		if err != nil {
			return
		}
		if !utf8.ValidString(ds[0].text) || len(ds[0].text) > maxDetailText {
			t.Fatal("a text that no database keeps")
		}
		ours := appendDetails(nil, ds)
		back, err := parseDetails(string(ours))
		if err != nil || !reflect.DeepEqual(back, ds) {
			t.Fatalf("%s came back as %+v, %v", ours, back, err)
		}
		d := json.NewDecoder(bytes.NewReader(ours))
		d.UseNumber()
		var m map[string]any
		if err := d.Decode(&m); err != nil || len(m) != 3 {
			t.Fatalf("%s: encoding/json reads %d values, %v", ours, len(m), err)
		}
		for _, indent := range []string{"", " "} {
			theirs, err := json.MarshalIndent(m, "", indent)
			if err != nil {
				t.Fatal(err)
			}
			back, err := parseDetails(strings.ReplaceAll(string(theirs), "\n", ""))
			if err != nil || !reflect.DeepEqual(back, ds) {
				t.Fatalf("%s came back as %+v, %v", theirs, back, err)
			}
		}
	})
}

func TestDetailsThatTheLogDoesNotWrite(t *testing.T) {
	for _, s := range []string{"", "{}", "null", "[]", `{"a":1.0}`, `{"a":1e3}`, `{"a":01}`, `{"a":-0}`, `{"a":null}`, `{"a":{}}`, `{"a":[1]}`,
		`{"a":1,"a":1}`, `{"a":1}x`, `{"a":1`, `{"a"1}`, `{a:1}`, `{"a":"x}`, `{"a":1 "b":2}`, `{"a":9223372036854775808}`, `{"a":TRUE}`, `{"a":"\x"}`} {
		if ds, err := parseDetails(s); err == nil {
			t.Errorf("%s was read as %+v", s, ds)
		}
	}
}

func TestEveryEventIsFiledWithDICOM(t *testing.T) {
	seen := map[Event]bool{}
	for _, e := range []Event{ServiceStarted, ServiceStopped, ConfigLoaded, KeyCreated, ClockStepped, AuditFailed, AuditLogUsed, MessageAccepted,
		MessageFiltered, MessageRejected, MessageDuplicate, MessageResent, DeliveryFiltered, DeliverySent, DeliveryRetried, DeliveryRefused,
		DeliverySkipped, DeliveryHeld, ContentRead, Searched, ChannelStarted, ChannelStopped, ChannelPaused, ChannelResumed, DestinationStarted,
		DestinationStopped, DestinationPaused, DestinationResumed, ConnectionRefused, SettingChanged, RestrictedFunctionRun} {
		if len(e.DICOM()) != 6 || seen[e] || len(e) > maxEvent {
			t.Errorf("event %s: code %q, or given twice, or too long", e, e.DICOM())
		}
		seen[e] = true
	}
	if Event("other").DICOM() != "" {
		t.Error("an unknown event has a code")
	}
}

func TestLegible(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"what fits stays", "abcü漢", "abcü漢"},
		{"a character is not cut in two", "abcdefg漢", "abcdefg"},
		{"nor one of four bytes", "abcde\U0001F3E5", "abcde"},
		{"NUL and bytes that are no UTF-8 are replaced", "a\x00\xff", "a\uFFFD\uFFFD"},
		{"and the replacements keep to the limit", "\xff\x00\xff\x00\xff\x00", "\uFFFD\uFFFD"},
		{"bytes that begin no character", strings.Repeat("\x80", 20), "\uFFFD"},
	} {
		if got := legible(c.in, 8); got != c.want || len(got) > 8 || !utf8.ValidString(got) {
			t.Errorf("%s: %q became %q, want %q", c.name, c.in, got, c.want)
		}
	}
}
