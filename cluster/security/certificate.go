package security

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"
)

const (
	// Lifetime is how long a certificate is good for from its issue. A process
	// renews its own halfway through, so a run may last for months.
	Lifetime = 24 * time.Hour
	// ClockSkew is how far two clocks may differ: a certificate is valid this
	// much before its issue and this much after its lifetime. It covers a
	// machine whose clock runs in local time as if it were UTC.
	ClockSkew = 14 * time.Hour

	scheme = "agrdist"
	// serverName is the one DNS name all certificates carry. Peers are known by
	// the authority and the run id; the address they are dialled at says nothing.
	serverName = "agrdist.internal"
)

// authority is the certificate authority that everybody with the secret owns.
type authority struct {
	key  ed25519.PrivateKey
	cert *x509.Certificate
}

// newAuthority self-signs the authority's certificate. ed25519 signatures are
// deterministic and so is every field: all processes get the same bytes.
func newAuthority(key ed25519.PrivateKey) (authority, error) {
	t := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "agrdist run authority"},
		NotBefore:             time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:              time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280: no well-defined end
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return authority{}, fmt.Errorf("security: self-sign the authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return authority{}, fmt.Errorf("security: parse the authority: %w", err)
	}
	return authority{key: key, cert: cert}, nil
}

// issue makes a certificate with a fresh key for id.
func (a authority) issue(id Identity, now time.Time) (*tls.Certificate, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("security: make a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("security: draw a serial: %w", err)
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "agrdist"},
		NotBefore:    now.Add(-ClockSkew),
		NotAfter:     now.Add(Lifetime + ClockSkew),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:     []string{serverName},
		URIs:         []*url.URL{id.uri()},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, pub, a.key)
	if err != nil {
		return nil, fmt.Errorf("security: issue a certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("security: parse the certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// trust returns this process's certificate and the authorities of its peers. A
// certificate of its own is renewed when half its lifetime is over (or the clock was set
// back before its issue), and when another secret is in use.
func (k *Keys) trust() (pair, error) {
	if k.files != nil {
		return k.files.read()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if k.leaf != nil {
		issued := k.leaf.Leaf.NotBefore.Add(ClockSkew)
		if age := now.Sub(issued); age > -time.Minute && age < Lifetime/2 {
			return pair{k.leaf, k.pool}, nil
		}
	}
	leaf, err := k.all[0].ca.issue(k.id, now)
	if err != nil {
		return pair{}, err
	}
	k.leaf = leaf
	return pair{leaf, k.pool}, nil
}

// certificate returns this process's certificate.
func (k *Keys) certificate() (*tls.Certificate, error) {
	p, err := k.trust()
	return p.leaf, err
}

// uri writes the identity as agrdist://run/RUN/NODE, each part escaped.
func (id Identity) uri() *url.URL {
	return &url.URL{
		Scheme: scheme, Host: "run",
		Path:    "/" + id.RunID + "/" + id.Node,
		RawPath: "/" + url.PathEscape(id.RunID) + "/" + url.PathEscape(id.Node),
	}
}

// memberURI marks a certificate file as that of a node, for any run.
func memberURI(node string) *url.URL {
	return &url.URL{Scheme: scheme, Host: "node", Path: "/" + node, RawPath: "/" + url.PathEscape(node)}
}

// identityOf reads the identity from a certificate's URI: agrdist://run/RUN/NODE, or
// agrdist://node/NODE, which names no run.
func identityOf(cert *x509.Certificate) (Identity, bool) {
	for _, u := range cert.URIs {
		parts := strings.Split(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
		switch {
		case u.Scheme != scheme:
			continue
		case u.Host == "run" && len(parts) == 2:
		case u.Host == "node" && len(parts) == 1:
			parts = append([]string{""}, parts...)
		default:
			continue
		}
		run, err1 := url.PathUnescape(parts[0])
		node, err2 := url.PathUnescape(parts[1])
		if err1 == nil && err2 == nil && node != "" {
			return Identity{RunID: run, Node: node}, true
		}
	}
	return Identity{}, false
}
