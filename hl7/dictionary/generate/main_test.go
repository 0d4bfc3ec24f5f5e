package main

import (
	"bytes"
	"compress/flate"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// The committed file is what the generator makes of the facts: nobody edits it by hand, and a change of the generator
// comes with the file that it makes. Contents are compared, for the compressor's bytes may differ between Go releases.
func TestEmbeddedFileIsReproducible(t *testing.T) {
	dir := filepath.Join("..", "..", "..", "..", "shared", "data", "dictionary")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the folder of facts, ../shared/data/dictionary, does not lie beside the project")
	}
	to := filepath.Join(t.TempDir(), "dictionary.bin")
	if err := run(dir, to); err != nil {
		t.Fatal(err)
	}
	made, committed := content(t, to), content(t, filepath.Join("..", "dictionary.bin"))
	if !bytes.Equal(made, committed) {
		t.Fatal("dictionary.bin is not what the facts give; run go generate ./hl7/dictionary")
	}
	sources, err := readSources(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("read %d files, made %d bytes of content", len(sources), len(made))
}

func content(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head := len("LZHD\x01") + 8
	out, err := io.ReadAll(flate.NewReader(bytes.NewReader(b[head:])))
	if err != nil {
		t.Fatal(err)
	}
	return append(b[:head:head], out...)
}

func TestNormalise(t *testing.T) {
	got := normalise([]sourceNode{
		{Segment: "MSH", Min: 1, Max: 1},
		{Segment: "OBR,RXO", Min: 1, Max: 1},
		{Group: "G", Min: 0, Max: -1, Of: []sourceNode{{Segment: ",,"}}},
	})
	if len(got) != 2 || got[0].Segment != "MSH" {
		t.Fatalf("got %+v", got)
	}
	if c := got[1]; !c.Choice || c.Segment != "" || len(c.Of) != 2 || c.Of[1].Segment != "RXO" {
		t.Errorf("the list of segments became %+v", c)
	}
}

func TestUnknownKeysAreRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "v2.0.json"), []byte(`{"version": "2.0", "chapters": {}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readSources(dir); err == nil {
		t.Error("a file with a key that the generator does not know was read")
	}
	if _, err := readSources(t.TempDir()); err == nil {
		t.Error("an empty folder was read")
	}
}
