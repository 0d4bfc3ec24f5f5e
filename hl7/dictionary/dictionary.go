// Package dictionary knows the names in HL7 v2: segments, fields, data types and their components, tables and their
// codes, message structures, and which structure an event uses, for versions 2.1 to 2.8.2.
//
// It answers with facts (names, numbers, codes), never with the standard's prose. Open reads the dictionary; nothing is
// read before, and nothing is kept when the caller lets go of it. A Version is indexed when it is first asked for, and a
// segment, type, table or structure decoded when it is first asked for; versions that agree share it. Describe names an
// address, Structure.Check says where a message leaves its structure.
//
// The facts lie in dictionary.bin, where whatever is equal is kept once: 228 KB in the binary, 686 KB decompressed, 2 MB of
// memory when open. On one core of a small server Open takes 7 ms, a version's index 0.1 ms, a name 0.4 µs (BenchmarkOpen,
// BenchmarkFirstName, BenchmarkDescribe). ./generate makes the file; README.md names the sources, NOTICE their licences.
//
// Where the sources end, so does the dictionary: lengths end with 2.6, use is only R, O or W in most versions, version
// 2.9 is answered from 2.8.2. Types of fields whose type another field names (OBX-5) are "varies".
//
// A Dictionary and all it gives may be read by many goroutines at once, and must not be changed.
package dictionary

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

//go:generate go run ./generate -from ../../../shared/data/dictionary -to dictionary.bin

//go:embed dictionary.bin
var packed string

// Fallback is the version that answers for a version that is not legible: the last whose facts include lengths, use and
// the query segments of old.
const Fallback = "2.5.1"

// A Dictionary holds all versions.
type Dictionary struct {
	file     *file
	versions []*Version // lowest first
}

// Open decompresses the dictionary and checks it. Each call makes one of its own; a program needs one.
func Open() (*Dictionary, error) {
	f, err := unpack(packed)
	if err != nil {
		return nil, fmt.Errorf("open HL7 dictionary: %w", err)
	}
	d := &Dictionary{file: f}
	for _, v := range f.versions {
		d.versions = append(d.versions, &Version{file: f, at: v})
	}
	return d, nil
}

// Versions lists the versions, lowest first.
func (d *Dictionary) Versions() []string {
	names := make([]string, len(d.versions))
	for i, v := range d.versions {
		names[i] = v.at.name
	}
	return names
}

// Version gives the version that MSH-12.1 names. exact is false where the dictionary does not have it and another one
// answers: the highest that is not above it (2.9 is answered by 2.8.2, 2.3.7 by 2.3.1), the lowest for one below all, and
// Fallback for a text that names no version. The Version's Name says which one it is.
func (d *Dictionary) Version(name string) (v *Version, exact bool) {
	name = strings.TrimSpace(name)
	name = strings.TrimPrefix(strings.TrimPrefix(name, "v"), "V")
	want, legible := parseVersion(name)
	if !legible {
		want, _ = parseVersion(Fallback)
	}
	best := d.versions[0]
	for _, v := range d.versions {
		has, _ := parseVersion(v.at.name)
		switch compareVersions(has, want) {
		case 0:
			return v.ready(), legible
		case -1:
			best = v
		}
	}
	return best.ready(), false
}

// parseVersion reads 2, 2.5 or 2.5.1.
func parseVersion(s string) (parts [3]int, ok bool) {
	fields := strings.Split(s, ".")
	if len(fields) > len(parts) {
		return parts, false
	}
	for i, f := range fields {
		n, err := strconv.ParseUint(f, 10, 16)
		if err != nil {
			return parts, false
		}
		parts[i] = int(n)
	}
	return parts, true
}

func compareVersions(a, b [3]int) int {
	for i := range a {
		if a[i] < b[i] {
			return -1
		}
		if a[i] > b[i] {
			return 1
		}
	}
	return 0
}

// A Version is the dictionary of one version of HL7.
type Version struct {
	file *file
	at   versionEntry

	once   sync.Once             // guards what follows, which index fills
	codes  [kinds]map[string]int // code to number of the definition
	events map[string]string     // "ADT^A04" to "ADT_A01"
}

func (v *Version) ready() *Version {
	v.once.Do(v.index)
	return v
}

// Name is the version, as "2.5.1".
func (v *Version) Name() string { return v.at.name }

// TableSource says where the version's lists of codes come from.
func (v *Version) TableSource() string { return v.at.tableSource }
