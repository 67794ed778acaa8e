package mesh

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/agrdist/agrdist/allreduce"
)

// Before the first frame the two ends of a connection agree on who they are.
// The higher rank dials. Numbers are little endian.
//
//	dialer                                     listener
//	hello: run, generation, ranks, nonce  -->  magic, version, run id right?
//	                                     <--   challenge: nonce, proof | refusal
//	proof                                 -->  proof right? Park the connection
//	                                           until its generation is asked for.
//	                                     <--   verdict: offer | refusal, tag
//	ready, tag                            -->  only now the connection counts
//
// A proof is HMAC-SHA256(Secret, role, hello, listener's nonce): both nonces
// are under it, so neither side can replay an old one, and the role keeps one
// side's from serving as the other's.
//
// Nonces are X25519 public keys (RFC 7748), made for this connection. Its keys come
// from HKDF-SHA256 (RFC 5869) over their shared secret and the Secret, with the hash
// of hello and listener's nonce as the salt: one for the tags (HMAC-SHA256) of what
// follows the proofs, one for the frames of each direction (stream.go). So somebody
// who relays the handshake without knowing the Secret gets no key, and who records a
// connection cannot read it with a Secret learnt later.
//
// While the run's secret is replaced, ranks have two: the listener proves the one that it
// uses, and the dialer, which accepts either, answers with the same (Endpoint.Rotate).
//
// Without a Secret proofs and tags are zero.
//
//	hello      "AGRH" | version u16 | flags u16 | generation u64 | dialer u32 |
//	           listener u32 | world u32 | chunks u32 | segment u32 | order u8 |
//	           security u8 | 2 zero | nonce 32 | length u16 | run id
//	challenge  "AGRC" | status u8 | nonce 32 | proof 32 | length u16 | reason
//	proof      "AGRP" | proof 32
//	verdict    "AGRV" | status u8 | length u16 | reason or offer | tag 32
//	ready      "AGRR" | choice u8 | tag 32
const (
	// 2: ranks of one host lend each other memory. 3: keys for each connection.
	handshakeVersion = 3

	nonceSize = 32
	proofSize = sha256.Size
	helloSize = 80 // without the run id

	// MaxRunID is the longest run id, in bytes.
	MaxRunID = 255

	flagSecret = 1 // the sender has a Secret
)

// Choices of the dialer in ready.
const (
	choiceTCP = iota
	choiceShm // the listener's offer
)

// status is the listener's answer.
type status uint8

const (
	statusOK status = iota
	statusRefused
	statusBusy // try again later
)

// hello is the dialer's introduction.
type hello struct {
	secret     bool
	generation uint64
	dialer     int
	listener   int
	terms      terms
	security   Security
	nonce      [nonceSize]byte
	run        string
}

// terms are what all ranks of a group must have in common.
type terms struct {
	world, chunks, segment int
	order                  allreduce.Order
}

func termsOf(c *allreduce.GroupConfig) terms {
	return terms{
		world: c.Plan.World(), chunks: c.Plan.Chunks(), segment: c.SegmentElems, order: c.Order,
	}
}

func (t terms) String() string {
	return fmt.Sprintf("%d ranks, %d chunks, order %v, segments of %d elements", t.world, t.chunks, t.order, t.segment)
}

func (h *hello) encode() []byte {
	b := make([]byte, helloSize, helloSize+len(h.run))
	le := binary.LittleEndian
	copy(b, "AGRH")
	le.PutUint16(b[4:], handshakeVersion)
	if h.secret {
		le.PutUint16(b[6:], flagSecret)
	}
	le.PutUint64(b[8:], h.generation)
	le.PutUint32(b[16:], u32(h.dialer))
	le.PutUint32(b[20:], u32(h.listener))
	le.PutUint32(b[24:], u32(h.terms.world))
	le.PutUint32(b[28:], u32(h.terms.chunks))
	le.PutUint32(b[32:], u32(h.terms.segment))
	b[36], b[37] = byte(h.terms.order), byte(h.security)
	copy(b[40:], h.nonce[:])
	le.PutUint16(b[72:], u16(len(h.run)))
	return append(b, h.run...)
}

var errNotUs = errors.New("allreduce: not an agrdist rank on the other end")

// readHello reads a hello; it returns the bytes as well, for the proofs.
func readHello(r io.Reader) (*hello, []byte, error) {
	b := make([]byte, helloSize, helloSize+MaxRunID)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, nil, err
	}
	le := binary.LittleEndian
	if string(b[:4]) != "AGRH" {
		return nil, nil, errNotUs
	}
	if v := le.Uint16(b[4:]); v != handshakeVersion {
		return nil, nil, fmt.Errorf("allreduce: handshake version %d, this build speaks %d", v, handshakeVersion)
	}
	n := le.Uint16(b[72:])
	if n > MaxRunID {
		return nil, nil, fmt.Errorf("allreduce: run id of %d bytes, at most %d are allowed", n, MaxRunID)
	}
	b = b[:helloSize+int(n)]
	if _, err := io.ReadFull(r, b[helloSize:]); err != nil {
		return nil, nil, err
	}
	h := &hello{
		secret:     le.Uint16(b[6:])&flagSecret != 0,
		generation: le.Uint64(b[8:]),
		dialer:     int(le.Uint32(b[16:])),
		listener:   int(le.Uint32(b[20:])),
		terms: terms{
			world: int(le.Uint32(b[24:])), chunks: int(le.Uint32(b[28:])),
			segment: int(le.Uint32(b[32:])), order: allreduce.Order(b[36]),
		},
		security: Security(b[37]), nonce: [nonceSize]byte(b[40:72]),
		run: string(b[helloSize:]),
	}
	if h.terms.world < 1 || h.terms.world > allreduce.MaxWorld || h.dialer < 0 || h.dialer >= h.terms.world || h.listener < 0 || h.listener >= h.dialer {
		return nil, nil, fmt.Errorf("allreduce: rank %d dials rank %d in a group of %d", h.dialer, h.listener, h.terms.world)
	}
	return h, b, nil
}

// Roles in a proof.
const (
	roleDialer   = "agrdist allreduce dialer\x00"
	roleListener = "agrdist allreduce listener\x00"
)

// proof returns HMAC-SHA256(secret, role, hello, nonce), or zeros without a
// secret.
func proof(secret []byte, role string, hello []byte, nonce [nonceSize]byte) (p [proofSize]byte) {
	if len(secret) == 0 {
		return p
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(role))
	mac.Write(hello)
	mac.Write(nonce[:])
	return [proofSize]byte(mac.Sum(nil))
}

func proofsEqual(a, b [proofSize]byte) bool { return hmac.Equal(a[:], b[:]) }

// challenge is the listener's first answer.
type challenge struct {
	status status
	nonce  [nonceSize]byte
	proof  [proofSize]byte
	reason string
}

const challengeSize = 4 + 1 + nonceSize + proofSize + 2

func (c *challenge) encode() []byte {
	b := make([]byte, challengeSize, challengeSize+len(c.reason))
	copy(b, "AGRC")
	b[4] = byte(c.status)
	copy(b[5:], c.nonce[:])
	copy(b[5+nonceSize:], c.proof[:])
	binary.LittleEndian.PutUint16(b[challengeSize-2:], u16(len(c.reason)))
	return append(b, c.reason...)
}

func readChallenge(r io.Reader) (*challenge, error) {
	var b [challengeSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return nil, err
	}
	if string(b[:4]) != "AGRC" {
		return nil, errNotUs
	}
	reason, err := readText(r, binary.LittleEndian.Uint16(b[challengeSize-2:]))
	return &challenge{
		status: status(b[4]), nonce: [nonceSize]byte(b[5:]),
		proof: [proofSize]byte(b[5+nonceSize:]), reason: string(reason),
	}, err
}

func encodeProof(p [proofSize]byte) []byte { return append([]byte("AGRP"), p[:]...) }

func readProof(r io.Reader) (p [proofSize]byte, err error) {
	var b [4 + proofSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return p, err
	}
	if string(b[:4]) != "AGRP" {
		return p, errNotUs
	}
	return [proofSize]byte(b[4:]), nil
}

// verdict is the listener's last word: a reason with a refusal, else what it
// offers for the transport.
type verdict struct {
	status status
	text   []byte
}

func (v *verdict) encode(k *keys) []byte {
	b := append(make([]byte, 0, 7+len(v.text)+proofSize), "AGRV"...)
	b = append(b, byte(v.status))
	b = binary.LittleEndian.AppendUint16(b, u16(len(v.text)))
	b = append(b, v.text...)
	tag := k.sign(b)
	return append(b, tag[:]...)
}

func readVerdict(r io.Reader, k *keys) (*verdict, error) {
	b := make([]byte, 7, 7+maxReason)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	if string(b[:4]) != "AGRV" {
		return nil, errNotUs
	}
	text, err := readText(r, binary.LittleEndian.Uint16(b[5:]))
	if err != nil {
		return nil, err
	}
	if err := readTag(r, k, append(b, text...)); err != nil {
		return nil, err
	}
	return &verdict{status: status(b[4]), text: text}, nil
}

func encodeReady(choice byte, k *keys) []byte {
	b := append([]byte("AGRR"), choice)
	tag := k.sign(b)
	return append(b, tag[:]...)
}

func readReady(r io.Reader, k *keys) (choice byte, err error) {
	var b [5]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, err
	}
	if string(b[:4]) != "AGRR" {
		return 0, errNotUs
	}
	return b[4], readTag(r, k, b[:])
}

// readTag reads the tag that ends a message and checks it.
func readTag(r io.Reader, k *keys, message []byte) error {
	var tag [proofSize]byte
	if _, err := io.ReadFull(r, tag[:]); err != nil {
		return err
	}
	return k.verify(message, tag)
}

// readText reads a text of n <= maxReason bytes.
func readText(r io.Reader, n uint16) ([]byte, error) {
	if n > maxReason {
		return nil, fmt.Errorf("allreduce: text of %d bytes in a handshake, at most %d are allowed", n, maxReason)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

// writeAll writes b to the connection as one write.
func writeAll(c net.Conn, b []byte) error {
	_, err := c.Write(b)
	return err
}
