package audit

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/lazaret-health/lazaret/internal/db"
)

// An Entry is one act, as whoever did it describes it. Place, time and id come from the log. It never holds PHI in the clear:
// what is PHI is sealed beside it (Private).
type Entry struct {
	Event  Event
	Action Action
	Result Result

	Org     uint32     // organisation; 0 is the installation itself
	User    db.ID      // the person, if there is one
	Program string     // what acted: "lazaret serve", a channel, an API client
	OSUser  string     // who at the operating system, for what comes through the local socket
	Purpose string     // purpose of use, HL7 PurposeOfUse
	Session db.ID      // sign-in, or connection
	Request db.ID      // ties the entries of one request together
	IP      netip.Addr // where from
	Agent   string     // what the far side calls itself; cut to 512 bytes, for it is a stranger's word

	ResourceType string // "message", "delivery", "channel"
	ResourceID   string

	Details []Detail // any order; no key twice
	Private *Private // from Log.Seal
}

// Lengths of the guide's columns and of ours, in characters, as PostgreSQL counts VARCHAR.
const (
	maxEvent        = 50
	maxResourceType = 50
	maxResourceID   = 255
	maxAction       = 50
	maxResult       = 20
	maxPurpose      = 20
	maxProgram      = 100
	maxOSUser       = 100
)

const (
	maxAgent      = 512  // bytes
	maxDetailText = 1024 // bytes
	maxDetails    = 64
)

// A Detail is a name and a value: text, a whole number, or yes and no. Nothing else survives both databases unchanged.
type Detail struct {
	key  string
	kind byte // kindText, kindInt, kindBool
	text string
	num  int64
}

const (
	kindText byte = 1
	kindInt  byte = 2
	kindBool byte = 3
)

// Text is a detail of text. Bytes that no database keeps are replaced and more than 1 KiB is cut: a stranger's bytes must not
// keep an act off the record.
func Text(key, value string) Detail {
	return Detail{key: key, kind: kindText, text: legible(value, maxDetailText)}
}

// Int is a detail that is a whole number.
func Int(key string, value int64) Detail { return Detail{key: key, kind: kindInt, num: value} }

// Bool is a detail that is true or false.
func Bool(key string, value bool) Detail {
	d := Detail{key: key, kind: kindBool}
	if value {
		d.num = 1
	}
	return d
}

// Key is the detail's name.
func (d Detail) Key() string { return d.key }

// Value is a string, an int64 or a bool.
func (d Detail) Value() any {
	switch d.kind {
	case kindInt:
		return d.num
	case kindBool:
		return d.num != 0
	}
	return d.text
}

// legible makes a stranger's text such that both databases keep it: UTF-8 without NUL, at most max bytes.
func legible(s string, max int) string {
	if len(s) > max {
		end := max
		for end > max-utf8.UTFMax && !utf8.RuneStart(s[end]) { // no character is cut in two
			end--
		}
		s = s[:end]
	}
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	for len(s) > max {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

// check says what keeps an entry from being written, so that it fails alone and before it joins a group.
func (e *Entry) check() error {
	if e.Event == "" || e.Action == "" || e.Result == "" {
		return errors.New("audit entry without event, action or result")
	}
	for _, f := range [...]struct {
		name, value string
		max         int
	}{
		{"event", string(e.Event), maxEvent},
		{"action", string(e.Action), maxAction},
		{"result", string(e.Result), maxResult},
		{"resource type", e.ResourceType, maxResourceType},
		{"resource id", e.ResourceID, maxResourceID},
		{"purpose", e.Purpose, maxPurpose},
		{"program", e.Program, maxProgram},
		{"operating system user", e.OSUser, maxOSUser},
	} {
		if len(f.value) > f.max && utf8.RuneCountInString(f.value) > f.max {
			return fmt.Errorf("audit entry %s: %s is longer than %d characters", e.Event, f.name, f.max)
		}
		if !keepable(f.value) {
			return fmt.Errorf("audit entry %s: %s is not UTF-8 without NUL", e.Event, f.name)
		}
	}
	if len(e.Details) > maxDetails {
		return fmt.Errorf("audit entry %s: more than %d details", e.Event, maxDetails)
	}
	for i, d := range e.Details {
		if d.key == "" || d.kind == 0 || !keepable(d.key) {
			return fmt.Errorf("audit entry %s: detail %d has no key or was not made by Text, Int or Bool", e.Event, i)
		}
	}
	return nil
}

func keepable(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// sorted returns the details by key, in the entry's own slice where it is in order already.
func sorted(ds []Detail) ([]Detail, error) {
	if !slices.IsSortedFunc(ds, byKey) {
		ds = slices.Clone(ds)
		slices.SortFunc(ds, byKey)
	}
	for i := 1; i < len(ds); i++ {
		if ds[i].key == ds[i-1].key {
			return nil, fmt.Errorf("audit detail %q is given twice", ds[i].key)
		}
	}
	return ds, nil
}

func byKey(a, b Detail) int { return strings.Compare(a.key, b.key) }
