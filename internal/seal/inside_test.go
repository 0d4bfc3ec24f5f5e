package seal_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/lazaret-health/lazaret/internal/seal"
)

// TestKeysStayInside holds the invariant that nothing outside this room holds a data key: the door is as narrow as listed here,
// no field of a ring can be reached, and no way of printing one shows a key. Who adds to the list has to think.
func TestKeysStayInside(t *testing.T) {
	ring := reflect.TypeFor[*seal.Ring]()
	var door []string
	for i := range ring.NumMethod() {
		m := ring.Method(i)
		var out []string
		for j := range m.Type.NumOut() {
			out = append(out, m.Type.Out(j).String())
		}
		door = append(door, m.Name+": "+strings.Join(out, ", "))
	}
	want := []string{
		"Blind: [16]uint8, error",
		"ChangeRoot: error",
		"Close: ",
		"Disposals: []seal.Disposal, error",
		"DropFormer: error",
		"GoString: string",
		"Keys: []seal.KeyRecord, error",
		"Open: []uint8, error",
		"Organisations: []uint32, error",
		"Probe: error",
		"Refresh: error",
		"Renew: []seal.KeyID, error",
		"Reseal: []uint8, error",
		"Rewrap: int, error",
		"RootState: seal.RootState",
		"Seal: []uint8, error",
		"Seek: [16]uint8, error",
		"Shred: []seal.KeyID, error",
		"String: string",
		"TakeMade: []seal.KeyID",
	}
	if !slices.Equal(door, want) {
		t.Errorf("the ring gives out\n%q\nwant\n%q", door, want)
	}
	for i := range ring.Elem().NumField() {
		if f := ring.Elem().Field(i); f.IsExported() {
			t.Errorf("Ring.%s can be reached from outside", f.Name)
		}
	}

	s := newSite(t)
	spy := &spyRoot{}
	var root seal.Root
	r := s.open(func(c *seal.Config) { spy.Root = c.Root; root = c.Root; c.Root = spy })
	sealed := mustSeal(t, r, home, november, "invented")
	mustBlind(t, r, 7, seal.FieldControlID, seal.Lasting, "1")
	if len(spy.keys) < 3 { // the probe, a data key, a blind key
		t.Fatalf("%d keys were wrapped", len(spy.keys))
	}
	rootText, err := os.ReadFile(s.root)
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(rootText), "lazaret-root-v1:")
	rootKey, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(rootKey) != 32 {
		t.Fatalf("root key file: %v", err)
	}
	var shown bytes.Buffer
	for _, v := range []any{r, root, sealed} {
		fmt.Fprintf(&shown, "%v %+v %#v %s %x %q\n", v, v, v, v, v, v)
		if js, err := json.Marshal(v); err == nil {
			shown.Write(js)
		}
		slog.New(slog.NewJSONHandler(&shown, nil)).Info("ring", "ring", v)
		slog.New(slog.NewTextHandler(&shown, nil)).Info("ring", "ring", v)
	}
	for _, f := range s.files("") {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		shown.Write(b)
	}
	for i, key := range append(spy.keys, rootKey) {
		for form, text := range map[string]string{
			"raw": string(key), "hex": hex.EncodeToString(key), "base64": base64.RawStdEncoding.EncodeToString(key),
			"decimal": strings.Trim(fmt.Sprint(key), "[]"), "go": strings.Trim(fmt.Sprintf("%#v", key), "[]byte{}"),
		} {
			if strings.Contains(shown.String(), text) {
				t.Errorf("key %d shows, %s", i, form)
			}
		}
	}
}

// spyRoot sees every key that is wrapped, which a root has to.
type spyRoot struct {
	seal.Root
	keys [][]byte
}

func (s *spyRoot) Wrap(ctx context.Context, plaintext, aad []byte) ([]byte, error) {
	s.keys = append(s.keys, bytes.Clone(plaintext))
	return s.Root.Wrap(ctx, plaintext, aad)
}

func TestErrorsTellNothing(t *testing.T) {
	r := newSite(t).open()
	sealed := mustSeal(t, r, home, november, "INVENTED^NAME")
	sealed[len(sealed)-1] ^= 1
	_, err := r.Open(t.Context(), home, sealed)
	want := "open table 1, column 1: " + seal.ErrOpen.Error()
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
