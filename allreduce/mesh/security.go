package mesh

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

// Security says what protects the frames of a TCP connection against somebody on
// the network between two ranks. Ranks of one host that talk through memory which
// both map have no network between them: nothing is computed there.
type Security uint8

// Levels of security. All but SecurityNone need a Secret.
const (
	// SecurityAuto is SecurityMAC where there is a Secret, else SecurityNone.
	SecurityAuto Security = iota
	// SecurityNone protects the handshake only: frames carry a CRC32C.
	SecurityNone
	// SecurityMAC authenticates every frame (GMAC, NIST SP 800-38D): a frame that
	// was altered, dropped, repeated or moved ends the group.
	SecurityMAC
	// SecurityAEAD encrypts payloads as well (AES-256-GCM).
	SecurityAEAD
)

var securityNames = [...]string{SecurityAuto: "auto", SecurityNone: "none", SecurityMAC: "mac", SecurityAEAD: "aead"}

// ParseSecurity returns the level of a name: "auto", "none", "mac" or "aead".
func ParseSecurity(name string) (Security, error) {
	for level, n := range securityNames {
		if n == name {
			return Security(level), nil
		}
	}
	return 0, fmt.Errorf("allreduce: security %q, want mac, aead, none or auto", name)
}

func (s Security) String() string {
	if int(s) < len(securityNames) {
		return securityNames[s]
	}
	return fmt.Sprintf("Security(%d)", uint8(s))
}

// resolve replaces SecurityAuto and refuses what cannot be.
func (s Security) resolve(secret bool) (Security, error) {
	switch {
	case s == SecurityAuto && secret:
		return SecurityMAC, nil
	case s == SecurityAuto:
		return SecurityNone, nil
	case s > SecurityAEAD:
		return 0, fmt.Errorf("allreduce: unknown security %v", s)
	case s != SecurityNone && !secret:
		return 0, fmt.Errorf("allreduce: security %v needs a secret shared by all ranks: set one, or security none", s)
	}
	return s, nil
}

// ephemeral is one side's key of one connection. Its public half is the side's
// nonce: fresh, and as good as random. The secret that the two halves make is
// forgotten with the connection, so who learns the run's Secret later cannot read
// what he has recorded.
type ephemeral struct{ key *ecdh.PrivateKey }

func newEphemeral() ephemeral {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		panic("allreduce: " + err.Error()) // crypto/rand never fails
	}
	return ephemeral{key}
}

func (e ephemeral) nonce() [nonceSize]byte { return [nonceSize]byte(e.key.PublicKey().Bytes()) }

// keys protect one connection after the proofs. The zero value protects nothing.
type keys struct {
	handshake      []byte // of the messages after the proofs
	dialer, listen cipher.AEAD
}

var errTampered = errors.New("allreduce: the handshake was altered on the way")

// derive makes a connection's keys from the run's secret and from what only its
// two ends can know. hello and theirs are what went over the wire.
func (e ephemeral) derive(secret, hello []byte, listener, theirs [nonceSize]byte) (k keys, err error) {
	if len(secret) == 0 {
		return keys{}, nil
	}
	peer, err := ecdh.X25519().NewPublicKey(theirs[:])
	if err != nil {
		return keys{}, fmt.Errorf("%w: %w", errTampered, err)
	}
	shared, err := e.key.ECDH(peer)
	if err != nil { // the other half was chosen to make the secret known
		return keys{}, fmt.Errorf("%w: %w", errTampered, err)
	}
	transcript := sha256.New()
	transcript.Write(hello)
	transcript.Write(listener[:])
	prk, err := hkdf.Extract(sha256.New, append(shared, secret...), transcript.Sum(nil))
	if err != nil {
		return keys{}, fmt.Errorf("allreduce: derive keys: %w", err)
	}
	expand := func(info string) []byte {
		var key []byte
		if err == nil {
			key, err = hkdf.Expand(sha256.New, prk, "agrdist mesh "+info, 32)
		}
		return key
	}
	gcm := func(info string) (a cipher.AEAD) {
		key := expand(info)
		if err != nil {
			return nil
		}
		block, failed := aes.NewCipher(key)
		if failed == nil {
			a, failed = cipher.NewGCM(block)
		}
		err = failed
		return a
	}
	k.handshake, k.dialer, k.listen = expand("handshake"), gcm("dialer"), gcm("listener")
	if err != nil {
		return keys{}, fmt.Errorf("allreduce: derive keys: %w", err)
	}
	return k, nil
}

// sign returns the tag of a message of the handshake after the proofs: zeros
// without a secret.
func (k *keys) sign(message []byte) (tag [proofSize]byte) {
	if k.handshake == nil {
		return tag
	}
	mac := hmac.New(sha256.New, k.handshake)
	mac.Write(message)
	return [proofSize]byte(mac.Sum(nil))
}

// verify checks such a tag.
func (k *keys) verify(message []byte, tag [proofSize]byte) error {
	if !proofsEqual(tag, k.sign(message)) {
		return errTampered
	}
	return nil
}
