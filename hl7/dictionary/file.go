package dictionary

import (
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"sync/atomic"
)

// The file: "LZHD", format 1, length and CRC-32 (IEEE) of the content, and the content, deflated. The content:
//
//	texts        how many; the length of each; their bytes
//	fields       how many; then by columns name, type, min, max, use, length, table, each as difference to the row above
//	4 × defs     segments, data types, tables, structures: how many; the length of each; their bytes
//	versions     how many; of each: name, source of its tables; 4 × (how many, their definitions); events
//
// A text, field or definition is named by its place. A definition begins with code and name; then a segment and a data
// type have fields, a table its codes and then their labels, a structure its nodes. All but counts and lengths is signed
// (zigzag varint), and lists are differences to the number before. ./generate writes it.
//
// The checksum vouches for the content, so nothing behind it is checked again: a file that passes it and does not decode
// was made by a broken generator, which its tests would have seen.
const magic = "LZHD\x01"

// The kinds of definitions, in the file's order.
const (
	segmentKind = iota
	dataTypeKind
	tableKind
	structureKind
	kinds
)

type file struct {
	texts    []string
	fields   []Field
	defs     [kinds][]string // bytes of each definition
	versions []versionEntry

	// What has been decoded, by number of the definition. Two that decode the same at once both get a right one.
	segments   []atomic.Pointer[Segment]
	dataTypes  []atomic.Pointer[DataType]
	tables     []atomic.Pointer[Table]
	structures []atomic.Pointer[Structure]
}

// versionEntry is a version's part of the file, not yet indexed.
type versionEntry struct {
	name, tableSource string
	body              string
}

func unpack(packed string) (*file, error) {
	if !strings.HasPrefix(packed, magic) || len(packed) < len(magic)+8 {
		return nil, errors.New("the embedded file has another format; run go generate")
	}
	head := []byte(packed[len(magic) : len(magic)+8])
	size := binary.BigEndian.Uint32(head[:4])
	// The content becomes a string without a second copy: strings.Builder gives away its bytes.
	var b strings.Builder
	b.Grow(int(size))
	sum := crc32.NewIEEE()
	n, err := io.Copy(io.MultiWriter(&b, sum), io.LimitReader(flate.NewReader(strings.NewReader(packed[len(magic)+8:])), int64(size)))
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	content := b.String()
	if n != int64(size) || sum.Sum32() != binary.BigEndian.Uint32(head[4:]) {
		return nil, errors.New("the embedded file is damaged; build again from a clean tree")
	}
	f := &file{}
	r := reader{s: content}
	f.texts = r.pieces()
	f.readFields(&r)
	for k := range f.defs {
		f.defs[k] = r.pieces()
	}
	f.segments = make([]atomic.Pointer[Segment], len(f.defs[segmentKind]))
	f.dataTypes = make([]atomic.Pointer[DataType], len(f.defs[dataTypeKind]))
	f.tables = make([]atomic.Pointer[Table], len(f.defs[tableKind]))
	f.structures = make([]atomic.Pointer[Structure], len(f.defs[structureKind]))
	for _, body := range r.pieces() {
		v := reader{s: body}
		l := list{r: &v}
		entry := versionEntry{name: f.texts[l.next()], tableSource: f.texts[l.next()]}
		entry.body = v.s
		f.versions = append(f.versions, entry)
	}
	return f, nil
}

func (f *file) readFields(r *reader) {
	f.fields = make([]Field, r.count())
	for column := range 7 {
		l := list{r: r}
		for i := range f.fields {
			n := l.next()
			to := &f.fields[i]
			switch column {
			case 0:
				to.Name = f.texts[n]
			case 1:
				to.Type = f.texts[n]
			case 2:
				to.Min = n
			case 3:
				to.Max = n
			case 4:
				to.Use = Use(n)
			case 5:
				to.Length = n
			case 6:
				to.Table = f.texts[n]
			}
		}
	}
}

// A reader takes numbers from the front of s.
type reader struct{ s string }

// count takes an unsigned number.
func (r *reader) count() int {
	var n, shift uint
	for i := 0; ; i++ {
		b := r.s[i]
		n |= uint(b&0x7f) << shift
		if b < 0x80 {
			r.s = r.s[i+1:]
			return int(n)
		}
		shift += 7
	}
}

// number takes a signed one.
func (r *reader) number() int {
	u := uint(r.count())
	return int(u>>1) ^ -int(u&1)
}

// pieces takes how many, the length of each, and their bytes.
func (r *reader) pieces() []string {
	all := make([]string, r.count())
	lengths := make([]int, len(all))
	for i := range lengths {
		lengths[i] = r.count()
	}
	for i, n := range lengths {
		all[i], r.s = r.s[:n], r.s[n:]
	}
	return all
}

// A list takes numbers that are written as differences.
type list struct {
	r    *reader
	last int
}

func (l *list) next() int {
	l.last += l.r.number()
	return l.last
}
