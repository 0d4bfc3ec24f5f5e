package dictionary

import (
	"strings"
	"testing"
)

func TestDamagedFilesAreRefused(t *testing.T) {
	middle := len(packed) / 2
	for _, c := range []struct{ name, packed, want string }{
		{"an empty file has another format", "", "another format"},
		{"a file of another format says so", "LZHD\x02" + packed[len(magic):], "another format"},
		{"a head alone has another format", packed[:len(magic)+3], "another format"},
		{"a file cut short does not decompress", packed[:middle], "decompress"},
		{"a content of another length is damaged", packed[:len(magic)+3] + "\x00" + packed[len(magic)+4:], "damaged"},
		{"a wrong checksum is damaged", packed[:len(magic)+4] + "\x00\x00\x00\x00" + packed[len(magic)+8:], "damaged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := unpack(c.packed)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error that says %q", err, c.want)
			}
		})
	}
	if _, err := unpack(packed); err != nil {
		t.Errorf("the untouched file: %v", err)
	}
}
