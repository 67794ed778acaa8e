package security

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// ErrCertificate reports certificate files that cannot be used as they are.
var ErrCertificate = errors.New("security: certificate files")

// Files name a node's certificate and key, and the authorities of all members, as PEM.
// A certificate names its node by the URI agrdist://node/NODE, or agrdist://run/RUN/NODE
// for one run, and is for server and client authentication.
type Files struct {
	CA, Cert, Key string
	// Log is told of files that changed into something unusable; nil: nobody is.
	Log *slog.Logger
}

// UseFiles makes the coordinator's connections use certificates from files, in place of
// those that follow from the secret. The files are read again when they change, so keys
// and authorities are replaced while a run continues: new connections use them. Files without
// names change nothing.
func (k *Keys) UseFiles(f Files) error {
	if f == (Files{Log: f.Log}) {
		return nil
	}
	fs := &files{Files: f, node: k.id.Node}
	if err := fs.load(); err != nil {
		return err
	}
	k.files = fs
	return nil
}

// NodeOf returns the name of the node that a certificate file is of.
func NodeOf(certFile string) (string, error) {
	raw, err := os.ReadFile(certFile)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	certs, err := parseCertificates(raw)
	if err != nil {
		return "", fmt.Errorf("%w: %s: %w", ErrCertificate, certFile, err)
	}
	id, ok := identityOf(certs[0])
	if !ok {
		return "", noNode(certFile)
	}
	return id.Node, nil
}

func noNode(path string) error {
	return fmt.Errorf("%w: %s names no node: it needs the URI agrdist://node/NODE (agrdist pki issue makes such certificates)", ErrCertificate, path)
}

// pair is what the files held when they were read.
type pair struct {
	leaf *tls.Certificate
	pool *x509.CertPool
}

type files struct {
	Files
	node string

	mu    sync.Mutex
	last  pair
	stamp [3]stamp
	said  string // the last complaint
}

// stamp tells one state of a file from another.
type stamp struct {
	at   time.Time
	size int64
}

// read returns what the files hold now. Where that cannot be used it is what they held
// before: one of three files may be new and the others not yet.
func (f *files) read() (pair, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stamps() == f.stamp {
		return f.last, nil
	}
	if err := f.load(); err != nil && f.Log != nil && err.Error() != f.said {
		f.said = err.Error()
		f.Log.Warn("the certificate files changed and cannot be used; those of before stay in use", "err", err)
	}
	return f.last, nil
}

func (f *files) stamps() (s [3]stamp) {
	for i, path := range []string{f.CA, f.Cert, f.Key} {
		if info, err := os.Stat(path); err == nil {
			s[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return s
}

// load reads and checks the files.
func (f *files) load() error {
	before := f.stamps() // what changes while they are read is read again
	ca, err := os.ReadFile(f.CA)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	authorities, err := parseCertificates(ca)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCertificate, f.CA, err)
	}
	leaf, err := f.loadPair()
	if err != nil {
		return err
	}
	p := pair{leaf, x509.NewCertPool()}
	for _, c := range authorities {
		p.pool.AddCert(c)
	}
	id, ok := identityOf(leaf.Leaf)
	switch {
	case !ok:
		return noNode(f.Cert)
	case id.Node != f.node:
		return fmt.Errorf("%w: %s is of node %q, and this one is %q (cluster.node)", ErrCertificate, f.Cert, id.Node, f.node)
	}
	certs := []*x509.Certificate{leaf.Leaf}
	for _, der := range leaf.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrCertificate, f.Cert, err)
		}
		certs = append(certs, c)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if err := verify(certs, p.pool, usage, time.Now()); err != nil {
			return fmt.Errorf("%w: %s does not pass by %s: %w", ErrCertificate, f.Cert, f.CA, err)
		}
	}
	f.last, f.stamp, f.said = p, before, ""
	return nil
}

// loadPair reads the certificate and its key, which must be private.
func (f *files) loadPair() (*tls.Certificate, error) {
	info, err := os.Stat(f.Key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	if !private(info) {
		return nil, fmt.Errorf("%w: %s has mode %#o, so others can read the key: run chmod 600 %s", ErrCertificate, f.Key, info.Mode().Perm(), f.Key)
	}
	leaf, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("%w: %s and %s: %w", ErrCertificate, f.Cert, f.Key, err)
	}
	return &leaf, nil
}

// verify checks a certificate, which its chain follows.
func verify(certs []*x509.Certificate, roots *x509.CertPool, usage x509.ExtKeyUsage, now time.Time) error {
	chain := x509.NewCertPool()
	for _, c := range certs[1:] {
		chain.AddCert(c)
	}
	_, err := certs[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: chain, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
	})
	return err
}

func parseCertificates(pemBytes []byte) (certs []*x509.Certificate, err error) {
	for len(bytes.TrimSpace(pemBytes)) > 0 {
		block, rest := pem.Decode(pemBytes)
		if block == nil {
			break
		}
		pemBytes = rest
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("it has no certificate in PEM")
	}
	return certs, nil
}
