package allreduce

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/agrdist/agrdist/internal/sharedmem"
)

// Accumulator pre-sums the gradients of a rank's chunks into the sums of its
// subtrees, Plan.Nodes(rank). It works range by range, so that a bucket can
// leave for AllReduce while backward still computes the others: for every
// element the chunks of the block come in order, but different ranges may be
// at different chunks and come in any order.
//
// Memory: one vector of n elements for each subtree sum that must wait, at most
// log2 of the block's size (none for a block of one chunk).
//
// Add and Parts may run on different goroutines as long as their ranges are
// disjoint.
type Accumulator struct {
	n      int
	lo, hi int
	steps  []mergeStep // by chunk of the block
	parts  []int       // by node: its slot
	slots  [][]float32
	blocks []*sharedmem.Memory     // some slots' memory
	last   atomic.Pointer[float32] // the gradient of the last chunk, where it is a part by itself
}

// mergeStep is what a chunk does to the stack of subtree sums: it merges with
// the merges sums on top of it, and the result goes to slot. slot is alias for
// a last chunk that is not merged: it is not copied.
type mergeStep struct{ slot, merges int }

const alias = -1

// NewAccumulator returns the accumulator of a rank for gradients of n elements.
// The caller should Free it.
func NewAccumulator(p *Plan, rank, n int) *Accumulator {
	if n < 0 {
		panic(fmt.Sprintf("allreduce: accumulator of %d elements", n))
	}
	a := &Accumulator{n: n}
	a.lo, a.hi = p.Block(rank)
	var stack []Node
	depth := 0
	for chunk := a.lo; chunk < a.hi; chunk++ {
		stack = append(stack, Node{Index: chunk})
		var merges int
		stack, merges = p.fold(stack, a.lo)
		step := mergeStep{slot: len(stack) - 1, merges: merges}
		if chunk == a.hi-1 && merges == 0 {
			step.slot = alias
		} else {
			depth = max(depth, len(stack))
		}
		a.steps = append(a.steps, step)
	}
	for i := range stack {
		a.parts = append(a.parts, i)
	}
	if k := len(a.steps); k > 0 && a.steps[k-1].slot == alias {
		a.parts[len(a.parts)-1] = alias
	}
	for range depth {
		a.slots = append(a.slots, a.vector(p.World() > 1))
	}
	return a
}

// vector returns n zeros, where other ranks of this host can read them if that
// pays and the system has such memory.
func (a *Accumulator) vector(share bool) []float32 {
	if share && a.n >= sharedmem.Worth/4 {
		if m, err := sharedmem.Alloc(4 * a.n); err == nil {
			a.blocks = append(a.blocks, m)
			return m.Float32s()
		}
	}
	return make([]float32, a.n)
}

// Free gives the memory back, which not all of is the garbage collector's. The
// accumulator and what Parts has returned must not be used afterwards.
func (a *Accumulator) Free() {
	for _, m := range a.blocks {
		m.Free()
	}
	a.blocks, a.slots = nil, nil
}

// fold climbs from the top of a stack of neighbouring nodes: a right child
// merges with its sibling below it, a node without a sibling in the tree takes
// its parent's place. It returns the stack and the number of merges.
func (p *Plan) fold(stack []Node, lo int) ([]Node, int) {
	merges := 0
	for {
		top := stack[len(stack)-1]
		if top == p.root {
			return stack, merges
		}
		parent := Node{Level: top.Level + 1, Index: top.Index / 2}
		first, _ := p.span(parent)
		if first < lo {
			return stack, merges
		}
		if _, right, two := p.children(parent); top == right {
			merges++
			stack = stack[:len(stack)-1]
		} else if two {
			return stack, merges
		}
		stack[len(stack)-1] = parent
	}
}

// Add merges the range [lo, hi) of a chunk's gradient into the subtree sums.
// grad is the whole flat gradient of n elements; Add reads the range and keeps
// nothing of it, but for the block's last chunk: there Parts may return slices
// of grad itself (always so for a block of one chunk), and grad's range must
// stay unchanged until AllReduce has returned. Add panics on a chunk outside
// the rank's block or a range outside the gradient.
func (a *Accumulator) Add(chunk, lo, hi int, grad []float32) {
	if chunk < a.lo || chunk >= a.hi {
		panic(fmt.Sprintf("allreduce: chunk %d added to the block [%d, %d)", chunk, a.lo, a.hi))
	}
	if len(grad) != a.n || lo < 0 || hi < lo || hi > a.n {
		panic(fmt.Sprintf("allreduce: range [%d, %d) of a gradient of %d elements, want %d", lo, hi, len(grad), a.n))
	}
	if lo == hi {
		return
	}
	step := a.steps[chunk-a.lo]
	switch {
	case step.slot == alias:
		if first := &grad[0]; a.last.Load() != first {
			a.last.Store(first)
		}
	case step.merges == 0:
		copy(a.slots[step.slot][lo:hi], grad[lo:hi])
	case step.merges == 1:
		slot := a.slots[step.slot][lo:hi]
		Add(slot, slot, grad[lo:hi], hi-lo)
	default:
		a.merge(step, lo, hi, grad)
	}
}

// merge climbs several levels at once, a cache-sized block at a time:
// slot[k] += slot[k+1] + ( ... + (slot[k+merges-1] + grad)).
func (a *Accumulator) merge(step mergeStep, lo, hi int, grad []float32) {
	var buf [blockElems]float32
	for ; lo < hi; lo += blockElems {
		n := min(blockElems, hi-lo)
		right, sum := grad[lo:lo+n], buf[:n]
		for i := step.slot + step.merges - 1; i > step.slot; i-- {
			Add(sum, a.slots[i][lo:lo+n], right, n)
			right = sum
		}
		slot := a.slots[step.slot][lo : lo+n]
		Add(slot, slot, right, n)
	}
}

// Parts appends to dst the range [lo, hi) of the rank's subtree sums, one slice
// for each of Plan.Nodes(rank), and returns it. The block's last chunk must
// have been added for the range. The slices are the accumulator's memory, or
// the last chunk's gradient (see Add): valid until the next batch's first Add
// of the range.
func (a *Accumulator) Parts(dst [][]float32, lo, hi int) [][]float32 {
	for _, slot := range a.parts {
		if slot != alias {
			dst = append(dst, a.slots[slot][lo:hi:hi])
			continue
		}
		var part []float32
		if lo < hi {
			first := a.last.Load()
			if first == nil {
				panic(fmt.Sprintf("allreduce: parts [%d, %d) asked for before chunk %d was added", lo, hi, a.hi-1))
			}
			part = unsafe.Slice(first, a.n)[lo:hi:hi]
		}
		dst = append(dst, part)
	}
	return dst
}
