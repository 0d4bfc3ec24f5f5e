package seal

import (
	"crypto/rand"
	"errors"
)

// Secret sharing after Shamir (How to share a secret, CACM 22/11, 1979) over GF(2^8) with the polynomial of AES (FIPS 197, 4.2):
// each byte of the secret is the value at 0 of a random polynomial of degree k-1, and share x holds the values at x. k shares
// give the polynomial back; k-1 say nothing at all about the secret. No table is looked up by a secret index.

// mul multiplies in GF(2^8).
func mul(a, b byte) (p byte) {
	for range 8 {
		p ^= a & -(b & 1)
		a = a<<1 ^ 0x1b&-(a>>7)
		b >>= 1
	}
	return p
}

// inverse is a^254; that of 0 is 0, which nobody asks for.
func inverse(a byte) byte {
	out := byte(1)
	for range 254 {
		out = mul(out, a)
	}
	return out
}

// split makes n shares of which any k give the secret back. Share i is for x = i+1.
func split(secret []byte, k, n int) ([][]byte, error) {
	if k < 2 || n < k || n > 255 {
		return nil, errors.New("there must be at least 2 shares to bring together, and no more than there are (255 at most)")
	}
	shares := make([][]byte, n)
	for i := range shares {
		shares[i] = make([]byte, len(secret))
	}
	poly := make([]byte, k)
	defer clear(poly)
	for at, s := range secret {
		rand.Read(poly[1:])
		poly[0] = s
		for i := range shares {
			x, y := byte(i+1), byte(0)
			for j := k - 1; j >= 0; j-- { // Horner
				y = mul(y, x) ^ poly[j]
			}
			shares[i][at] = y
		}
	}
	return shares, nil
}

// combine gives the secret back from shares at the places xs, which are distinct and not 0 (Lagrange, at 0).
func combine(xs []byte, shares [][]byte) []byte {
	out := make([]byte, len(shares[0]))
	for i, x := range xs {
		weight := byte(1)
		for j, other := range xs {
			if i != j {
				weight = mul(weight, mul(other, inverse(other^x)))
			}
		}
		for at, y := range shares[i] {
			out[at] ^= mul(weight, y)
		}
	}
	return out
}
