package config

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Schema is the JSON Schema (2020-12) of a configuration file, made from the types that Load fills. Editors complete and
// check with it; Load checks more.
func Schema() []byte {
	v := reflect.ValueOf(&Config{}).Elem()
	applyDefaults(v)
	s := schemaOf(v, fieldTag{})
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "Lazaret configuration"
	s["description"] = "One configuration file: lazaret.yaml, or a file of lazaret.d beside it."
	s["properties"].(map[string]any)["$schema"] = map[string]any{"type": "string", "description": "For editors; not read."}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic("config: the schema does not encode: " + err.Error()) // maps and texts only: a bug of ours
	}
	return append(b, '\n')
}

// schemaOf describes a value. v holds the defaults.
func schemaOf(v reflect.Value, tag fieldTag) map[string]any {
	for v.Kind() == reflect.Pointer {
		v = reflect.New(v.Type().Elem()).Elem()
		applyDefaults(v)
	}
	var s map[string]any
	switch p := v.Addr().Interface().(type) {
	case setting:
		s = p.schema()
	case *time.Duration:
		s = durationSchema(tag.word)
	case *netip.Prefix:
		s = map[string]any{"title": "address range", "type": "string", "pattern": prefixPattern}
	case *Text:
		s = textSchema([]any{"string", "number", "boolean"}, tag)
	default:
		s = kindSchema(v, tag)
	}
	if tag.doc != "" {
		s["description"] = tag.doc
	}
	return s
}

func kindSchema(v reflect.Value, tag fieldTag) map[string]any {
	item := tag
	item.doc, item.required, item.names = "", false, ""
	switch v.Kind() {
	case reflect.Struct:
		return structSchema(v)
	case reflect.Map:
		one := reflect.New(v.Type().Elem()).Elem()
		applyDefaults(one)
		item.empty = true
		s := map[string]any{"type": "object", "additionalProperties": schemaOf(one, item)}
		if tag.names != "" {
			s["propertyNames"] = map[string]any{"pattern": patternOf(tag.names).expression}
		}
		return s
	case reflect.Slice:
		one := reflect.New(v.Type().Elem()).Elem()
		applyDefaults(one)
		return map[string]any{"type": "array", "items": schemaOf(one, item)}
	case reflect.String:
		return textSchema("string", tag)
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Float64:
		s := map[string]any{"type": "integer"}
		if v.Kind() == reflect.Float64 {
			s["type"] = "number"
		}
		if tag.min != "" {
			s["minimum"], s["maximum"] = json.Number(tag.min), json.Number(tag.max)
		}
		return s
	}
	panic("config: no schema for a " + v.Type().String()) // a setting's type that no case covers: a bug of ours
}

func structSchema(v reflect.Value) map[string]any {
	properties, required := map[string]any{}, []any{}
	for f, fv := range v.Fields() {
		key := f.Tag.Get("key")
		if key == "" {
			continue
		}
		tag := tagOf(f)
		s := schemaOf(fv, tag)
		if d := defaultOf(fv, tag); d != nil {
			s["default"] = d
		}
		properties[key] = s
		if tag.required {
			required = append(required, key)
		}
	}
	s := map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		s["required"] = required
	}
	if c, ok := v.Addr().Interface().(constrainer); ok {
		c.constrain(s)
	}
	return s
}

func textSchema(kind any, tag fieldTag) map[string]any {
	s := map[string]any{"type": kind}
	if tag.pattern != "" {
		s["title"], s["pattern"] = patternOf(tag.pattern).title, patternOf(tag.pattern).expression
	}
	if tag.enum == nil {
		if tag.pattern == "" && !tag.empty {
			s["minLength"] = 1
		}
		return s
	}
	var values []any
	for _, e := range tag.enum {
		values = append(values, e)
		if f, err := strconv.ParseFloat(e, 64); err == nil && kind != "string" {
			values = append(values, json.Number(strings.TrimSuffix(fmt.Sprint(f), ".0")))
		}
	}
	s["enum"] = values
	return s
}

// defaultOf is a setting's default as a file would have it; nil where there is none, or where it depends on others.
func defaultOf(v reflect.Value, tag fieldTag) any {
	if v.IsZero() {
		if v.Kind() == reflect.Bool {
			return false
		}
		switch v.Interface().(type) {
		case GiveUp:
			return "none"
		case Keep:
			return "keep"
		}
		return nil
	}
	switch d := v.Interface().(type) {
	case time.Duration:
		return writeDuration(d)
	case Size:
		return d.String()
	}
	switch v.Kind() {
	case reflect.String:
		return v.String()
	case reflect.Bool:
		return v.Bool()
	case reflect.Int:
		return v.Int()
	case reflect.Float64:
		return v.Float()
	}
	return nil
}
