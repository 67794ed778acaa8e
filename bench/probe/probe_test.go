package probe_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/bench/probe"
)

// Every accumulator has taken part in every turn: they hold the partial sums of
// the geometric series, which float32 holds exactly for 24 turns.
func TestFMADoesWhatItIsCreditedFor(t *testing.T) {
	for _, l := range probe.Supported() {
		for _, turns := range []int{1, 2, 3, 7, 24} {
			flop, x := l.FMA(turns)
			require.Equal(t, 2*turns*len(x), flop)
			for i, v := range x {
				require.Equal(t, float32(2*(1-math.Pow(2, -float64(turns)))), v, "%s, %d turns, accumulator %d", l.Name(), turns, i)
			}
		}
	}
}

// Every turn adds the two products of a pair.
func TestPairsDoWhatTheyAreCreditedFor(t *testing.T) {
	l, err := probe.Find("avx512bf16")
	if err != nil {
		t.Skip("this processor has no AVX512-BF16")
	}
	for _, turns := range []int{1, 2, 7, 1000} {
		flop, x := l.FMA(turns)
		require.Equal(t, 4*turns*len(x), flop)
		for i, v := range x {
			require.Equal(t, float32(turns), v, "%d turns, accumulator %d", turns, i)
		}
	}
}

func TestMemoryLoopsTouchEverything(t *testing.T) {
	for _, l := range probe.Supported() {
		for _, blocks := range []int{0, 1, 2, 5} {
			x := make([]float32, blocks*probe.Block+probe.Block)
			want := float32(0)
			for i := range x {
				x[i] = float32(i%7 + 1)
				if i < blocks*probe.Block {
					want += x[i]
				}
			}
			require.Equal(t, want, l.Read(x[:blocks*probe.Block]), "%s, %d blocks", l.Name(), blocks)
			l.Scale(x[:blocks*probe.Block], 0.5)
			for i, v := range x {
				expected := float32(i%7 + 1)
				if i < blocks*probe.Block {
					expected /= 2
				}
				require.Equal(t, expected, v, "%s, %d blocks, element %d", l.Name(), blocks, i)
			}
		}
		require.Panics(t, func() { l.Read(make([]float32, 1)) })
		require.Panics(t, func() { l.Scale(make([]float32, probe.Block+1), 1) })
	}
}

func TestFind(t *testing.T) {
	for _, l := range probe.Supported() {
		got, err := probe.Find(l.Name())
		require.NoError(t, err)
		require.Equal(t, l.Name(), got.Name())
	}
	_, err := probe.Find("sse9")
	require.ErrorContains(t, err, `"sse9"`)
	require.ErrorContains(t, err, "go")
}

func BenchmarkFMA(b *testing.B) {
	all := probe.Supported()
	if pairs, err := probe.Find("avx512bf16"); err == nil {
		all = append(all, pairs)
	}
	for _, l := range all {
		b.Run(l.Name(), func(b *testing.B) {
			flop := 0
			for b.Loop() {
				n, _ := l.FMA(10000)
				flop += n
			}
			b.ReportMetric(float64(flop)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}

func BenchmarkMemory(b *testing.B) {
	x := make([]float32, 1<<26)
	for i := range x {
		x[i] = 1 // memory that was never written is one page of zeros
	}
	for _, l := range probe.Supported() {
		b.Run("read/"+l.Name(), func(b *testing.B) {
			b.SetBytes(4 << 26)
			for b.Loop() {
				l.Read(x)
			}
		})
		b.Run("scale/"+l.Name(), func(b *testing.B) {
			b.SetBytes(8 << 26)
			for b.Loop() {
				l.Scale(x, 1)
			}
		})
	}
}
