package rng

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// The known answers of the Random123 distribution (kat_vectors, philox4x32 10).
func TestPhiloxKnownAnswers(t *testing.T) {
	for _, c := range []struct {
		counter [4]uint32
		key     [2]uint32
		want    [4]uint32
	}{
		{want: [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{
			[4]uint32{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
			[2]uint32{0xffffffff, 0xffffffff},
			[4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
		},
		{
			[4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
			[2]uint32{0xa4093822, 0x299f31d0},
			[4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
		},
	} {
		require.Equal(t, c.want, Philox4x32(c.counter, c.key))
	}
}

func TestNormalMoments(t *testing.T) {
	x := make([]float32, 1<<18)
	New(7, StreamNoise).Normal(x, 3)
	var sum, sq, fourth float64
	for _, v := range x {
		f := float64(v)
		sum += f
		sq += f * f
		fourth += f * f * f * f
	}
	n := float64(len(x))
	require.InDelta(t, 0, sum/n, 5/math.Sqrt(n))
	require.InDelta(t, 1, sq/n, 5*math.Sqrt(2/n))
	require.InDelta(t, 3, fourth/n, 5*math.Sqrt(96/n))
}

func TestPrefixesAgree(t *testing.T) {
	s := New(1, StreamNoise)
	long, short := make([]float32, 103), make([]float32, 10)
	s.Normal(long, 9)
	s.Normal(short, 9)
	require.Equal(t, long[:10], short)
	s.Uniform(long, 9)
	s.Uniform(short, 9)
	require.Equal(t, long[:10], short)
}

func TestStreamsSeedsAndDrawsDiffer(t *testing.T) {
	seen := map[uint64]string{}
	for seed := range uint64(4) {
		for kind := StreamInit; kind <= StreamLabel; kind++ {
			for index := range 3 {
				for draw := range uint64(5) {
					v := New(seed, kind.With(index)).Uint64(draw)
					require.Empty(t, seen[v])
					seen[v] = "taken"
				}
			}
		}
	}
}

func TestIntN(t *testing.T) {
	s := New(11, StreamTimestep)
	var count [10]int
	for d := range uint64(100_000) {
		count[s.IntN(d, 10)]++
	}
	for _, c := range count {
		require.InDelta(t, 10_000, c, 500)
	}
}

func BenchmarkNormal(b *testing.B) {
	x := make([]float32, 3072)
	s := New(1, StreamNoise)
	b.SetBytes(int64(4 * len(x)))
	for i := range b.N {
		s.Normal(x, uint64(i))
	}
}
