package mesh

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// Rotate changes the secrets of an endpoint that has one, for groups to come. A
// listener proves the first; a dialer accepts any and answers with the same. So ranks whose
// first secrets differ connect, if each has the other's. Groups that are connected live on:
// their keys were made for their connections.
func (e *Endpoint) Rotate(secrets [][]byte) error {
	fresh := make([][]byte, len(secrets))
	for i, s := range secrets {
		if len(s) < minSecret {
			return fmt.Errorf("allreduce: secret of %d bytes, want at least %d", len(s), minSecret)
		}
		fresh[i] = bytes.Clone(s)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.secrets) == 0 || len(fresh) == 0 {
		return errors.New("allreduce: an endpoint keeps having a secret, or having none")
	}
	e.secrets = fresh
	for key, g := range e.parked {
		if !e.accepts(g) {
			e.drop(key, g) // a member dials again
		}
	}
	return nil
}

// accepts tells whether the secret that a guest has proved to know is accepted still; e.mu
// is held.
func (e *Endpoint) accepts(g *guest) bool {
	return len(e.secrets) == 0 || slices.ContainsFunc(e.secrets, func(s []byte) bool { return bytes.Equal(s, g.secret) })
}

// accepted returns the secrets; the first is in use.
func (e *Endpoint) accepted() [][]byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.secrets
}

// proven returns which of this rank's secrets the listener has proved to know; without any
// secrets it has nothing to prove.
func proven(secrets [][]byte, c *challenge, hello []byte) (secret []byte, ok bool) {
	if len(secrets) == 0 {
		return nil, proofsEqual(c.proof, proof(nil, roleListener, hello, c.nonce))
	}
	for _, s := range secrets {
		if proofsEqual(c.proof, proof(s, roleListener, hello, c.nonce)) {
			return s, true
		}
	}
	return nil, false
}
