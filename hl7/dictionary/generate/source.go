package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// source is one file of facts, v2.5.1.json and its kin, in the shape that their README describes.
type source struct {
	Version     string                   `json:"version"`
	TableValues string                   `json:"tableValues"`
	Segments    map[string]sourceSegment `json:"segments"`
	DataTypes   map[string]sourceType    `json:"datatypes"`
	Tables      map[string]sourceTable   `json:"tables"`
	Messages    map[string]sourceMessage `json:"messages"`
	Events      map[string]string        `json:"events"`
}

type sourceSegment struct {
	Name   string        `json:"name"`
	Fields []sourceField `json:"fields"`
}

type sourceType struct {
	Name       string        `json:"name"`
	Components []sourceField `json:"components"`
}

// sourceField is a field or a component; a component has no max and no use.
type sourceField struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Min   int    `json:"min"`
	Max   int    `json:"max"`
	Use   string `json:"use"`
	Len   int    `json:"len"`
	Table string `json:"table"`
}

type sourceTable struct {
	Name   string            `json:"name"`
	Values map[string]string `json:"values"`
}

type sourceMessage struct {
	Name      string       `json:"name"`
	Structure []sourceNode `json:"structure"`
}

type sourceNode struct {
	Segment string       `json:"segment"`
	Group   string       `json:"group"`
	Min     int          `json:"min"`
	Max     int          `json:"max"`
	Of      []sourceNode `json:"of"`
	Choice  bool         `json:"choice"`
}

// readSources reads every v*.json of dir, lowest version first. A key that we do not know is an error: a fact would be
// lost in silence.
func readSources(dir string) ([]source, error) {
	files, err := filepath.Glob(filepath.Join(dir, "v*.json"))
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s holds no v*.json; name the folder of facts with -from", dir)
	}
	var all []source
	for _, file := range files {
		s, err := readSource(file)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", filepath.Base(file), err)
		}
		all = append(all, s)
	}
	// "2.5" < "2.5.1" < "2.6": every part is one digit, so the order of text is the order of versions.
	sort.Slice(all, func(i, j int) bool { return all[i].Version < all[j].Version })
	return all, nil
}

func readSource(file string) (source, error) {
	f, err := os.Open(file)
	if err != nil {
		return source{}, err
	}
	defer f.Close()
	d := json.NewDecoder(f)
	d.DisallowUnknownFields()
	var s source
	if err := d.Decode(&s); err != nil {
		return source{}, err
	}
	if s.Version == "" {
		return source{}, errors.New("no version in it")
	}
	for name, m := range s.Messages {
		m.Structure = normalise(m.Structure)
		s.Messages[name] = m
	}
	return s, nil
}

// normalise mends what version 2.7.1's source has flattened: a choice between segments stands there as one segment named
// "OBR,RXO", and a choice that lost its members as ",". The first becomes a choice, the second goes, and so does a group
// that is left with nothing.
func normalise(nodes []sourceNode) []sourceNode {
	var out []sourceNode
	for _, n := range nodes {
		switch {
		case n.Group != "":
			n.Of = normalise(n.Of)
			if len(n.Of) == 0 {
				continue
			}
		case strings.Contains(n.Segment, ","):
			var of []sourceNode
			for _, code := range strings.Split(n.Segment, ",") {
				if code = strings.TrimSpace(code); code != "" {
					of = append(of, sourceNode{Segment: code, Min: 1, Max: 1})
				}
			}
			if len(of) == 0 {
				continue
			}
			n = sourceNode{Group: "CHOICE", Min: n.Min, Max: n.Max, Of: of, Choice: true}
		}
		out = append(out, n)
	}
	return out
}
