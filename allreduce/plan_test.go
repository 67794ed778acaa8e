package allreduce

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// wide returns random floats whose exponents differ so much that another order
// of additions gives other bits.
func wide(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32((r.Float64() - 0.5) * math.Exp2(float64(r.IntN(40)-20)))
	}
	return v
}

func bitsOf(v []float32) []uint32 {
	b := make([]uint32, len(v))
	for i, x := range v {
		b[i] = math.Float32bits(x)
	}
	return b
}

// treeSum is the definition of the canonical sum, element by element.
func treeSum(chunks [][]float32, n Node) []float32 {
	if n.Index<<n.Level >= len(chunks) {
		return nil
	}
	if n.Level == 0 {
		return append([]float32(nil), chunks[n.Index]...)
	}
	left := treeSum(chunks, Node{n.Level - 1, 2 * n.Index})
	right := treeSum(chunks, Node{n.Level - 1, 2*n.Index + 1})
	for i := range right {
		left[i] += right[i]
	}
	return left
}

func mustPlan(tb testing.TB, chunks, world int) *Plan {
	tb.Helper()
	p, err := NewPlan(chunks, world)
	require.NoError(tb, err)
	return p
}

func TestPlanGolden(t *testing.T) {
	for _, c := range []struct {
		chunks, world int
		want          [][]Node
	}{
		{1, 1, [][]Node{{{0, 0}}}},
		{1, 3, [][]Node{{{0, 0}}, nil, nil}},
		{8, 1, [][]Node{{{3, 0}}}},
		{8, 2, [][]Node{{{2, 0}}, {{2, 1}}}},
		{8, 3, [][]Node{{{1, 0}, {0, 2}}, {{0, 3}, {1, 2}}, {{1, 3}}}},
		// Node (2, 1) covers chunks 4, 5 only: its right child is missing.
		{6, 2, [][]Node{{{1, 0}, {0, 2}}, {{0, 3}, {2, 1}}}},
		{5, 2, [][]Node{{{1, 0}, {0, 2}}, {{0, 3}, {2, 1}}}},
		{7, 5, [][]Node{{{1, 0}}, {{1, 1}}, {{0, 4}}, {{0, 5}}, {{1, 3}}}},
	} {
		p := mustPlan(t, c.chunks, c.world)
		got := make([][]Node, c.world)
		for r := range got {
			got[r] = p.Nodes(r)
		}
		require.Equal(t, c.want, got, "%d chunks on %d ranks", c.chunks, c.world)
	}
}

func TestPlanRefusesNonsense(t *testing.T) {
	for _, c := range [][2]int{{0, 1}, {-1, 1}, {1, 0}, {1, -3}, {MaxChunks + 1, 1}, {1, MaxWorld + 1}} {
		_, err := NewPlan(c[0], c[1])
		require.Error(t, err, "%v", c)
	}
}

func TestPlanBlocksTileTheBatch(t *testing.T) {
	for chunks := 1; chunks <= 70; chunks++ {
		for world := 1; world <= 9; world++ {
			p := mustPlan(t, chunks, world)
			next, smallest, largest := 0, chunks, 0
			for r := range world {
				lo, hi := p.Block(r)
				require.Equal(t, next, lo)
				if r > 0 {
					plo, phi := p.Block(r - 1)
					require.GreaterOrEqual(t, phi-plo, hi-lo, "larger blocks come first")
				}
				next, smallest, largest = hi, min(smallest, hi-lo), max(largest, hi-lo)
				covered := lo
				for _, n := range p.Nodes(r) {
					first, end := p.span(n)
					require.Equal(t, covered, first, "nodes are in order and without gaps")
					covered = end
				}
				require.Equal(t, hi, covered)
			}
			require.Equal(t, chunks, next)
			require.LessOrEqual(t, largest-smallest, 1)
		}
	}
}

// The heart of the project: any number of ranks gives the bits of one rank.
func TestTreeSumIsIndependentOfWorldSize(t *testing.T) {
	const n = 37
	r := rand.New(rand.NewPCG(1, 2))
	orderMatters := false
	for chunks := 1; chunks <= 70; chunks++ {
		grads := make([][]float32, chunks)
		for c := range grads {
			grads[c] = wide(r, n)
		}
		want := bitsOf(treeSum(grads, mustPlan(t, chunks, 1).root))
		naive := append([]float32(nil), grads[0]...)
		for _, g := range grads[1:] {
			Add(naive, naive, g, n)
		}
		orderMatters = orderMatters || fmt.Sprint(want) != fmt.Sprint(bitsOf(naive))

		for world := 1; world <= 9; world++ {
			p := mustPlan(t, chunks, world)
			var leaves [][]float32
			for rank := range world {
				acc := NewAccumulator(p, rank, n)
				lo, hi := p.Block(rank)
				for c := lo; c < hi; c++ {
					acc.Add(c, 0, n, grads[c])
				}
				parts := acc.Parts(nil, 0, n)
				require.Len(t, parts, len(p.Nodes(rank)))
				for i, node := range p.Nodes(rank) {
					require.Equal(t, bitsOf(treeSum(grads, node)), bitsOf(parts[i]), "subtree %v", node)
				}
				leaves = append(leaves, parts...)
			}
			got := make([]float32, n)
			NewMachine(p.Program()).Reduce(got, leaves)
			require.Equal(t, want, bitsOf(got), "%d chunks on %d ranks", chunks, world)
		}
	}
	require.True(t, orderMatters, "the test's numbers must tell orders apart")
}

func TestAccumulatorTakesBucketsInAnyOrder(t *testing.T) {
	const n = 5000
	r := rand.New(rand.NewPCG(3, 4))
	bounds := []int{0, 1, 17, 1040, 1041, 3333, n}
	for _, c := range [][2]int{{16, 1}, {13, 2}, {7, 2}, {3, 3}, {29, 4}} {
		p := mustPlan(t, c[0], c[1])
		for rank := range p.World() {
			lo, hi := p.Block(rank)
			grads := make([][]float32, p.Chunks())
			for i := range grads {
				grads[i] = wide(r, n)
			}
			whole := NewAccumulator(p, rank, n)
			for chunk := lo; chunk < hi; chunk++ {
				whole.Add(chunk, 0, n, grads[chunk])
			}
			want := whole.Parts(nil, 0, n)

			split := NewAccumulator(p, rank, n)
			grad := make([]float32, n) // one buffer for all chunks, as a trainer has
			for chunk := lo; chunk < hi; chunk++ {
				for i := range grad {
					grad[i] = float32(math.NaN()) // not yet computed
				}
				for _, b := range r.Perm(len(bounds) - 1) {
					copy(grad[bounds[b]:bounds[b+1]], grads[chunk][bounds[b]:bounds[b+1]])
					split.Add(chunk, bounds[b], bounds[b+1], grad)
				}
			}
			for b := range len(bounds) - 1 {
				for i, part := range split.Parts(nil, bounds[b], bounds[b+1]) {
					require.Equal(t, bitsOf(want[i][bounds[b]:bounds[b+1]]), bitsOf(part))
				}
			}
		}
	}
}

func TestAccumulatorCopiesNothingForOneChunk(t *testing.T) {
	p := mustPlan(t, 4, 4)
	acc := NewAccumulator(p, 2, 100)
	require.Empty(t, acc.slots)
	grad := make([]float32, 100)
	acc.Add(2, 0, 100, grad)
	require.Same(t, &grad[10], &acc.Parts(nil, 10, 20)[0][0])
	require.Zero(t, testing.AllocsPerRun(10, func() { acc.Add(2, 0, 100, grad) }))
}

func TestAccumulatorNeedsLogarithmicMemory(t *testing.T) {
	p := mustPlan(t, 64, 1)
	require.LessOrEqual(t, len(NewAccumulator(p, 0, 1).slots), 6)
}

func TestAccumulatorRefusesForeignChunks(t *testing.T) {
	p := mustPlan(t, 8, 2)
	acc := NewAccumulator(p, 1, 4)
	require.Panics(t, func() { acc.Add(3, 0, 4, make([]float32, 4)) })
	require.Panics(t, func() { acc.Add(8, 0, 4, make([]float32, 4)) })
	require.Panics(t, func() { acc.Add(4, 0, 5, make([]float32, 4)) })
	require.Panics(t, func() { acc.Add(4, 0, 3, make([]float32, 3)) })
	alone := NewAccumulator(mustPlan(t, 3, 3), 0, 4)
	require.Panics(t, func() { alone.Parts(nil, 0, 4) })
}

func TestAdd(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for n := range 200 {
		for off := range 3 { // unaligned starts
			a, b := wide(r, n+off)[off:], wide(r, n+off)[off:]
			if n > 3 {
				a[0], b[1], a[2] = float32(math.Inf(1)), float32(math.Copysign(0, -1)), math.SmallestNonzeroFloat32
			}
			want := make([]float32, n)
			for i := range want {
				want[i] = a[i] + b[i]
			}
			dst := append(make([]float32, n), 7)
			Add(dst, a, b, n)
			require.Equal(t, bitsOf(want), bitsOf(dst[:n]))
			require.Equal(t, math.Float32bits(7), math.Float32bits(dst[n]), "wrote past the end")
			Add(a, a, b, n)
			require.Equal(t, bitsOf(want), bitsOf(a), "in place")
			addGo(dst[:n], b, b)
			for i := range want {
				want[i] = b[i] + b[i]
			}
			require.Equal(t, bitsOf(want), bitsOf(dst[:n]), "portable")
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	for _, n := range []int{8 << 10, 16 << 20} {
		b.Run(fmt.Sprintf("elems=%d", n), func(b *testing.B) {
			dst, x := make([]float32, n), make([]float32, n)
			b.SetBytes(int64(n * 4))
			for b.Loop() {
				Add(dst, dst, x, n)
			}
		})
	}
}
