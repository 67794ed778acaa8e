package security

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"
)

// KeySize is the length of the derived symmetric keys in bytes.
const KeySize = 32

const hkdfSalt = "agrdist/v1" // a new version derives other keys: old and new do not talk

// ErrIdentity reports a run id or node name that cannot stand in a certificate.
var ErrIdentity = errors.New("security: identity")

// Identity is what a certificate says about its holder. RunID is verified;
// Node is a claim of somebody who holds the secret.
type Identity struct {
	RunID string
	Node  string
}

// Keys are the keys of one process in one run. They are safe for concurrent use.
type Keys struct {
	id     Identity
	gossip []byte
	data   []byte
	ca     authority
	now    func() time.Time
	files  *files // certificates from files; nil: from ca

	mu   sync.Mutex
	leaf *tls.Certificate
}

// Derive derives the keys of the process id from the shared secret. Two processes
// get along if secret and id.RunID are equal.
func Derive(secret []byte, id Identity) (*Keys, error) { return derive(secret, id, time.Now) }

func derive(secret []byte, id Identity, now func() time.Time) (*Keys, error) {
	secret, err := ParseSecret(string(secret))
	if err != nil {
		return nil, err
	}
	if id.RunID == "" || id.Node == "" {
		return nil, fmt.Errorf("%w: run id %q and node %q must not be empty", ErrIdentity, id.RunID, id.Node)
	}
	k := &Keys{id: id, now: now}
	if got, ok := identityOf(&x509.Certificate{URIs: []*url.URL{id.uri()}}); !ok || got != id {
		return nil, fmt.Errorf("%w: run id %q and node %q do not survive a URI", ErrIdentity, id.RunID, id.Node)
	}
	if k.gossip, err = expand(secret, "gossip", id.RunID); err != nil {
		return nil, err
	}
	if k.data, err = expand(secret, "data", id.RunID); err != nil {
		return nil, err
	}
	seed, err := expand(secret, "ca", "")
	if err != nil {
		return nil, err
	}
	if k.ca, err = newAuthority(ed25519.NewKeyFromSeed(seed)); err != nil {
		return nil, err
	}
	return k, nil
}

// expand derives KeySize bytes for a purpose; the zero byte keeps
// (purpose, context) pairs apart.
func expand(secret []byte, purpose, context string) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, secret, []byte(hkdfSalt), purpose+"\x00"+context, KeySize)
	if err != nil {
		return nil, fmt.Errorf("security: derive the %s key: %w", purpose, err)
	}
	return key, nil
}

// GossipKey returns a copy of the AES-256 key of the gossip.
func (k *Keys) GossipKey() []byte { return append([]byte(nil), k.gossip...) }

// DataKey returns a copy of the HMAC key of the data plane.
func (k *Keys) DataKey() []byte { return append([]byte(nil), k.data...) }

// Identity returns whose keys these are.
func (k *Keys) Identity() Identity { return k.id }

// String keeps the keys out of logs.
func (k *Keys) String() string {
	return fmt.Sprintf("security.Keys{run %s, node %s, redacted}", k.id.RunID, k.id.Node)
}

// GoString keeps the keys out of %#v.
func (k *Keys) GoString() string { return k.String() }
