//go:build cuda

package cuda

import (
	"encoding/binary"
	"unsafe"

	"github.com/agrdist/agrdist/tensor"
)

// The blocks of the digest kernels (kernels/pass.cu).
const (
	digestThreads = 256
	digestSpan    = 16384
)

// Digest is a 64-bit sum over the bits of an F32 buffer and their places:
// splitmix64's finaliser on each word, added modulo 2^64. Buffers with the same
// bits have the same digest on every device; it guards against accidents, not
// against an adversary.
func (b *Backend) Digest(buf tensor.Buffer) (uint64, error) {
	m := b.operand("Digest", tensor.Tensor{Buf: buf, Shape: tensor.Of(buf.Len())}, tensor.F32)
	if m.n == 0 {
		return 0, b.Sync()
	}
	parts := ceil(m.n, digestSpan)
	work, ok := b.scratch(int64(8 * (parts + 1)))
	if !ok {
		return 0, b.failed
	}
	partial := work + 8
	b.launch(&b.kernels.digest, grid{parts, 1}, digestThreads, at(partial), at(m.ptr), intArg(m.n))
	b.launch(&b.kernels.digestSum, grid{1, 1}, digestThreads, at(work), at(partial), intArg(parts))
	var out [8]byte
	err := b.copyOut(unsafe.Pointer(&out[0]), work, int64(len(out)))
	return binary.LittleEndian.Uint64(out[:]), err
}
