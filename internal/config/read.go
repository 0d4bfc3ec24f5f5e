package config

import (
	"bytes"
	"fmt"
	"iter"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

const (
	maxDepth    = 64      // of one value inside another
	maxProblems = 500     // that are listed
	maxValues   = 500_000 // that are read in all, counting what an alias stands for each time: alias bombs end here
)

// A reader turns nodes into settings and collects what is wrong, so that a person sees all of it at once.
type reader struct {
	sources  map[*yaml.Node]*source // where each node stands
	at       map[string]Position
	problems Errors
	depth    int
	left     int  // values that may still be read
	refused  bool // said that it is too much
	patterns map[string]*regexp.Regexp
}

// A fieldTag is what a struct's field says about its setting, beside its type.
type fieldTag struct {
	enum, later []string // values there are, and values there will be
	pattern     string   // a name in patterns
	names       string   // the same for a mapping's keys
	word        string   // a word for zero, such as "off"
	min, max    string
	required    bool
	empty       bool // "" is a value
	doc         string
}

func tagOf(f reflect.StructField) fieldTag {
	list := func(s string) []string {
		if s == "" {
			return nil
		}
		return strings.Split(s, ",")
	}
	t := f.Tag
	return fieldTag{
		enum: list(t.Get("enum")), later: list(t.Get("later")), pattern: t.Get("pattern"), names: t.Get("names"), word: t.Get("word"),
		min: t.Get("min"), max: t.Get("max"), required: t.Get("required") != "", empty: t.Get("empty") != "", doc: t.Get("doc"),
	}
}

// A pattern is the form of a piece of text, and how to say it.
type pattern struct{ title, expression, what, next string }

func patternOf(name string) pattern {
	switch name {
	case "name":
		return pattern{"name", `^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`, "is not a name", "use up to 64 letters, digits, dots, hyphens and underscores, a letter or digit first"}
	case "type":
		return pattern{"message type", `^(\*|[A-Z][A-Z0-9]{2})(\^(\*|[A-Z0-9]{1,3})(\^(\*|[A-Z0-9_]{1,20}))?)?$`, "is not a message type", `write TYPE^EVENT, such as "ADT^A01" or "ADT^*"`}
	case "clock":
		return pattern{"time of day", clockPattern, "is not a time of day", `write hours and minutes, such as "03:00"`}
	case "version":
		return pattern{"version", `^2(\.[0-9]{1,2}){1,2}$`, "is not a version of HL7 v2", `write one such as "2.5" or "2.5.1"`}
	}
	return pattern{}
}

// fail records a problem at a node. It must never be given a value as text.
func (r *reader) fail(n *yaml.Node, key, what, next string) {
	if r.full() {
		return
	}
	p := r.place(n)
	r.problems = append(r.problems, Problem{File: p.File, Line: p.Line, Column: p.Column, Key: printable(key), What: what, Next: next})
}

// full says that there are problems enough: whoever has so many begins with these.
func (r *reader) full() bool { return len(r.problems) >= maxProblems }

func (r *reader) place(n *yaml.Node) Position {
	p := Position{Line: n.Line, Column: n.Column}
	if s := r.sources[n]; s != nil {
		p.File = s.name
	}
	return p
}

// indentOf counts the blanks before a line of the node's file.
func (r *reader) indentOf(n *yaml.Node, line int) int {
	s := r.sources[n]
	if s == nil {
		return -1
	}
	rest := s.text
	for ; line > 1; line-- {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			return -1
		}
		rest = rest[i+1:]
	}
	return len(rest) - len(bytes.TrimLeft(rest, " "))
}

// matches holds a text against a pattern, which is compiled once a reader.
func (r *reader) matches(pattern, text string) bool {
	p, ok := r.patterns[pattern]
	if !ok {
		p = regexp.MustCompile(pattern)
		r.patterns[pattern] = p
	}
	return p.MatchString(text)
}

// resolve follows an alias to what it stands for.
func (r *reader) resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

// defaulter is a setting that has defaults; verifier one whose parts depend on each other; constrainer says so in the schema.
type (
	defaulter interface{ setDefaults() }
	verifier  interface {
		verify(*reader, *yaml.Node, string)
	}
	constrainer interface{ constrain(map[string]any) }
)

// applyDefaults sets the defaults of a struct and of the structs inside it.
func applyDefaults(v reflect.Value) {
	if v.Kind() != reflect.Struct {
		return
	}
	if d, ok := v.Addr().Interface().(defaulter); ok {
		d.setDefaults()
	}
	for f, fv := range v.Fields() {
		if f.Tag.Get("key") != "" {
			applyDefaults(fv)
		}
	}
}

// enter counts a value and its depth. Beyond the bounds it says so once, and refuses.
func (r *reader) enter(n *yaml.Node, key string) bool {
	if r.full() {
		return false
	}
	if r.left > 0 && r.depth < maxDepth {
		r.left--
		r.depth++
		return true
	}
	if !r.refused {
		r.refused = true
		r.fail(n, key, "holds too much, or one value too deep inside another", "look for aliases (*name) that multiply, or split the configuration")
	}
	return false
}

func (r *reader) leave() { r.depth-- }

// value reads a node into v.
func (r *reader) value(n *yaml.Node, v reflect.Value, key string, tag fieldTag) {
	if !r.enter(n, key) {
		return
	}
	defer r.leave()
	if _, ok := r.at[key]; !ok {
		r.at[key] = r.place(n)
	}
	n = r.resolve(n)
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		r.fail(n, key, "has no value", "give it one, or remove the key")
		return
	}
	if s, ok := v.Addr().Interface().(setting); ok {
		s.read(r, n, key)
		return
	}
	switch p := v.Addr().Interface().(type) {
	case *time.Duration:
		r.duration(n, p, key, tag)
		return
	case *netip.Prefix:
		r.prefix(n, p, key)
		return
	case *Text:
		if text, ok := r.scalar(n, key, "a text", "put it in quotes"); ok && r.conforms(n, text, key, tag) {
			*p = Text(text)
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		applyDefaults(v.Elem())
		r.value(n, v.Elem(), key, tag)
	case reflect.Struct:
		r.structure(n, v, key)
	case reflect.Map:
		r.mapping(n, v, key, tag)
	case reflect.Slice:
		r.list(n, v, key, tag)
	case reflect.String:
		text, ok := r.scalar(n, key, "a text", "put it in quotes")
		if ok && n.ShortTag() != "!!str" {
			r.fail(n, key, "is not a text", "put it in quotes")
		} else if ok && r.conforms(n, text, key, tag) {
			v.SetString(text)
		}
	case reflect.Bool:
		if text, ok := r.scalar(n, key, "a truth", "write true or false"); !ok {
			return
		} else if b, err := strconv.ParseBool(text); err != nil || n.ShortTag() != "!!bool" {
			r.fail(n, key, "is neither true nor false", "write true or false, without quotes")
		} else {
			v.SetBool(b)
		}
	case reflect.Int, reflect.Float64:
		r.number(n, v, key, tag)
	default:
		panic("config: no way to read a " + v.Type().String()) // a setting's type that no case covers: a bug of ours
	}
}

// scalar gives a scalar as it is written.
func (r *reader) scalar(n *yaml.Node, key, what, next string) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!binary" {
		r.fail(n, key, "is not "+what, next)
		return "", false
	}
	return n.Value, true
}

// conforms holds a text against its tag. What it says holds no value, only what values there are.
func (r *reader) conforms(n *yaml.Node, text, key string, tag fieldTag) bool {
	switch {
	case slices.Contains(tag.later, text):
		r.fail(n, key, "is a value that does not exist yet", "for now write "+oneOf(tag.enum))
	case tag.enum != nil && !slices.Contains(tag.enum, text):
		r.fail(n, key, "is not one of its values", "write "+oneOf(tag.enum))
	case tag.pattern != "" && !r.matches(patternOf(tag.pattern).expression, text):
		p := patternOf(tag.pattern)
		r.fail(n, key, p.what, p.next)
	case text == "" && !tag.empty:
		r.fail(n, key, "is empty", "give it a value, or remove the key")
	default:
		return true
	}
	return false
}

func oneOf(values []string) string {
	if len(values) == 1 {
		return values[0]
	}
	return strings.Join(values[:len(values)-1], ", ") + " or " + values[len(values)-1]
}

func (r *reader) duration(n *yaml.Node, p *time.Duration, key string, tag fieldTag) {
	next := `write a time with its unit, such as "30s", "10m", "24h" or "7d"`
	if tag.word != "" {
		next += ", or " + tag.word
	}
	text, ok := r.scalar(n, key, "a time", next)
	if !ok {
		return
	}
	if tag.word != "" && text == tag.word {
		*p = 0
		return
	}
	d, ok := r.parseDuration(text)
	if !ok {
		r.fail(n, key, "is not a time", next)
		return
	}
	if d == 0 {
		r.fail(n, key, "is no time at all", next)
		return
	}
	*p = d
}

func (r *reader) prefix(n *yaml.Node, p *netip.Prefix, key string) {
	const next = `write a range such as "192.168.100.0/24", or one address`
	text, ok := r.scalar(n, key, "an address range", next)
	if !ok {
		return
	}
	if !r.matches(prefixPattern, text) {
		r.fail(n, key, "is not an address range", next)
		return
	}
	if ip, err := netip.ParseAddr(text); err == nil {
		*p = netip.PrefixFrom(ip, ip.BitLen())
		return
	}
	v, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		r.fail(n, key, "is not an address range", next)
	case v != v.Masked():
		r.fail(n, key, "has bits set behind its length", "write its first address before the slash, or the one address that is meant without a slash")
	default:
		*p = v
	}
}

func (r *reader) number(n *yaml.Node, v reflect.Value, key string, tag fieldTag) {
	next := "write a number"
	if tag.min != "" {
		next = "write a number from " + tag.min + " to " + tag.max
	}
	text, ok := r.scalar(n, key, "a number", next)
	if !ok {
		return
	}
	f, err := strconv.ParseFloat(text, 64)
	if v.Kind() == reflect.Int {
		var i int64
		i, err = strconv.ParseInt(text, 10, 32)
		f = float64(i)
	}
	if tagName := n.ShortTag(); err != nil || tagName != "!!int" && tagName != "!!float" {
		r.fail(n, key, "is not a number", next)
		return
	}
	lo, _ := strconv.ParseFloat(tag.min, 64)
	hi, _ := strconv.ParseFloat(tag.max, 64)
	if tag.min != "" && !(f >= lo && f <= hi) {
		r.fail(n, key, "is out of range", next)
		return
	}
	if v.Kind() == reflect.Int {
		v.SetInt(int64(f))
	} else {
		v.SetFloat(f)
	}
}

// pairs gives a mapping's keys and values, each key once; further ones, and keys that are no text, are problems.
func (r *reader) pairs(n *yaml.Node, key string) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(k, v *yaml.Node) bool) {
		seen := map[string]*yaml.Node{}
		for i := 0; i+1 < len(n.Content) && !r.full(); i += 2 {
			k := r.resolve(n.Content[i])
			switch first := seen[k.Value]; {
			case k.Kind != yaml.ScalarNode:
				r.fail(k, key, "has a key that is not a text", "write each key as KEY: VALUE")
			case k.ShortTag() == "!!merge":
				r.fail(k, key, "merges a mapping (<<), which is not read here", "give the whole value as an alias (*name), or write the keys out")
			case first != nil:
				r.fail(k, joinKey(key, k.Value), "is given twice, first at "+r.place(first).String(), "remove one of them")
			default:
				seen[k.Value] = k
				if !yield(k, n.Content[i+1]) {
					return
				}
			}
		}
	}
}

func (r *reader) structure(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind != yaml.MappingNode {
		r.fail(n, key, "is not a mapping", "write its keys below it, indented, or in braces: {"+firstKeys(v.Type())+"}")
		return
	}
	if at := v.FieldByName("At"); at.IsValid() {
		at.Set(reflect.ValueOf(r.place(n)))
	}
	fields := fieldsOf(v.Type())
	before := len(r.problems)
	seen := map[string]bool{}
	for k, node := range r.pairs(n, key) {
		i, ok := fields[k.Value]
		if !ok {
			what, next := unknown(k.Value, v.Type())
			r.fail(k, joinKey(key, k.Value), what, next)
			continue
		}
		seen[k.Value] = true
		r.at[joinKey(key, k.Value)] = r.place(k)
		r.value(node, v.Field(i), joinKey(key, k.Value), tagOf(v.Type().Field(i)))
	}
	for f := range v.Type().Fields() {
		if name := f.Tag.Get("key"); name != "" && tagOf(f).required && !seen[name] {
			r.fail(n, key, "has no "+name, "add it: "+tagOf(f).doc)
		}
	}
	if c, ok := v.Addr().Interface().(verifier); ok && len(r.problems) == before {
		c.verify(r, n, key)
	}
}

func (r *reader) mapping(n *yaml.Node, v reflect.Value, key string, tag fieldTag) {
	if n.Kind != yaml.MappingNode {
		r.fail(n, key, "is not a mapping", "write NAME: VALUE, one below the other")
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	item := tag
	item.required, item.names = false, ""
	for k, node := range r.pairs(n, key) {
		one := reflect.New(v.Type().Elem()).Elem()
		applyDefaults(one)
		if tag.names != "" && !r.conforms(k, k.Value, key, fieldTag{pattern: tag.names}) {
			continue
		}
		r.at[joinKey(key, k.Value)] = r.place(k)
		if one.Type() == reflect.TypeFor[Text]() {
			item.empty = true
		}
		r.value(node, one, joinKey(key, k.Value), item)
		v.SetMapIndex(reflect.ValueOf(k.Value), one)
	}
}

func (r *reader) list(n *yaml.Node, v reflect.Value, key string, tag fieldTag) {
	if n.Kind != yaml.SequenceNode {
		r.fail(n, key, "is not a list", "write - before each member, or [ONE, TWO]")
		return
	}
	item := tag
	item.required = false
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	seen := map[string]*yaml.Node{}
	for i, node := range n.Content {
		one := v.Index(i)
		applyDefaults(one)
		name := fmt.Sprintf("%s[%d]", key, i+1)
		if named := r.memberName(r.resolve(node)); named != "" && one.Kind() == reflect.Struct && one.FieldByName("Name").IsValid() {
			name = joinKey(key, named)
			if first := seen[named]; first != nil {
				r.fail(node, name, "has the name of another one, at "+r.place(first).String(), "rename or remove one of them")
				continue
			}
			seen[named] = node
		}
		r.value(node, one, name, item)
	}
}

// memberName is the name of a list's member, where it has one.
func (r *reader) memberName(n *yaml.Node) string {
	if v := field(n, "name"); v != nil && v.Kind == yaml.ScalarNode && r.matches(patternOf("name").expression, v.Value) {
		return v.Value
	}
	return ""
}

// field finds a key's value in a mapping.
func field(n *yaml.Node, key string) *yaml.Node {
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				return n.Content[i+1]
			}
		}
	}
	return nil
}

// fieldsOf gives the settings of a struct by key.
func fieldsOf(t reflect.Type) map[string]int {
	m := map[string]int{}
	for i := range t.NumField() {
		if k := t.Field(i).Tag.Get("key"); k != "" {
			m[k] = i
		}
	}
	return m
}

func firstKeys(t reflect.Type) string {
	var keys []string
	for f := range t.Fields() {
		if k := f.Tag.Get("key"); k != "" {
			keys = append(keys, k+": …")
		}
	}
	if len(keys) > 2 {
		keys = append(keys[:2], "…")
	}
	return strings.Join(keys, ", ")
}
