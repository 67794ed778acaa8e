package security

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Page is what protects a run's status page beyond loopback: a token for those who
// look, and a key for the server. Both follow from the secret and the run, so that
// whoever has the secret can look from anywhere and knows the server by its key.
type Page struct {
	Token string // 128 bits, in hexadecimal

	key *ecdsa.PrivateKey
}

// ErrPageKey reports a server that does not have the key that follows from the secret.
var ErrPageKey = errors.New("security: the server's key does not follow from this secret and run id: it is another run, or someone in between")

// DerivePage derives the page's token and key. P-256, since browsers do not accept
// Ed25519 certificates.
func DerivePage(secret []byte, runID string) (Page, error) {
	token, err := hkdf.Key(sha256.New, secret, []byte(runID), "agrdist page token v1", 16)
	if err != nil {
		return Page{}, fmt.Errorf("security: derive the page's token: %w", err)
	}
	// One in 2^32 candidates is no scalar of the curve; the next one is tried.
	for i := range 8 {
		scalar, err := hkdf.Key(sha256.New, secret, []byte(runID), fmt.Sprintf("agrdist page key v1 %d", i), 32)
		if err != nil {
			return Page{}, fmt.Errorf("security: derive the page's key: %w", err)
		}
		if key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar); err == nil {
			return Page{Token: hex.EncodeToString(token), key: key}, nil
		}
	}
	return Page{}, errors.New("security: derive the page's key: no candidate fits the curve")
}

// Server returns the TLS configuration of the page's server. Its certificate is signed
// by itself: a browser warns once, agrdist status knows the key.
func (p Page) Server() (*tls.Config, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("security: draw a serial: %w", err)
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "agrdist status page"}, DNSNames: []string{serverName},
		NotBefore: now.Add(-ClockSkew), NotAfter: now.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, p.key.Public(), p.key)
	if err != nil {
		return nil, fmt.Errorf("security: make the page's certificate: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: p.key}}}, nil
}

// Client returns a TLS configuration that accepts the server with the page's key and no
// other, whatever its certificate says.
func (p Page) Client() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection compares the key itself
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 || !p.key.PublicKey.Equal(cs.PeerCertificates[0].PublicKey) {
				return ErrPageKey
			}
			return nil
		},
	}
}
