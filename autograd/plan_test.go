package autograd

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/tensor"
)

// randomNodes makes a program of n operations on earlier results, some in place,
// some pinned.
func randomNodes(r *rand.Rand, n int) []*node {
	var nodes []*node
	values := []*Value{{store: &storage{external: true}}}
	types := []tensor.DType{tensor.F32, tensor.BF16}
	for range n {
		op := &node{name: "op", out: []*Value{resultAs(types[r.IntN(2)], tensor.Of(1+r.IntN(3)*64))}}
		for range 1 + r.IntN(3) {
			op.in = append(op.in, values[max(0, len(values)-1-r.IntN(8))])
			if r.IntN(2) == 0 {
				op.inPlace = append(op.inPlace, len(op.in)-1)
			}
		}
		op.in = append(op.in, nil)
		if r.IntN(4) == 0 {
			op.out = append(op.out, resultAs(types[r.IntN(2)], tensor.Of(r.IntN(200))))
		}
		op.out[0].store.pinned = r.IntN(20) == 0
		nodes = append(nodes, op)
		values = append(values, op.out...)
	}
	return nodes
}

// Replaying a planned program on tags shows whether any value is overwritten before
// its last use.
func TestPlanKeepsValuesUntilLastUse(t *testing.T) {
	merged := 0
	for seed := range uint64(200) {
		nodes := randomNodes(rand.New(rand.NewPCG(seed, 1)), 40)
		length, floor := plan(nodes)
		require.GreaterOrEqual(t, length, floor)
		arena := make([]*Value, 4*length) // by byte
		memory := func(v *Value) []*Value {
			return arena[4*v.store.root().off:][:v.store.elems*v.dtype.Size()]
		}
		holds := func(v *Value) {
			for i, at := range memory(v) {
				if at != v {
					t.Fatalf("seed %d: byte %d of %v %v was overwritten", seed, i, v.dtype, v.shape)
				}
			}
		}
		for _, n := range nodes {
			for _, v := range n.in {
				if v != nil && !v.store.external {
					holds(v)
				}
			}
			for _, v := range n.out {
				require.Zero(t, v.store.root().off%align)
				bytes := memory(v)
				for i := range bytes {
					bytes[i] = v
				}
				if v.store.takes != nil {
					require.Equal(t, v.dtype, v.store.root().dtype)
					merged++
				}
			}
		}
		for _, n := range nodes {
			if n.out[0].store.pinned {
				holds(n.out[0])
			}
		}
	}
	require.Positive(t, merged)
}

// Half the bytes take half the arena, to the granularity of offsets.
func TestPlanCountsBytes(t *testing.T) {
	chain := func(dt tensor.DType) (length int) {
		var nodes []*node
		x := resultAs(dt, tensor.Of(4, 256))
		nodes = append(nodes, &node{name: "source", out: []*Value{x}})
		for range 5 {
			y := resultAs(dt, tensor.Of(4, 256))
			nodes = append(nodes, &node{name: "op", in: []*Value{x}, out: []*Value{y}})
			x = y
		}
		length, _ = plan(nodes)
		return length
	}
	require.Equal(t, 2048, chain(tensor.F32))
	require.Equal(t, 1024, chain(tensor.BF16))
	require.Equal(t, 128, (&storage{elems: 129, dtype: tensor.BF16}).size())
}

// In place only over an operand that may be overwritten, is not used again, and is
// not read through another operand.
func TestTakeOver(t *testing.T) {
	s := tensor.Of(32) // one unit of the arena in either type
	make1 := func() *Value { return result(s) }
	source := func(out *Value) *node { return &node{name: "source", out: []*Value{out}} }
	for _, c := range []struct {
		name string
		want bool
		last func(x, y *Value) []*node
	}{
		{"last use", true, func(x, y *Value) []*node {
			return []*node{{in: []*Value{x}, out: []*Value{y}, inPlace: []int{0}}}
		}},
		{"not allowed", false, func(x, y *Value) []*node {
			return []*node{{in: []*Value{x}, out: []*Value{y}}}
		}},
		{"used again", false, func(x, y *Value) []*node {
			return []*node{{in: []*Value{x}, out: []*Value{y}, inPlace: []int{0}}, {in: []*Value{x}}}
		}},
		{"also another operand", false, func(x, y *Value) []*node {
			return []*node{{in: []*Value{x, x}, out: []*Value{y}, inPlace: []int{1}}}
		}},
		{"both operands alike", true, func(x, y *Value) []*node {
			return []*node{{in: []*Value{x, x}, out: []*Value{y}, inPlace: []int{0, 1}}}
		}},
		{"a view reads it later", false, func(x, y *Value) []*node {
			view := &Value{shape: s, store: x.store, viewOf: x}
			return []*node{{in: []*Value{x}, out: []*Value{y}, inPlace: []int{0}}, {in: []*Value{view}}}
		}},
		{"another type of the same size", false, func(x, y *Value) []*node {
			y.dtype, y.store.dtype = tensor.BF16, tensor.BF16
			return []*node{{in: []*Value{x}, out: []*Value{y}, inPlace: []int{0}}}
		}},
		{"pinned", false, func(x, y *Value) []*node {
			x.store.pinned = true
			return []*node{{in: []*Value{x}, out: []*Value{y}, inPlace: []int{0}}}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, y := make1(), make1()
			plan(append([]*node{source(x)}, c.last(x, y)...))
			require.Equal(t, c.want, y.store.takes == x.store)
		})
	}
}

func TestPlanRefusesReadBeforeWrite(t *testing.T) {
	require.PanicsWithValue(t, "autograd: lone reads a value that was never written", func() {
		plan([]*node{{name: "lone", in: []*Value{result(tensor.Of(4))}}})
	})
}
