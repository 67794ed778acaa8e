package mesh

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
	"unicode/utf8"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/internal/sharedmem"
)

// A connection between two ranks carries frames in both directions: a header
// of 64 bytes, then the payload. All numbers are little endian.
//
//	 0       4    5    6    8                16               24
//	+-------+----+----+----+----------------+----------------+
//	| magic |ver |type|from|   generation   |  frame number  |
//	+-------+----+----+----+----------------+----------------+
//	 24      28      32               40      44    46    48
//	+-------+-------+----------------+-------+-----+-----+
//	|  op   |bucket |    elements    |segment|slice|part |
//	+-------+-------+----------------+-------+-----+-----+
//	 48      52      56      60      64
//	+-------+-------+-------+-------+----------------------
//	|length |  crc  |   0   | hcrc  | payload: length bytes
//	+-------+-------+-------+-------+----------------------
//
// frame number counts the frames of the connection in this direction, from 0:
// a lost, repeated or reordered frame shows. op counts the operations of the
// generation; bucket and elements name the operation's vector, so that ranks
// that disagree notice. crc is the CRC32C of the payload (0 through shared
// memory), hcrc that of the
// header's first 60 bytes. A receiver reads a payload only where it knows
// beforehand how long it must be.
//
//	type       payload                                  slice        part
//	reduce     a segment of a subtree sum (tree),       its owner    which subtree
//	           of a partial sum (ring)                  its number   0
//	gather     a segment of the finished sum            its owner    0
//	broadcast  a segment of root's vector               root         0
//	word       a word of AllGather                      0            0
//	stall      none: the sender has received segment    that rank    0
//	           frames in op and waits for ...
//	abort      origin u32, culprit u32, reason (UTF-8)  0            0
//	goodbye    none: the sender has left the group      0            0
//	block      a ticket: the sender may lend this block 0            0
//	mapped     none: the block with the id segment      0            1: it is mapped,
//	           has come                                              0: it cannot be
//	lend       where the sender's vectors lie: for      its owner    0
//	           each subtree sum and for the result
//	           a block's id u32, 0 u32, offset u64
//	taken      none: the sender has copied the          its owner    0
//	           finished sum
//
// The last four go through shared memory only (lend.go). To a rank to which an
// owner has lent its result, a gather frame has no payload: all segments up to
// this one lie where the owner said.
const (
	frameMagic   = 0x46524741 // "AGRF"
	frameVersion = 1
	headerSize   = 64
)

type frameType uint8

const (
	frameReduce frameType = iota + 1
	frameGather
	frameBroadcast
	frameWord
	frameStall
	frameAbort
	frameGoodbye
	frameBlock
	frameMapped
	frameLend
	frameTaken
)

var frameNames = [...]string{
	frameReduce: "reduce", frameGather: "gather", frameBroadcast: "broadcast", frameWord: "word",
	frameStall: "stall", frameAbort: "abort", frameGoodbye: "goodbye",
	frameBlock: "block", frameMapped: "mapped", frameLend: "lend", frameTaken: "taken",
}

func (t frameType) String() string {
	if int(t) < len(frameNames) && frameNames[t] != "" {
		return frameNames[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// Limits of frames, in bytes.
const (
	maxReason   = 512
	maxAbort    = 8 + maxReason
	noRank      = 0xffffffff // culprit of an abort that accuses nobody
	maxSegBytes = 4 * allreduce.MaxSegmentElems
)

// header is a decoded frame header.
type header struct {
	kind        frameType
	from        uint16
	generation  uint64
	number      uint64
	op          uint32
	bucket      uint32
	elems       uint64
	segment     uint32
	slice, part uint16
	length      uint32
	crc         uint32
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// encode writes the header to b.
func (h *header) encode(b *[headerSize]byte) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], frameMagic)
	b[4], b[5] = frameVersion, byte(h.kind)
	le.PutUint16(b[6:], h.from)
	le.PutUint64(b[8:], h.generation)
	le.PutUint64(b[16:], h.number)
	le.PutUint32(b[24:], h.op)
	le.PutUint32(b[28:], h.bucket)
	le.PutUint64(b[32:], h.elems)
	le.PutUint32(b[40:], h.segment)
	le.PutUint16(b[44:], h.slice)
	le.PutUint16(b[46:], h.part)
	le.PutUint32(b[48:], h.length)
	le.PutUint32(b[52:], h.crc)
	le.PutUint32(b[56:], 0)
	le.PutUint32(b[60:], checksum(b[:60]))
}

// decode reads the header from b and checks what can be checked without
// knowing the connection. Errors wrap ErrFrame.
func (h *header) decode(b *[headerSize]byte) error {
	le := binary.LittleEndian
	if m := le.Uint32(b[0:]); m != frameMagic {
		return fmt.Errorf("%w: header starts with %#08x, not a frame", allreduce.ErrFrame, m)
	}
	if got, want := checksum(b[:60]), le.Uint32(b[60:]); got != want {
		return fmt.Errorf("%w: header is corrupt: CRC32C %#08x, want %#08x", allreduce.ErrFrame, got, want)
	}
	if b[4] != frameVersion {
		return fmt.Errorf("%w: version %d, this build speaks %d", allreduce.ErrFrame, b[4], frameVersion)
	}
	*h = header{
		kind: frameType(b[5]), from: le.Uint16(b[6:]),
		generation: le.Uint64(b[8:]), number: le.Uint64(b[16:]),
		op: le.Uint32(b[24:]), bucket: le.Uint32(b[28:]), elems: le.Uint64(b[32:]),
		segment: le.Uint32(b[40:]), slice: le.Uint16(b[44:]), part: le.Uint16(b[46:]),
		length: le.Uint32(b[48:]), crc: le.Uint32(b[52:]),
	}
	var limit uint32
	switch h.kind {
	case frameReduce, frameGather, frameBroadcast:
		limit = maxSegBytes
	case frameWord:
		limit = allreduce.MaxWord
	case frameAbort:
		limit = maxAbort
	case frameBlock:
		limit = sharedmem.TicketSize
	case frameLend:
		limit = maxLend
	case frameStall, frameGoodbye, frameMapped, frameTaken:
	default:
		return fmt.Errorf("%w: unknown %v", allreduce.ErrFrame, h.kind)
	}
	if h.length > limit {
		return fmt.Errorf("%w: %v frame of %d bytes, at most %d are allowed", allreduce.ErrFrame, h.kind, h.length, limit)
	}
	return nil
}

// barrierBucket tells a Barrier's words from those of an AllGather, which have
// bucket 0.
const barrierBucket = 1

// bucketOf returns an operation's bucket on the wire.
func bucketOf(op allreduce.Operation) uint32 {
	if op.Name == allreduce.OpBarrier {
		return barrierBucket
	}
	return op.Bucket
}

// operation returns the operation that a frame of data belongs to.
func (h *header) operation() allreduce.Operation {
	op := allreduce.Operation{Name: h.kind.String(), Bucket: h.bucket, Elems: int(h.elems)}
	switch h.kind {
	case frameReduce, frameGather, frameLend, frameTaken:
		op.Name = allreduce.OpAllReduce
	case frameBroadcast:
		op.Name = allreduce.OpBroadcast
	case frameWord:
		switch h.bucket {
		case 0:
			op.Name = allreduce.OpAllGather
		case barrierBucket:
			op.Name, op.Bucket = allreduce.OpBarrier, 0
		}
	default:
	}
	return op
}

// checkPayload compares the payload with the header's checksum.
func (h *header) checkPayload(payload []byte) error {
	if got := checksum(payload); got != h.crc {
		return fmt.Errorf("%w: payload of %v frame %d (segment %d) is corrupt: CRC32C %#08x, want %#08x",
			allreduce.ErrFrame, h.kind, h.number, h.segment, got, h.crc)
	}
	return nil
}

// abortNote is the payload of an abort frame: who ended the group first, whom
// it blames (-1: nobody), and why.
type abortNote struct {
	origin, culprit int
	reason          string
}

func (a abortNote) encode() []byte {
	b := make([]byte, 8, maxAbort)
	culprit := uint32(noRank)
	if a.culprit >= 0 {
		culprit = u32(a.culprit)
	}
	binary.LittleEndian.PutUint32(b, u32(a.origin))
	binary.LittleEndian.PutUint32(b[4:], culprit)
	return append(b, clip(a.reason)...)
}

// decodeAbort reads the payload of an abort frame in a group of world ranks.
func decodeAbort(b []byte, world int) (abortNote, error) {
	if len(b) < 8 || len(b) > maxAbort {
		return abortNote{}, fmt.Errorf("%w: abort frame of %d bytes", allreduce.ErrFrame, len(b))
	}
	origin, culprit := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	a := abortNote{origin: int(origin), culprit: int(culprit), reason: clip(string(b[8:]))}
	if culprit == noRank {
		a.culprit = allreduce.NoPeer
	}
	if int64(origin) >= int64(world) || a.culprit >= world {
		return abortNote{}, fmt.Errorf("%w: abort by rank %d because of rank %d in a group of %d", allreduce.ErrFrame, origin, culprit, world)
	}
	return a, nil
}

// clip makes a reason valid UTF-8 on one line of at most maxReason bytes.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	n := maxReason
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
