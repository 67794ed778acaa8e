package membership

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/hashicorp/memberlist"
)

// MaxMeta is the greatest encoded size of a Meta in bytes.
const MaxMeta = memberlist.MetaMaxSize

// MaxReason is where an EndReason is cut, in bytes.
const MaxReason = 80

const maxName = 128 // bytes of Config.Node

// ErrMeta reports a Meta that cannot be encoded, or bytes that are none.
var ErrMeta = errors.New("membership: meta")

// Meta is what a node says about itself to all others.
type Meta struct {
	Node       string // the node's name without the incarnation's suffix
	Host       string // host name, for people
	Devices    int    // workers this node offers
	Build      string // version of the program
	ConfigHash string // hash of the resolved configuration
	Phase      string // what the node is doing, for people

	// CoordinatorAddr is HOST:PORT of the coordinator if this node holds it.
	CoordinatorAddr string
	// CoordinatorTerm tells an older coordinator from its successor: the higher
	// one is to be believed while gossip still carries both.
	CoordinatorTerm uint64

	// Secrets are the fingerprints of the secrets that the node accepts, with a space in
	// between; the first is in use.
	Secrets string

	// What follows is set when the node knows that the run is over.
	EndOutcome int    // of the run; 0: it continues
	EndCode    int    // exit code of its processes
	EndStep    int64  // last committed step
	EndDigest  string // of the model, if it finished
	EndReason  string // cut to MaxReason bytes
	EndSavedOn string // node on whose disk the state of EndStep was saved, if the run was stopped

	leaving bool // set by Leave: what follows is no failure
}

// The encoding, at most 512 bytes:
//
//	+---------+-----+--------+---------+-----+
//	| version | tag | length | payload | ... |   length: uvarint, tags ascending
//	+---------+-----+--------+---------+-----+
//
// Empty fields are not written; unknown tags are skipped, so that a later build
// may say more. Integers are uvarints.
const (
	metaVersion = 1

	tagNode            = 1
	tagHost            = 2
	tagDevices         = 3
	tagBuild           = 4
	tagConfigHash      = 5
	tagPhase           = 6
	tagCoordinatorAddr = 7
	tagCoordinatorTerm = 8
	tagLeaving         = 9
	tagEndOutcome      = 10
	tagEndCode         = 11
	tagEndStep         = 12 // plus 1: -1 is a step
	tagEndDigest       = 13
	tagEndReason       = 14
	tagSecrets         = 15
	tagEndSavedOn      = 16
	lastTag            = tagEndSavedOn

	maxDevices = 1 << 20
)

// text returns the string field of a tag, nil if the tag is none.
func (m *Meta) text(tag byte) *string {
	switch tag {
	case tagNode:
		return &m.Node
	case tagHost:
		return &m.Host
	case tagBuild:
		return &m.Build
	case tagConfigHash:
		return &m.ConfigHash
	case tagPhase:
		return &m.Phase
	case tagCoordinatorAddr:
		return &m.CoordinatorAddr
	case tagEndDigest:
		return &m.EndDigest
	case tagEndReason:
		return &m.EndReason
	case tagSecrets:
		return &m.Secrets
	case tagEndSavedOn:
		return &m.EndSavedOn
	default:
		return nil
	}
}

// Encode returns m in at most MaxMeta bytes; equal values give equal bytes.
func (m Meta) Encode() ([]byte, error) {
	m.EndReason = cut(m.EndReason, MaxReason)
	if m.EndOutcome < 0 || m.EndCode < 0 || m.EndStep < -1 {
		return nil, fmt.Errorf("%w: outcome %d, exit code %d, step %d: none may be negative", ErrMeta, m.EndOutcome, m.EndCode, m.EndStep)
	}
	if m.Devices < 0 || m.Devices > maxDevices {
		return nil, fmt.Errorf("%w: %d devices is not in 0..%d", ErrMeta, m.Devices, maxDevices)
	}
	out := []byte{metaVersion}
	for tag := byte(tagNode); tag <= lastTag; tag++ {
		if s := m.text(tag); s != nil {
			if !utf8.ValidString(*s) {
				return nil, fmt.Errorf("%w: field %d is not valid UTF-8: %q", ErrMeta, tag, *s)
			}
			if *s != "" {
				out = append(out, tag)
				out = binary.AppendUvarint(out, uint64(len(*s)))
				out = append(out, *s...)
			}
			continue
		}
		if v := m.number(tag); v != 0 {
			payload := binary.AppendUvarint(nil, v)
			out = append(out, tag)
			out = binary.AppendUvarint(out, uint64(len(payload)))
			out = append(out, payload...)
		}
	}
	if len(out) > MaxMeta {
		return nil, fmt.Errorf("%w: %d bytes, at most %d fit in the gossip: shorten the host name, build or config hash (%+v)",
			ErrMeta, len(out), MaxMeta, m)
	}
	return out, nil
}

func (m *Meta) number(tag byte) uint64 {
	switch tag {
	case tagDevices:
		return uint64(m.Devices)
	case tagCoordinatorTerm:
		return m.CoordinatorTerm
	case tagLeaving:
		if m.leaving {
			return 1
		}
	case tagEndOutcome:
		return uint64(m.EndOutcome)
	case tagEndCode:
		return uint64(m.EndCode)
	case tagEndStep:
		if m.EndOutcome != 0 {
			return uint64(m.EndStep + 1)
		}
	}
	return 0
}

// cut shortens a text to at most n bytes, at a character.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// DecodeMeta decodes what Encode wrote. It accepts any bytes and returns an
// error for those that are no Meta of a version it knows.
func DecodeMeta(data []byte) (Meta, error) {
	if len(data) == 0 || len(data) > MaxMeta {
		return Meta{}, fmt.Errorf("%w: %d bytes, want 1 to %d", ErrMeta, len(data), MaxMeta)
	}
	if data[0] != metaVersion {
		return Meta{}, fmt.Errorf("%w: version %d, this build speaks %d", ErrMeta, data[0], metaVersion)
	}
	var m Meta
	var last byte
	for rest := data[1:]; len(rest) > 0; {
		tag := rest[0]
		size, n := binary.Uvarint(rest[1:])
		if n <= 0 || size > MaxMeta || int(size) > len(rest)-1-n {
			return Meta{}, fmt.Errorf("%w: field %d is truncated", ErrMeta, tag)
		}
		if tag <= last {
			return Meta{}, fmt.Errorf("%w: field %d after field %d", ErrMeta, tag, last)
		}
		payload := rest[1+n : 1+n+int(size)]
		if err := m.set(tag, payload); err != nil {
			return Meta{}, err
		}
		last, rest = tag, rest[1+n+int(size):]
	}
	if m.EndOutcome == 0 {
		m.EndStep = 0 // a step without an end says nothing
	}
	return m, nil
}

// set stores one decoded field; unknown tags are ignored.
func (m *Meta) set(tag byte, payload []byte) error {
	if s := m.text(tag); s != nil {
		if !utf8.Valid(payload) {
			return fmt.Errorf("%w: field %d is not valid UTF-8", ErrMeta, tag)
		}
		*s = string(payload)
		return nil
	}
	switch tag {
	case tagDevices, tagCoordinatorTerm, tagLeaving, tagEndOutcome, tagEndCode, tagEndStep:
	default:
		return nil
	}
	v, n := binary.Uvarint(payload)
	if n <= 0 || n != len(payload) {
		return fmt.Errorf("%w: field %d is no number", ErrMeta, tag)
	}
	switch tag {
	case tagDevices:
		if v > maxDevices {
			return fmt.Errorf("%w: %d devices is not in 0..%d", ErrMeta, v, maxDevices)
		}
		m.Devices = int(v)
	case tagCoordinatorTerm:
		m.CoordinatorTerm = v
	case tagLeaving:
		m.leaving = v != 0
	case tagEndOutcome, tagEndCode:
		if v > 255 {
			return fmt.Errorf("%w: field %d is %d", ErrMeta, tag, v)
		}
		if tag == tagEndOutcome {
			m.EndOutcome, m.EndStep = int(v), -1 // unless a step follows
		} else {
			m.EndCode = int(v)
		}
	case tagEndStep:
		if v > math.MaxInt64 {
			return fmt.Errorf("%w: step %d", ErrMeta, v)
		}
		m.EndStep = int64(v) - 1
	}
	return nil
}
