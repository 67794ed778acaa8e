package checkpoint

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"math"
)

// Digest is the "model_digest" of a state: the SHA-256, in hexadecimal, over
// the float32 elements, little endian, of the model, then the EMA, then the
// optimizer, each list sorted by name. Names, shapes and files have no part in
// it: two runs agree exactly if every bit of their state agrees.
func Digest(s *Snapshot) string {
	h := sha256.New()
	buf := make([]byte, 64<<10)
	for _, list := range [][]Tensor{s.Model, s.EMA, s.Optimizer} {
		for _, t := range sortedByName(list) {
			digestFloats(h, t.Data, buf)
		}
	}
	return hexSum(h)
}

func digestFloats(h hash.Hash, v []float32, buf []byte) {
	for len(v) > 0 {
		n := min(len(v), len(buf)/4)
		for i, x := range v[:n] {
			binary.LittleEndian.PutUint32(buf[4*i:], math.Float32bits(x))
		}
		h.Write(buf[:4*n])
		v = v[n:]
	}
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }
