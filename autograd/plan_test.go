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
	for range n {
		op := &node{name: "op", out: []*Value{result(tensor.Of(1 + r.IntN(3)*64))}}
		for range 1 + r.IntN(3) {
			op.in = append(op.in, values[max(0, len(values)-1-r.IntN(8))])
			if r.IntN(2) == 0 {
				op.inPlace = append(op.inPlace, len(op.in)-1)
			}
		}
		op.in = append(op.in, nil)
		if r.IntN(4) == 0 {
			op.out = append(op.out, result(tensor.Of(r.IntN(200))))
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
		arena := make([]*Value, length)
		holds := func(v *Value) {
			off := v.store.root().off
			for i, at := range arena[off : off+v.store.elems] {
				if at != v {
					t.Fatalf("seed %d: element %d of %v was overwritten", seed, i, v.shape)
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
				off := v.store.root().off
				require.Zero(t, off%align)
				for i := range v.store.elems {
					arena[off+i] = v
				}
				if v.store.takes != nil {
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

// In place only over an operand that may be overwritten, is not used again, and is
// not read through another operand.
func TestTakeOver(t *testing.T) {
	s := tensor.Of(64)
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
