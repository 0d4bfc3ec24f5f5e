package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// demoValidity is how long the demo's certificates are good.
const demoValidity = 365 * 24 * time.Hour

// makeCertificates makes an authority and a certificate for each name: ECDSA P-256, for this machine alone. The authority's
// key is thrown away, so that nobody can ever make another certificate that the demo trusts.
func makeCertificates(dir string, now time.Time, names ...string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	authority, err := newCertificate("Lazaret demo authority", now)
	if err != nil {
		return err
	}
	authority.IsCA, authority.BasicConstraintsValid, authority.MaxPathLenZero = true, true, true
	authority.KeyUsage = x509.KeyUsageCertSign
	signing, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if err := writeCertificate(filepath.Join(dir, "ca.pem"), authority, authority, signing, signing); err != nil {
		return err
	}
	for _, name := range names {
		c, err := newCertificate(name, now)
		if err != nil {
			return err
		}
		c.KeyUsage = x509.KeyUsageDigitalSignature
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		// The name first: it is the one that a peer goes by.
		c.DNSNames, c.IPAddresses = []string{name, "localhost"}, []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		err = errors.Join(
			os.WriteFile(filepath.Join(dir, name+".key"), text, 0o600),
			writeCertificate(filepath.Join(dir, name+".pem"), c, authority, key, signing))
		if err != nil {
			return err
		}
	}
	return nil
}

func newCertificate(name string, now time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(demoValidity),
	}, nil
}

func writeCertificate(path string, c, parent *x509.Certificate, key, signing *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signing)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}
