package mllp_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/lazaret-health/lazaret/hl7/mllp"
)

// sampleDir is ../shared/data beside the project's root, where there is one.
func sampleDir(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
	data := filepath.Join(dir, "..", "shared", "data")
	if _, err := os.Stat(data); err != nil {
		t.Skip("no samples here: ../shared/data is missing beside the project")
	}
	return data
}

// Every sample file that holds a message or a batch comes out of a frame as it went in, and every frame of the sample
// streams is found.
func TestSamplesPassThroughFrames(t *testing.T) {
	read, vertical, streams, blocks := 0, 0, 0, 0
	err := filepath.WalkDir(sampleDir(t), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if filepath.Ext(path) == ".mllp" {
			streams++
			got, end := readAll(mllp.NewReader(&chunked{b: content, next: func() int { return 700 }}, 0))
			want, _, slowEnd := slowParse(content, 16<<20)
			if len(got) == 0 || len(got) != len(want) || !errors.Is(end, io.EOF) || slowEnd != io.EOF {
				t.Errorf("%s: %d blocks, want %d; %v", filepath.Base(path), len(got), len(want), end)
			}
			blocks += len(got)
			return nil
		}
		if !bytes.HasPrefix(content, []byte("MSH")) && !bytes.HasPrefix(content, []byte("FHS")) && !bytes.HasPrefix(content, []byte("BHS")) {
			return nil
		}
		read++
		if bytes.IndexByte(content, 0x0B) >= 0 {
			vertical++
		}
		framed, err := mllp.AppendFrame(nil, content)
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(path), err)
			return nil
		}
		got, err := mllp.NewReader(&chunked{b: framed, next: func() int { return 700 }}, 0).Next()
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s has changed: %v", filepath.Base(path), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d sample files framed and unframed, %d of them with 0x0B inside; %d blocks in %d sample streams", read, vertical, blocks, streams)
	if read == 0 || streams == 0 {
		t.Error("no sample was found")
	}
}
