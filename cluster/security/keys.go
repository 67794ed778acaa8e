package security

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
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
	id    Identity
	now   func() time.Time
	files *files // certificates from files; nil: from the secret

	mu   sync.Mutex
	all  []derived // of each secret; the first is in use
	pool *x509.CertPool
	leaf *tls.Certificate // of the first; nil: none yet
}

// derived is what follows from one secret.
type derived struct {
	gossip, data []byte
	ca           authority
	fingerprint  string
}

// Derive derives the keys of the process id from the shared secret. Two processes
// get along if secret and id.RunID are equal.
func Derive(secret []byte, id Identity) (*Keys, error) { return derive(secret, id, time.Now) }

func derive(secret []byte, id Identity, now func() time.Time) (*Keys, error) {
	if id.RunID == "" || id.Node == "" {
		return nil, fmt.Errorf("%w: run id %q and node %q must not be empty", ErrIdentity, id.RunID, id.Node)
	}
	if got, ok := identityOf(&x509.Certificate{URIs: []*url.URL{id.uri()}}); !ok || got != id {
		return nil, fmt.Errorf("%w: run id %q and node %q do not survive a URI", ErrIdentity, id.RunID, id.Node)
	}
	k := &Keys{id: id, now: now}
	return k, k.Replace([][]byte{secret})
}

// DeriveAll is Derive for several secrets; see Replace.
func DeriveAll(secrets [][]byte, id Identity) (*Keys, error) {
	if len(secrets) == 0 {
		return nil, fmt.Errorf("%w: there is none", ErrWeakSecret)
	}
	k, err := Derive(secrets[0], id)
	if err == nil {
		err = k.Replace(secrets)
	}
	return k, err
}

// Replace changes the secrets: the first is used from now on, all are accepted. It is for
// new connections; those that exist stay as they are. After an error nothing has changed.
// Whether other nodes get along with the new ones is for the caller to know (MayFollow).
func (k *Keys) Replace(secrets [][]byte) error {
	if n := len(secrets); n < 1 || n > MaxSecrets {
		return fmt.Errorf("%w: %d secrets, want 1 to %d", ErrWeakSecret, n, MaxSecrets)
	}
	all, pool := make([]derived, len(secrets)), x509.NewCertPool()
	for i, s := range secrets {
		var err error
		if all[i], err = deriveOne(s, k.id.RunID); err != nil {
			return err
		}
		pool.AddCert(all[i].ca.cert)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.all, k.pool, k.leaf = all, pool, nil
	return nil
}

func deriveOne(secret []byte, runID string) (d derived, err error) {
	if secret, err = ParseSecret(string(secret)); err != nil {
		return d, err
	}
	if d.gossip, err = expand(secret, "gossip", runID); err != nil {
		return d, err
	}
	if d.data, err = expand(secret, "data", runID); err != nil {
		return d, err
	}
	seed, err := expand(secret, "ca", "")
	if err != nil {
		return d, err
	}
	name, err := expand(secret, "fingerprint", runID)
	if err != nil {
		return d, err
	}
	d.fingerprint = hex.EncodeToString(name[:fingerprintBytes])
	d.ca, err = newAuthority(ed25519.NewKeyFromSeed(seed))
	return d, err
}

// fingerprintBytes is enough to tell the secrets of one run apart, and too little to
// know a secret by.
const fingerprintBytes = 3

// expand derives KeySize bytes for a purpose; the zero byte keeps
// (purpose, context) pairs apart.
func expand(secret []byte, purpose, context string) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, secret, []byte(hkdfSalt), purpose+"\x00"+context, KeySize)
	if err != nil {
		return nil, fmt.Errorf("security: derive the %s key: %w", purpose, err)
	}
	return key, nil
}

// GossipKeys returns the AES-256 keys of the gossip; the first is in use.
func (k *Keys) GossipKeys() [][]byte {
	return k.each(func(d derived) []byte { return d.gossip })
}

// DataKeys returns the HMAC keys of the data plane; the first is in use.
func (k *Keys) DataKeys() [][]byte {
	return k.each(func(d derived) []byte { return d.data })
}

func (k *Keys) each(key func(d derived) []byte) [][]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	var keys [][]byte
	for _, d := range k.all {
		keys = append(keys, bytes.Clone(key(d)))
	}
	return keys
}

// Fingerprints name the secrets for people, six hexadecimal digits each: the first is that
// of the secret in use. They follow from secret and run id.
func (k *Keys) Fingerprints() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var names []string
	for _, d := range k.all {
		names = append(names, d.fingerprint)
	}
	return names
}

// Identity returns whose keys these are.
func (k *Keys) Identity() Identity { return k.id }

// String keeps the keys out of logs.
func (k *Keys) String() string {
	return fmt.Sprintf("security.Keys{run %s, node %s, redacted}", k.id.RunID, k.id.Node)
}

// GoString keeps the keys out of %#v.
func (k *Keys) GoString() string { return k.String() }
