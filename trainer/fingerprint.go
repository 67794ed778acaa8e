package trainer

import (
	"crypto/sha256"
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// fingerprintBlock is how many values are hashed at a time, in parallel.
const fingerprintBlock = 1 << 20

// fingerprint condenses a state for the comparison of ranks that trust each other: it
// finds memory that differs by accident, at the speed of the memory. Each block of
// each vector is hashed by XXH64, and the blocks' hashes by SHA-256. What is stored has
// SHA-256 over all of it (checkpoint.Digest).
func fingerprint(head []int64, vectors ...[]float32) [16]byte {
	var blocks [][]float32
	for _, v := range vectors {
		for lo := 0; lo < len(v); lo += fingerprintBlock {
			blocks = append(blocks, v[lo:min(lo+fingerprintBlock, len(v))])
		}
	}
	sums := make([]uint64, len(blocks))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(blocks)) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(blocks)); i = next.Add(1) - 1 {
				sums[i] = xxhash.Sum64(bytesOf(blocks[i]))
			}
		})
	}
	wg.Wait()
	var text []byte
	for _, h := range head {
		text = binary.LittleEndian.AppendUint64(text, uint64(h))
	}
	for i, s := range sums {
		text = binary.LittleEndian.AppendUint64(text, uint64(len(blocks[i])))
		text = binary.LittleEndian.AppendUint64(text, s)
	}
	sum := sha256.Sum256(text)
	return [16]byte(sum[:16])
}
