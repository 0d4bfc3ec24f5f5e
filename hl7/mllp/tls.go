package mllp

import (
	"crypto/tls"
)

// hardened returns a copy of c that speaks nothing below TLS 1.2, and in 1.2 only suites with forward secrecy and
// authenticated encryption unless c names its own (RFC 9325, sections 3.1.1 and 4.2).
func hardened(c *tls.Config) *tls.Config {
	c = c.Clone()
	if c.MinVersion < minimumTLS {
		c.MinVersion = minimumTLS
	}
	// Connections live for hours, so resumption saves nothing, and it would carry over what was verified back then.
	c.SessionTicketsDisabled = true
	if c.CipherSuites == nil {
		c.CipherSuites = []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		}
	}
	if inner := c.GetConfigForClient; inner != nil {
		c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			got, err := inner(hello)
			if got == nil || err != nil {
				return got, err
			}
			return hardened(got), nil
		}
	}
	return c
}
