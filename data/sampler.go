package data

import (
	"fmt"
	"math"
	"math/bits"

	"github.com/agrdist/agrdist/rng"
)

// Sampler is the order in which a run visits a data set: draw d is in epoch
// d / n, and within an epoch the draws d mod n are mapped to the indices by a
// permutation of [0, n) that (seed, epoch) selects. Every index comes exactly
// once an epoch. There is no table and no state: any draw costs the same, and
// workers need not agree on anything but the seed.
//
// The permutation is a balanced Feistel network over the smallest even number
// of bits that holds n, with Philox as its round function; results of n or more
// are fed through again until one is below n ("cycle walking": Black & Rogaway,
// "Ciphers with Arbitrary Finite Domains", CT-RSA 2002), on average fewer than
// 4 times unless n < 16.
type Sampler struct {
	n      uint64
	half   uint // bits of each half
	rounds [feistelRounds]rng.Source
}

const (
	feistelRounds = 8
	// Halves of one or two bits have so few round functions that the orders of
	// tiny sets are measurably not uniform; from three on, no test shows it.
	minHalf = 3
)

// NewSampler returns the order for a data set of n >= 1 images.
func NewSampler(seed uint64, n int) *Sampler {
	if n < 1 {
		panic(fmt.Sprintf("data: a sampler over %d images", n))
	}
	s := &Sampler{n: uint64(n), half: max(minHalf, uint(bits.Len64(uint64(n-1))+1)/2)}
	for r := range s.rounds {
		s.rounds[r] = rng.New(seed, rng.StreamShuffle.With(r))
	}
	return s
}

// Len is n.
func (s *Sampler) Len() int { return int(s.n & math.MaxInt) }

// Index returns the image of a draw and the epoch that the draw belongs to.
func (s *Sampler) Index(draw uint64) (epoch uint64, index int) {
	epoch = draw / s.n
	x := s.permute(epoch, draw%s.n)
	for x >= s.n {
		x = s.permute(epoch, x)
	}
	return epoch, int(x & math.MaxInt)
}

// permute is the Feistel network on 2 half bits.
func (s *Sampler) permute(epoch, x uint64) uint64 {
	mask := uint64(1)<<s.half - 1
	left, right := x>>s.half, x&mask
	for r := range s.rounds {
		f := s.rounds[r].Block(epoch, uint32(right&math.MaxUint32))[0]
		left, right = right, left^uint64(f)&mask
	}
	return left<<s.half | right
}
