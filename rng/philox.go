package rng

import (
	"math"
	"math/bits"

	"github.com/agrdist/agrdist/internal/portable"
)

const (
	philoxM0 = 0xD2511F53
	philoxM1 = 0xCD9E8D57
	philoxW0 = 0x9E3779B9
	philoxW1 = 0xBB67AE85
)

// Philox4x32 is the ten-round Philox bijection: four 32-bit words that are a
// pure function of a 128-bit counter and a 64-bit key.
func Philox4x32(counter [4]uint32, key [2]uint32) [4]uint32 {
	c0, c1, c2, c3 := counter[0], counter[1], counter[2], counter[3]
	k0, k1 := key[0], key[1]
	for range 10 {
		h0, l0 := bits.Mul32(philoxM0, c0)
		h1, l1 := bits.Mul32(philoxM1, c2)
		c0, c1, c2, c3 = h1^c1^k0, l1, h0^c3^k1, l0
		k0 += philoxW0
		k1 += philoxW1
	}
	return [4]uint32{c0, c1, c2, c3}
}

// Stream separates the uses of one seed. The low byte is the kind, the upper
// bits an index chosen by the user of the stream (a layer's number, say).
type Stream uint32

// Kinds of stream.
const (
	StreamInit     Stream = iota + 1 // weight initialisation; index = parameter number
	StreamShuffle                    // order of the data set; draw = epoch
	StreamTimestep                   // training timestep of a sample
	StreamNoise                      // training noise of a sample
	StreamFlip                       // horizontal flip of a sample
	StreamDropout                    // dropout masks; index = layer number
	StreamSample                     // x_T of a generated image
	StreamSampler                    // noise inside a sampler; index = step
	StreamAugment                    // random crop of a sample
	StreamLabel                      // whether a sample's label is dropped
)

// With returns the stream of the same kind with an index, 0 <= index < 1<<24.
func (s Stream) With(index int) Stream { return s&0xff | Stream(index)<<8 }

// Source is a generator for one seed and stream. The zero Source is valid.
type Source struct {
	key    [2]uint32
	stream uint32
}

// New returns the source of (seed, stream).
func New(seed uint64, stream Stream) Source {
	return Source{key: [2]uint32{uint32(seed), uint32(seed >> 32)}, stream: uint32(stream)}
}

// Block returns four words: the ones at index block of the draw's sequence.
// Word i of a draw's sequence is Block(draw, i/4)[i%4].
func (s Source) Block(draw uint64, block uint32) [4]uint32 {
	return Philox4x32([4]uint32{block, s.stream, uint32(draw), uint32(draw >> 32)}, s.key)
}

// Uint64 returns the first 64 bits of a draw.
func (s Source) Uint64(draw uint64) uint64 {
	b := s.Block(draw, 0)
	return uint64(b[0]) | uint64(b[1])<<32
}

// IntN returns a value in [0, n) of a draw, n >= 1, by multiply-shift on 64
// bits (bias below n/2^64).
func (s Source) IntN(draw uint64, n int) int {
	hi, _ := bits.Mul64(s.Uint64(draw), uint64(n))
	return int(hi)
}

// Float64 returns a value in [0, 1) of a draw, with 53 bits.
func (s Source) Float64(draw uint64) float64 {
	return float64(s.Uint64(draw)>>11) / (1 << 53)
}

// Uniform fills dst with the draw's sequence of values in [0, 1): one 32-bit
// word an element, of which the upper 24 bits are used.
func (s Source) Uniform(dst []float32, draw uint64) {
	for i := 0; i < len(dst); i += 4 {
		b := s.Block(draw, uint32(i/4))
		for j := 0; j < 4 && i+j < len(dst); j++ {
			dst[i+j] = float32(b[j]>>8) / (1 << 24)
		}
	}
}

// Normal fills dst with the draw's sequence of standard normal values. A block
// of four words gives four values by Box-Muller in float64, rounded once:
// elements 4k, 4k+1 are the cosine and sine of words 0, 1 of block k, elements
// 4k+2, 4k+3 those of words 2, 3.
func (s Source) Normal(dst []float32, draw uint64) {
	for i := 0; i < len(dst); i += 4 {
		b := s.Block(draw, uint32(i/4))
		var z [4]float32
		z[0], z[1] = boxMuller(b[0], b[1])
		z[2], z[3] = boxMuller(b[2], b[3])
		copy(dst[i:], z[:])
	}
}

// boxMuller maps two words to two independent standard normal values:
// r = sqrt(-2 ln u), u = (a+1/2)/2^32, angle = 2 pi b/2^32.
func boxMuller(a, b uint32) (x, y float32) {
	u := (float64(a) + 0.5) / (1 << 32)
	r := math.Sqrt(-2 * portable.Log(u))
	sin, cos := portable.Sincos(2 * math.Pi * (float64(b) / (1 << 32)))
	return float32(r * cos), float32(r * sin)
}
