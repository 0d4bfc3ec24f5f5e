package config

import (
	"reflect"
	"slices"
)

// unknown says that a struct has no such key, and which one may be meant.
func unknown(key string, t reflect.Type) (what, next string) {
	what = "is not a key that is known here"
	best, distance := "", max(1, len(key)/3)+1
	var all []string
	for f := range t.Fields() {
		if k := f.Tag.Get("key"); k != "" {
			all = append(all, k)
			if d := editDistance(key, k); d < distance {
				best, distance = k, d
			}
		}
	}
	if best != "" {
		return what, "did you mean " + best + "?"
	}
	if places := belongs(key, reflect.TypeFor[Config](), "", nil); len(places) > 0 {
		return what, "it belongs under " + oneOf(places)
	}
	if len(all) == 0 {
		return what, "remove it"
	}
	return what, "there are " + oneOf(all)
}

// belongs lists the keys below which a key is known, three at most.
func belongs(key string, t reflect.Type, at string, above []reflect.Type) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || slices.Contains(above, t) {
		return nil
	}
	var places []string
	for f := range t.Fields() {
		k := f.Tag.Get("key")
		if k == "" {
			continue
		}
		if k == key && at == "" {
			places = append(places, "the file itself")
		} else if k == key {
			places = append(places, at)
		}
		places = append(places, belongs(key, f.Type, joinKey(at, k), append(above, t))...)
	}
	return places[:min(len(places), 3)]
}

// editDistance counts the letters to insert, remove, replace or swap with a neighbour to get from a to b.
func editDistance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return max(len(a), len(b))
	}
	var d [65][65]int
	for i := range len(a) + 1 {
		d[i][0] = i
	}
	for j := range len(b) + 1 {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
