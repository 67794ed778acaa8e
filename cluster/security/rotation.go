package security

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// The secret of a run is replaced while the run continues, in three phases. Each node's
// secret file is changed, on one node after the other and in any order; a phase begins
// when all nodes have taken up the one before.
//
//	phase   file        the node uses   and accepts
//	0       OLD         OLD
//	1       OLD, NEW    OLD             NEW
//	2       NEW, OLD    NEW             OLD
//	3       NEW         NEW
//
// So at every moment all nodes are in one phase or in two that follow each other, and in
// both of these whatever one node uses the other one accepts. MayFollow keeps a node from
// skipping a phase: no node uses what it has not accepted before, or drops what it uses.

// ErrRotation reports secrets that cannot take the place of those in force.
var ErrRotation = errors.New("security: the secret cannot be replaced like this")

// MayFollow checks that a node with the secrets now may take up the secrets next, without
// being refused by nodes that do so earlier or later.
func MayFollow(now, next [][]byte) error {
	switch {
	case len(now) == 0 || len(next) == 0:
		return fmt.Errorf("%w: there is none", ErrRotation)
	case !has(next, now[0]):
		return fmt.Errorf("%w: the secret in use is not in the file; other nodes still use it: put it back, below the new one "+
			"if all nodes accept that already, else above it", ErrRotation)
	case !has(now, next[0]):
		return fmt.Errorf("%w: its first secret is new, and other nodes may not accept it yet: put it below the secret in use, "+
			"and first when all nodes accept it", ErrRotation)
	}
	return nil
}

func has(all [][]byte, one []byte) bool {
	return slices.ContainsFunc(all, func(s []byte) bool { return bytes.Equal(s, one) })
}

// Watch follows a secret file that may be replaced while a run continues.
type Watch struct {
	path   string
	now    [][]byte // in force
	before look
	said   string // the last complaint
}

// look is what one look at the file found.
type look struct {
	secrets [][]byte
	problem error
}

func (l look) same(o look) bool {
	return l.says() == o.says() && slices.EqualFunc(l.secrets, o.secrets, bytes.Equal)
}

// says is the problem's text; empty: there is none.
func (l look) says() string {
	if l.problem == nil {
		return ""
	}
	return l.problem.Error()
}

// NewWatch returns a watch of the file that the secrets in force came from.
func NewWatch(path string, secrets [][]byte) *Watch { return &Watch{path: path, now: secrets} }

// Look reads the file and returns the secrets that are in force from now on, nil while
// they are those of before. A change counts when two looks in a row have found it: a file
// that is being written is read as half of it, and half a secret may look like one. A
// change into something unusable is an error, once; the secrets of before stay in force.
func (w *Watch) Look() ([][]byte, error) {
	found := w.read()
	stood := found.same(w.before)
	w.before = found
	if !stood || found.problem != nil && found.says() == w.said {
		return nil, nil
	}
	w.said = found.says()
	if found.problem != nil || slices.EqualFunc(found.secrets, w.now, bytes.Equal) {
		return nil, found.problem
	}
	w.now = found.secrets
	return w.now, nil
}

func (w *Watch) read() (found look) {
	found.secrets, found.problem = LoadSecrets(w.path)
	if found.problem == nil && !slices.EqualFunc(found.secrets, w.now, bytes.Equal) {
		found.problem = MayFollow(w.now, found.secrets)
	}
	return found
}
