package seal

import (
	"bytes"
	"crypto/rand"
	"testing"
)

// FIPS 197, section 4.2: {57} • {83} = {c1}, and {57} • {13} = {fe}.
func TestFieldAgreesWithFIPS197(t *testing.T) {
	for _, c := range []struct{ a, b, want byte }{{0x57, 0x83, 0xc1}, {0x57, 0x13, 0xfe}, {0x57, 0x02, 0xae}, {0, 9, 0}, {1, 9, 9}} {
		if got := mul(c.a, c.b); got != c.want || mul(c.b, c.a) != c.want {
			t.Errorf("{%02x} • {%02x} = {%02x}, want {%02x}", c.a, c.b, got, c.want)
		}
	}
	for a := 1; a < 256; a++ {
		if mul(byte(a), inverse(byte(a))) != 1 {
			t.Errorf("{%02x} times its inverse is not 1", a)
		}
	}
}

func TestAnyEnoughSharesGiveTheSecret(t *testing.T) {
	secret := make([]byte, keySize)
	rand.Read(secret)
	for _, c := range []struct{ k, n int }{{2, 2}, {2, 3}, {3, 5}, {5, 5}, {4, 7}} {
		shares, err := split(secret, c.k, c.n)
		if err != nil {
			t.Fatal(err)
		}
		for choice := range 1 << c.n {
			var xs []byte
			var some [][]byte
			for i := range c.n {
				if choice>>i&1 == 1 {
					xs, some = append(xs, byte(i+1)), append(some, shares[i])
				}
			}
			if len(xs) == 0 {
				continue
			}
			if got := bytes.Equal(combine(xs, some), secret); got != (len(xs) >= c.k) {
				t.Errorf("%d of %d shares, %d needed: the secret came back: %v", len(xs), c.n, c.k, got)
			}
		}
	}
	for _, c := range []struct{ k, n int }{{1, 3}, {0, 0}, {4, 3}, {2, 256}} {
		if _, err := split(secret, c.k, c.n); err == nil {
			t.Errorf("%d of %d was taken", c.k, c.n)
		}
	}
}

// One share of a fixed secret takes every value about equally often: it tells nothing. (Chi-squared over 256 values; 400 is far
// beyond what chance gives, one in 10^8.)
func TestAShareAloneLooksRandom(t *testing.T) {
	var seen [256]float64
	const rounds = 64_000
	for range rounds {
		shares, err := split([]byte{0x42}, 2, 2)
		if err != nil {
			t.Fatal(err)
		}
		seen[shares[0][0]]++
	}
	chi, want := 0.0, float64(rounds)/256
	for _, n := range seen {
		chi += (n - want) * (n - want) / want
	}
	if chi > 400 {
		t.Errorf("chi-squared %.0f over 255 degrees", chi)
	}
}

func FuzzParseShare(f *testing.F) {
	root, err := newLocalRoot(make([]byte, keySize))
	if err != nil {
		f.Fatal(err)
	}
	shares, err := SplitRoot(root, 2, 3)
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range shares {
		f.Add(s)
	}
	f.Add("lazaret-share 1, 2-of-3: AAAAA")
	f.Fuzz(func(t *testing.T, text string) {
		b, err := parseShare(text)
		if err != nil {
			return
		}
		again, err := parseShare(shareText(bytes.Clone(b)))
		if err != nil || !bytes.Equal(b, again) {
			t.Errorf("what was read does not read again: %v", err)
		}
	})
}
