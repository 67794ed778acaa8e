package mesh

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
)

func encoded(h header) []byte {
	var b [headerSize]byte
	h.encode(&b)
	return b[:]
}

// The bytes on the wire are fixed: another build must understand them.
func TestHeaderGolden(t *testing.T) {
	h := header{
		kind: frameReduce, from: 0x0102, generation: 0x1112131415161718, number: 0x2122232425262728,
		op: 0x31323334, bucket: 0x41424344, elems: 0x5152535455565758,
		segment: 0x61626364, slice: 0x7172, part: 0x8182, length: 0x00040000, crc: 0xa1a2a3a4,
	}
	want := "41475246" + "01" + "01" + "0201" + "1817161514131211" + "2827262524232221" +
		"34333231" + "44434241" + "5857565554535251" + "64636261" + "7271" + "8281" +
		"00000400" + "a4a3a2a1" + "00000000"
	b := encoded(h)
	require.Equal(t, want, hex.EncodeToString(b[:60]))
	require.Equal(t, checksum(b[:60]), binary.LittleEndian.Uint32(b[60:]))
	var got header
	require.NoError(t, got.decode((*[headerSize]byte)(b)))
	require.Empty(t, cmp.Diff(h, got, cmp.AllowUnexported(header{})))
}

// The check value of CRC-32C in RFC 3720 and the catalogues.
func TestChecksumIsCRC32C(t *testing.T) {
	require.Equal(t, uint32(0xe3069283), checksum([]byte("123456789")))
}

func TestHeaderDecodeRefuses(t *testing.T) {
	good := header{kind: frameGather, length: 400}
	reseal := func(b []byte) { binary.LittleEndian.PutUint32(b[60:], checksum(b[:60])) }
	for name, c := range map[string]struct {
		harm   func(b []byte)
		reason string
	}{
		"magic":    {func(b []byte) { b[0] = 'X'; reseal(b) }, "not a frame"},
		"bit flip": {func(b []byte) { b[33] ^= 1 }, "corrupt"},
		"version":  {func(b []byte) { b[4] = 2; reseal(b) }, "version 2"},
		"type 0":   {func(b []byte) { b[5] = 0; reseal(b) }, "unknown type 0"},
		"type 99":  {func(b []byte) { b[5] = 99; reseal(b) }, "unknown type 99"},
		"length":   {func(b []byte) { binary.LittleEndian.PutUint32(b[48:], maxSegBytes+1); reseal(b) }, "at most"},
		"word": {func(b []byte) {
			b[5] = byte(frameWord)
			binary.LittleEndian.PutUint32(b[48:], allreduce.MaxWord+1)
			reseal(b)
		}, "at most"},
		"goodbye":   {func(b []byte) { b[5] = byte(frameGoodbye); reseal(b) }, "at most 0"},
		"long text": {func(b []byte) { b[5] = byte(frameAbort); binary.LittleEndian.PutUint32(b[48:], maxAbort+1); reseal(b) }, "at most"},
	} {
		b := encoded(good)
		c.harm(b)
		var h header
		err := h.decode((*[headerSize]byte)(b))
		require.ErrorIs(t, err, allreduce.ErrFrame, name)
		require.ErrorContains(t, err, c.reason, name)
	}
}

func TestAbortNote(t *testing.T) {
	for _, want := range []abortNote{
		{origin: 3, culprit: 1, reason: "a reason"},
		{origin: 0, culprit: allreduce.NoPeer},
	} {
		got, err := decodeAbort(want.encode(), 4)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	long := abortNote{reason: "line\nbreak \xff " + string(bytes.Repeat([]byte("ü"), maxReason))}
	got, err := decodeAbort(long.encode(), 4)
	require.NoError(t, err)
	require.Equal(t, "line break ? üü", got.reason[:len("line break ? üü")])
	require.LessOrEqual(t, len(got.reason), maxReason)
	for _, bad := range []abortNote{{origin: 4}, {culprit: 4}} {
		_, err := decodeAbort(bad.encode(), 4)
		require.ErrorIs(t, err, allreduce.ErrFrame)
	}
	_, err = decodeAbort([]byte("short"), 4)
	require.ErrorIs(t, err, allreduce.ErrFrame)
}

func TestSwapForBigEndian(t *testing.T) {
	v := []float32{1, -2.5, 3e-40}
	var scratch []float32
	wire := toWire(v, &scratch, false)
	for i := range v { // as if this machine were big endian
		require.Equal(t, bytesOf(v)[4*i], wire[4*i+3])
		require.Equal(t, bytesOf(v)[4*i+2], wire[4*i+1])
	}
	back := append([]float32(nil), scratch...)
	fromWire(back, false)
	require.Equal(t, v, back)
	require.Equal(t, bytesOf(v), toWire(v, &scratch, true))
}

func FuzzHeader(f *testing.F) {
	f.Add(encoded(header{kind: frameReduce, length: 100}))
	f.Add(make([]byte, headerSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < headerSize {
			return
		}
		raw := (*[headerSize]byte)(b)
		var h header
		if err := h.decode(raw); err != nil {
			require.ErrorIs(t, err, allreduce.ErrFrame)
			return
		}
		if binary.LittleEndian.Uint32(b[56:]) == 0 {
			require.Equal(t, b[:headerSize], encoded(h))
		}
	})
}

func FuzzAbort(f *testing.F) {
	f.Add((abortNote{origin: 1, culprit: allreduce.NoPeer, reason: "why"}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := decodeAbort(b, 4)
		if err != nil {
			require.ErrorIs(t, err, allreduce.ErrFrame)
			return
		}
		again, err := decodeAbort(a.encode(), 4)
		require.NoError(t, err)
		require.Equal(t, a, again)
	})
}

func FuzzHandshake(f *testing.F) {
	h := hello{generation: 3, dialer: 2, listener: 1, terms: terms{world: 3, chunks: 8, segment: 64}, run: "run"}
	f.Add(h.encode())
	f.Add((&challenge{status: statusRefused, reason: "why"}).encode())
	f.Add((&verdict{text: []byte("offer")}).encode(&keys{}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, raw, err := readHello(bytes.NewReader(b)); err == nil {
			require.Equal(t, b[:len(raw)], raw)
			again, _, err := readHello(bytes.NewReader(h.encode()))
			require.NoError(t, err)
			require.Equal(t, h, again)
		}
		if c, err := readChallenge(bytes.NewReader(b)); err == nil {
			require.Equal(t, b[:len(c.encode())], c.encode())
		}
		if v, err := readVerdict(bytes.NewReader(b), &keys{}); err == nil {
			require.Equal(t, b[:len(v.encode(&keys{}))], v.encode(&keys{}))
		}
		_, _ = readProof(bytes.NewReader(b))
		_, _ = readReady(bytes.NewReader(b), &keys{})
	})
}

// A proof serves one side, one hello and one nonce only.
func TestProofIsBound(t *testing.T) {
	secret := []byte("sixteen bytes or more")
	nonce, other := newEphemeral().nonce(), newEphemeral().nonce()
	p := proof(secret, roleDialer, []byte("hello"), nonce)
	require.True(t, proofsEqual(p, proof(secret, roleDialer, []byte("hello"), nonce)))
	for _, q := range [][proofSize]byte{
		proof(secret, roleListener, []byte("hello"), nonce),
		proof(secret, roleDialer, []byte("hellO"), nonce),
		proof(secret, roleDialer, []byte("hello"), other),
		proof([]byte("another secret text"), roleDialer, []byte("hello"), nonce),
		proof(nil, roleDialer, []byte("hello"), nonce),
	} {
		require.False(t, proofsEqual(p, q))
	}
}

// script is a stream whose incoming bytes are given; what is written is lost.
type script struct {
	in    *bytes.Reader
	ended chan struct{} // Read blocks here after the bytes, if not nil
}

func (s *script) Read(p []byte) (int, error) {
	n, err := s.in.Read(p)
	if n == 0 && s.ended != nil {
		<-s.ended
	}
	return n, err
}

func (s *script) ReadHeader(b *[headerSize]byte) (int, error)    { return io.ReadFull(s, b[:]) }
func (s *script) ReadPayload(b []byte) (int, error)              { return io.ReadFull(s, b) }
func (s *script) WriteFrame(_ *[headerSize]byte, _ []byte) error { return nil }
func (s *script) Drain()                                         { drain(s) }
func (s *script) SetReadDeadline(time.Time) error                { return nil }
func (s *script) SetWriteDeadline(_ time.Time) error             { return nil }
func (s *script) Checks() bool                                   { return false }
func (s *script) CloseWrite() error                              { return nil }
func (s *script) Close() error                                   { return nil }

// withScript returns rank 0 of two ranks whose peer sends the given bytes.
func withScript(tb testing.TB, order allreduce.Order, timeout time.Duration, b []byte) *group {
	tb.Helper()
	plan, err := allreduce.NewPlan(8, 2)
	require.NoError(tb, err)
	cfg := allreduce.GroupConfig{
		Generation: 7, Plan: plan, Order: order, OpTimeout: timeout, SegmentElems: 64,
	}
	return newGroup(cfg, []stream{nil, &script{in: bytes.NewReader(b)}}, slog.New(slog.DiscardHandler))
}

// frame returns a frame of rank 1 in generation 7.
func frame(h header, payload []byte) []byte {
	h.from, h.generation = 1, 7
	return summed(h, payload)
}

func summed(h header, payload []byte) []byte {
	h.length, h.crc = uint32(len(payload)), checksum(payload)
	return append(encoded(h), payload...)
}

// Rank 0 reduces bucket 5, 100 elements, with a peer that misbehaves. The right
// sequence of rank 1 would be: reduce of slice 0 segment 0 (64 elements), then
// gather of slice 1 segment 0 (36 elements).
func TestMisbehavingPeerIsCaught(t *testing.T) {
	reduce := header{kind: frameReduce, op: 1, bucket: 5, elems: 100}
	with := func(change func(*header)) header {
		h := reduce
		change(&h)
		return h
	}
	good := make([]byte, 64*4)
	for name, c := range map[string]struct {
		bytes  []byte
		is     error
		reason string
	}{
		"silence":         {nil, allreduce.ErrPeerLost, "closed the connection"},
		"half a header":   {frame(reduce, good)[:40], allreduce.ErrPeerLost, "after 40 bytes of a header"},
		"half a payload":  {frame(reduce, good)[:164], allreduce.ErrPeerLost, "after 100 of 256 bytes"},
		"old generation":  {summed(with(func(h *header) { h.from, h.generation = 1, 6 }), good), allreduce.ErrFrame, "generation 6"},
		"new generation":  {summed(with(func(h *header) { h.from, h.generation = 1, 8 }), good), allreduce.ErrFrame, "generation 8"},
		"other rank":      {summed(with(func(h *header) { h.from, h.generation = 2, 7 }), good), allreduce.ErrFrame, "from rank 2"},
		"lost frame":      {frame(with(func(h *header) { h.number = 1 }), good), allreduce.ErrFrame, "frame 1 where 0 was due"},
		"repeated frame":  {append(frame(reduce, good), frame(reduce, good)...), allreduce.ErrFrame, "frame 0 where 1 was due"},
		"operation 0":     {frame(with(func(h *header) { h.op = 0 }), good), allreduce.ErrFrame, "after its end"},
		"other bucket":    {frame(with(func(h *header) { h.bucket = 6 }), good), allreduce.ErrMismatch, "bucket 6"},
		"other size":      {frame(with(func(h *header) { h.elems = 99 }), good), allreduce.ErrMismatch, "99 elements"},
		"other operation": {frame(with(func(h *header) { h.kind = frameBroadcast }), good), allreduce.ErrMismatch, "broadcast"},
		"other segment":   {frame(with(func(h *header) { h.segment = 1 }), good), allreduce.ErrFrame, "segment 1"},
		"other part":      {frame(with(func(h *header) { h.part = 1 }), good), allreduce.ErrFrame, "part 1"},
		"other slice":     {frame(with(func(h *header) { h.slice = 1 }), good), allreduce.ErrFrame, "for rank 1"},
		"short payload":   {frame(reduce, good[:252]), allreduce.ErrFrame, "252 bytes where 256 were due"},
		"long payload":    {frame(reduce, append(good, 1, 2, 3, 4)), allreduce.ErrFrame, "260 bytes where 256 were due"},
		"early sum":       {frame(with(func(h *header) { h.kind, h.slice, h.segment = frameGather, 1, 3 }), good), allreduce.ErrFrame, "segment 3"},
		"foreign sum":     {frame(with(func(h *header) { h.kind, h.slice = frameGather, 0 }), good), allreduce.ErrFrame, "sum 0"},
		"flipped bit":     {flip(frame(reduce, good), 100), allreduce.ErrFrame, "payload of reduce frame 0 (segment 0) is corrupt"},
		"abort":           {frame(header{kind: frameAbort}, abortNote{origin: 1, culprit: allreduce.NoPeer, reason: "tired"}.encode()), allreduce.ErrAborted, "tired"},
		"bad abort":       {frame(header{kind: frameAbort}, []byte{1}), allreduce.ErrFrame, "abort frame of 1 bytes"},
		"goodbye":         {frame(header{kind: frameGoodbye}, nil), allreduce.ErrPeerLeft, ""},
		"stall nonsense":  {frame(header{kind: frameStall, slice: 9}, nil), allreduce.ErrFrame, "rank 9"},
	} {
		t.Run(name, func(t *testing.T) {
			g := withScript(t, allreduce.OrderTree, 20*time.Second, c.bytes)
			err := g.AllReduce(t.Context(), 5, [][]float32{make([]float32, 100)}, make([]float32, 100))
			require.ErrorIs(t, err, c.is)
			require.ErrorContains(t, err, c.reason)
			var e *allreduce.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, allreduce.Error{Rank: 0, Peer: 1, Op: allreduce.OpAllReduce, Generation: 7, Bucket: 5, Err: e.Err}, *e)
			require.NoError(t, g.Close())
		})
	}
}

func flip(b []byte, at int) []byte {
	b[at] ^= 1
	return b
}

// Whatever a peer sends, an operation ends with an error that names it: no
// panic, no hang, no success.
func FuzzPeer(f *testing.F) {
	reduce := header{kind: frameReduce, op: 1, bucket: 5, elems: 100}
	f.Add(false, frame(reduce, make([]byte, 256)))
	f.Add(true, frame(header{kind: frameStall, op: 1}, nil))
	f.Add(true, frame(header{kind: frameAbort}, abortNote{reason: "why"}.encode()))
	f.Fuzz(func(t *testing.T, ring bool, b []byte) {
		// The fuzzer finds no checksums: seal what it made of the headers.
		b = append([]byte(nil), b...)
		for rest := b; len(rest) >= headerSize; {
			le := binary.LittleEndian
			le.PutUint32(rest, frameMagic)
			rest[4] = frameVersion
			n := min(int(le.Uint32(rest[48:])), len(rest)-headerSize)
			le.PutUint32(rest[52:], checksum(rest[headerSize:headerSize+max(n, 0)]))
			le.PutUint32(rest[60:], checksum(rest[:60]))
			rest = rest[headerSize+max(n, 0):]
		}
		order := allreduce.OrderTree
		if ring {
			order = allreduce.OrderRing
		}
		g := withScript(t, order, 5*time.Millisecond, b)
		err := g.AllReduce(t.Context(), 5, [][]float32{make([]float32, 100)}, make([]float32, 100))
		if e, ok := errors.AsType[*allreduce.Error](err); ok {
			require.Contains(t, []int{0, 1}, e.Peer)
		} else {
			require.NoError(t, err)
		}
		require.NoError(t, g.Close())
	})
}
