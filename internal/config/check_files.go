package config

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// maxPEM bounds a certificate or key file.
const maxPEM = 1 << 20

// configurationFiles looks at who may change the configuration.
func (k *checker) configurationFiles() {
	for _, name := range k.c.files {
		info, err := os.Stat(name)
		if err == nil && info.Mode().Perm()&0o002 != 0 {
			k.findings = append(k.findings, Finding{Error, Problem{File: name, Key: "", What: "may be changed by every user of this machine", Next: "chmod o-w " + name}})
		}
	}
}

// private holds that a file with a secret is not everybody's.
func (k *checker) private(key, path string) {
	info, err := os.Stat(path)
	if err == nil && info.Mode().Perm()&0o007 != 0 {
		k.add(Error, key, "names a file that every user of this machine may read", "chmod 0600 "+path)
	}
}

// privateFolder holds that a folder of keys, where it is there, is its owner's alone.
func (k *checker) privateFolder(key, dir string) {
	info, err := os.Stat(dir)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		k.add(Error, key, "the folder "+dir+" may be entered by others than its owner", "chmod 0700 "+dir+", or give the keys a folder of their own")
	}
}

// within says whether path is below dir (a folder).
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// existing is the path itself, or the nearest folder above it that exists.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || filepath.Dir(path) == path {
			return path
		}
		path = filepath.Dir(path)
	}
}

// plain is an error of the file system without its path, which the setting has.
func plain(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

func (k *checker) serverTLS(key string, t *ServerTLS) {
	k.pair(key, string(t.Certificate), string(t.Key))
	k.authorities(key+".clients", string(t.Clients))
}

func (k *checker) clientTLS(key string, t *ClientTLS) {
	if t.Certificate != "" {
		k.pair(key, string(t.Certificate), string(t.Key))
	}
	k.authorities(key+".ca", string(t.CA))
}

// pair looks at a certificate, its key, and whether they belong together.
func (k *checker) pair(key, certificate, private string) {
	cert, ok := k.pem(key+".certificate", certificate)
	if ok {
		ok = k.chain(key+".certificate", cert)
	}
	secret, okKey := k.pem(key+".key", private)
	k.private(key+".key", private)
	if !ok || !okKey {
		return
	}
	if !bytes.Contains(secret, []byte("PRIVATE KEY-----")) {
		k.add(Error, key+".key", "holds no private key as PEM", "it begins with -----BEGIN PRIVATE KEY-----")
		return
	}
	if _, err := tls.X509KeyPair(cert, secret); err != nil {
		what := "cannot be used with the certificate"
		if strings.Contains(err.Error(), "does not match") {
			what = "does not belong to the certificate"
		}
		k.add(Error, key+".key", what, "give the key with which the certificate was requested")
	}
}

func (k *checker) pem(key, path string) ([]byte, bool) {
	b, err := readBounded(path, maxPEM)
	if err != nil {
		what := "cannot be read: " + plain(err)
		if errors.Is(err, fs.ErrNotExist) {
			what = "names a file that does not exist: " + path
		}
		k.add(Error, key, what, "check the path; a relative one starts at "+k.c.dir)
		return nil, false
	}
	return b, true
}

// chain holds each certificate of a file against the time.
func (k *checker) chain(key string, text []byte) bool {
	found := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		found++
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			k.add(Error, key, fmt.Sprintf("its certificate %d does not parse", found), "export it again as PEM")
			return false
		}
		which := ""
		if found > 1 {
			which = fmt.Sprintf("its certificate %d ", found)
		}
		switch {
		case k.now.After(c.NotAfter):
			k.add(Error, key, which+"expired on "+c.NotAfter.UTC().Format(time.DateOnly), `renew it, then run "lazaret check"`)
		case k.now.Before(c.NotBefore):
			k.add(Error, key, which+"is valid only from "+c.NotBefore.UTC().Format(time.DateOnly), "check this machine's clock, or give the one that is valid now")
		case c.NotAfter.Sub(k.now) < soon:
			k.add(Warning, key, which+"expires on "+c.NotAfter.UTC().Format(time.DateOnly), "renew it before that")
		}
	}
	if found == 0 {
		k.add(Error, key, "holds no certificate as PEM", "it begins with -----BEGIN CERTIFICATE-----")
	}
	return found > 0
}

// authorities looks at the certificates that are trusted.
func (k *checker) authorities(key, path string) {
	if path == "" {
		return
	}
	if b, ok := k.pem(key, path); ok {
		k.chain(key, b)
	}
}
