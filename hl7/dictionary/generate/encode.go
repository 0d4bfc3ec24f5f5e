package main

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"sort"
)

// An encoder turns sources into the form that package dictionary reads (its file.go has the layout). Whatever is equal is
// kept once: a text, a field, a segment, a data type, a table, a structure. Numbers are given in order of first use, so
// that neighbours have neighbouring numbers and their differences, which is what we write, are mostly 1.
type encoder struct {
	texts  interner[string]
	fields interner[fieldRecord]
	defs   [4]interner[string] // segments, data types, tables, structures: their bytes
}

// fieldRecord is a field or component by its parts' numbers.
type fieldRecord struct {
	name, typ, min, max, use, length, table int
}

// An interner gives equal things equal numbers.
type interner[T comparable] struct {
	number map[T]int
	all    []T
}

func (in *interner[T]) of(v T) int {
	if n, ok := in.number[v]; ok {
		return n
	}
	if in.number == nil {
		in.number = map[T]int{}
	}
	n := len(in.all)
	in.number[v] = n
	in.all = append(in.all, v)
	return n
}

// encode gives the content before compression.
func encode(all []source) ([]byte, error) {
	var e encoder
	e.texts.of("") // number 0: absent
	var versions [][]byte
	for _, s := range all {
		v, err := e.oneVersion(s)
		if err != nil {
			return nil, fmt.Errorf("version %s: %w", s.Version, err)
		}
		versions = append(versions, v)
	}
	var out []byte
	out = pieces(out, e.texts.all)
	out = binary.AppendUvarint(out, uint64(len(e.fields.all)))
	for _, column := range []func(fieldRecord) int{
		func(f fieldRecord) int { return f.name },
		func(f fieldRecord) int { return f.typ },
		func(f fieldRecord) int { return f.min },
		func(f fieldRecord) int { return f.max },
		func(f fieldRecord) int { return f.use },
		func(f fieldRecord) int { return f.length },
		func(f fieldRecord) int { return f.table },
	} {
		var last int
		for _, f := range e.fields.all {
			out = binary.AppendVarint(out, int64(column(f)-last))
			last = column(f)
		}
	}
	for _, d := range e.defs {
		out = pieces(out, d.all)
	}
	return pieces(out, versions), nil
}

// pieces writes how many, the length of each, and their bytes.
func pieces[T string | []byte](out []byte, all []T) []byte {
	out = binary.AppendUvarint(out, uint64(len(all)))
	for _, p := range all {
		out = binary.AppendUvarint(out, uint64(len(p)))
	}
	for _, p := range all {
		out = append(out, p...)
	}
	return out
}

func (e *encoder) oneVersion(s source) ([]byte, error) {
	b := e.list(nil, e.texts.of(s.Version), e.texts.of(s.TableValues))

	lists := [4][]int{}
	for _, code := range sorted(s.Segments) {
		seg := s.Segments[code]
		ids := []int{e.texts.of(code), e.texts.of(seg.Name)}
		for i, f := range seg.Fields {
			if f.Name == "" || f.Type == "" || len(f.Use) != 1 {
				return nil, fmt.Errorf("segment %s field %d has no name, type or use", code, i+1)
			}
			ids = append(ids, e.field(f))
		}
		lists[0] = append(lists[0], e.defs[0].of(string(e.list(nil, ids...))))
	}
	for _, code := range sorted(s.DataTypes) {
		t := s.DataTypes[code]
		ids := []int{e.texts.of(code), e.texts.of(t.Name)}
		for _, c := range t.Components {
			c.Max, c.Use = 1, "O"
			if c.Min > 0 {
				c.Use = "R"
			}
			ids = append(ids, e.field(c))
		}
		lists[1] = append(lists[1], e.defs[1].of(string(e.list(nil, ids...))))
	}
	for _, code := range sorted(s.Tables) {
		t := s.Tables[code]
		ids := []int{e.texts.of(code), e.texts.of(t.Name)}
		keys := sorted(t.Values)
		for _, k := range keys {
			ids = append(ids, e.texts.of(k))
		}
		for _, k := range keys {
			ids = append(ids, e.texts.of(t.Values[k]))
		}
		lists[2] = append(lists[2], e.defs[2].of(string(e.list(nil, ids...))))
	}
	for _, code := range sorted(s.Messages) {
		m := s.Messages[code]
		def := e.list(nil, e.texts.of(code), e.texts.of(m.Name))
		def = e.nodes(def, m.Structure)
		lists[3] = append(lists[3], e.defs[3].of(string(def)))
	}
	for _, l := range lists {
		b = binary.AppendUvarint(b, uint64(len(l)))
		b = e.list(b, l...)
	}
	events := sorted(s.Events)
	var ids []int
	for _, ev := range events {
		ids = append(ids, e.texts.of(ev))
	}
	for _, ev := range events {
		ids = append(ids, e.texts.of(s.Events[ev]))
	}
	b = binary.AppendUvarint(b, uint64(len(events)))
	return e.list(b, ids...), nil
}

func (e *encoder) field(f sourceField) int {
	return e.fields.of(fieldRecord{
		name: e.texts.of(f.Name), typ: e.texts.of(f.Type), min: f.Min, max: f.Max,
		use: int(f.Use[0]), length: f.Len, table: e.texts.of(f.Table),
	})
}

// nodes writes how many, then each: kind (bit 0 group, bit 1 choice), name, min, max, and a group's members.
func (e *encoder) nodes(b []byte, nodes []sourceNode) []byte {
	b = binary.AppendUvarint(b, uint64(len(nodes)))
	for _, n := range nodes {
		kind, name := uint64(0), n.Segment
		if n.Group != "" {
			kind, name = 1, n.Group
		}
		if n.Choice {
			kind |= 2
		}
		b = binary.AppendUvarint(b, kind)
		b = binary.AppendUvarint(b, uint64(e.texts.of(name)))
		b = binary.AppendVarint(b, int64(n.Min))
		b = binary.AppendVarint(b, int64(n.Max))
		if n.Group != "" {
			b = e.nodes(b, n.Of)
		}
	}
	return b
}

// list writes numbers, each as the difference to the one before.
func (e *encoder) list(b []byte, ids ...int) []byte {
	var last int
	for _, id := range ids {
		b = binary.AppendVarint(b, int64(id-last))
		last = id
	}
	return b
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// pack puts the head before the content and compresses it.
func pack(content []byte) ([]byte, error) {
	var out bytes.Buffer
	out.WriteString("LZHD\x01")
	var head [8]byte
	binary.BigEndian.PutUint32(head[:4], uint32(len(content)))
	binary.BigEndian.PutUint32(head[4:], crc32.ChecksumIEEE(content))
	out.Write(head[:])
	w, err := flate.NewWriter(&out, flate.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
