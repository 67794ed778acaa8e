package security

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// Authority is a certificate authority in a directory: ca.pem and ca-key.pem, and beside
// them NODE.pem and NODE-key.pem of each node that it certified.
type Authority struct {
	dir  string
	key  ed25519.PrivateKey
	cert *x509.Certificate
}

// ErrAuthority reports a directory that is, or is not, an authority's already.
var ErrAuthority = errors.New("certificate authority")

// authorityYears is how long an authority is good for.
const authorityYears = 10

// NewAuthority makes an authority in a directory, which it creates for this user only. It
// refuses one that has an authority: certificates of it would be good no more.
func NewAuthority(dir string, now time.Time) (*Authority, error) {
	for _, name := range []string{"ca.pem", "ca-key.pem"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %s has one: agrdist pki issue %s NODE... certifies more nodes", ErrAuthority, dir, dir)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAuthority, err)
	}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("%w: make a key: %w", ErrAuthority, err)
	}
	t := template(pkix.Name{CommonName: "agrdist authority"}, now, now.AddDate(authorityYears, 0, 0))
	t.IsCA, t.BasicConstraintsValid, t.MaxPathLenZero, t.KeyUsage = true, true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, pub, key)
	if err != nil {
		return nil, fmt.Errorf("%w: self-sign: %w", ErrAuthority, err)
	}
	if err := writePair(dir, "ca", der, key); err != nil {
		return nil, err
	}
	return OpenAuthority(dir)
}

// OpenAuthority reads the authority of a directory.
func OpenAuthority(dir string) (*Authority, error) {
	certPath, keyPath := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem")
	raw, err := os.ReadFile(certPath)
	if err != nil {
		return nil, fmt.Errorf("%w: %w (agrdist pki init %s makes one)", ErrAuthority, err, dir)
	}
	certs, err := parseCertificates(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrAuthority, certPath, err)
	}
	raw, err = os.ReadFile(keyPath)
	if err != nil {
		return nil, fmt.Errorf("%w: %w (only where the authority's key is can nodes be certified)", ErrAuthority, err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, fmt.Errorf("%w: %s has no key in PEM", ErrAuthority, keyPath)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(ed25519.PrivateKey)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %s: %w", ErrAuthority, keyPath, err)
	case !ok || !certs[0].IsCA || !key.Public().(ed25519.PublicKey).Equal(certs[0].PublicKey):
		return nil, fmt.Errorf("%w: %s is not the key of %s", ErrAuthority, keyPath, certPath)
	}
	return &Authority{dir: dir, key: key, cert: certs[0]}, nil
}

var nodeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// CheckNode returns why a node cannot have the name in a certificate file.
func CheckNode(name string) error {
	if !nodeName.MatchString(name) || name == "ca" {
		return fmt.Errorf("%w: node %q: a name has letters, digits, dots, dashes and underscores, and is not ca", ErrIdentity, name)
	}
	return nil
}

// Issue certifies a node for so many days, with a new key, and replaces what it had. It
// returns the paths of certificate and key.
func (a *Authority) Issue(node string, days int, now time.Time) (cert, key string, err error) {
	end := now.AddDate(0, 0, days)
	switch err := CheckNode(node); {
	case err != nil:
		return "", "", err
	case days < 1:
		return "", "", fmt.Errorf("%w: a certificate for %d days; it must be 1 or more", ErrIdentity, days)
	case end.After(a.cert.NotAfter):
		return "", "", fmt.Errorf("%w: the authority itself ends on %s: fewer days, or a new one", ErrAuthority, a.cert.NotAfter.Format(time.DateOnly))
	}
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("%w: make a key: %w", ErrAuthority, err)
	}
	t := template(pkix.Name{CommonName: node}, now, end)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	t.DNSNames, t.URIs = []string{serverName}, []*url.URL{memberURI(node)}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, pub, a.key)
	if err != nil {
		return "", "", fmt.Errorf("%w: issue: %w", ErrAuthority, err)
	}
	cert, key = filepath.Join(a.dir, node+".pem"), filepath.Join(a.dir, node+"-key.pem")
	return cert, key, writePair(a.dir, node, der, private)
}

// template is what all certificates have. They are good from a little before now: clocks
// differ.
func template(name pkix.Name, now, end time.Time) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)) // rand.Reader never fails
	return &x509.Certificate{SerialNumber: serial, Subject: name, NotBefore: now.Add(-ClockSkew), NotAfter: end}
}

// writePair writes NAME-key.pem and NAME.pem, each at once as a whole: a run may read them.
func writePair(dir, name string, der []byte, key ed25519.PrivateKey) error {
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("%w: write the key: %w", ErrAuthority, err)
	}
	for _, f := range []struct {
		file string
		mode os.FileMode
		body *pem.Block
	}{
		{name + "-key.pem", 0o600, &pem.Block{Type: "PRIVATE KEY", Bytes: raw}},
		{name + ".pem", 0o644, &pem.Block{Type: "CERTIFICATE", Bytes: der}},
	} {
		path := filepath.Join(dir, f.file)
		if err := os.WriteFile(path+".tmp", pem.EncodeToMemory(f.body), f.mode); err != nil {
			return fmt.Errorf("%w: %w", ErrAuthority, err)
		}
		if err := os.Rename(path+".tmp", path); err != nil {
			return fmt.Errorf("%w: %w", ErrAuthority, err)
		}
	}
	return nil
}
