package autograd

import (
	"cmp"
	"slices"
)

// align is the granularity of offsets in the arena, in words of 4 bytes: 256 bytes,
// what vector loads and GPU memory transactions like.
const align = 64

// plan finds the lifetime of every storage, shares memory in place where the
// operations allow it, and assigns offsets. It returns the length of the arena
// in words, and the least any assignment could reach.
func plan(nodes []*node) (length, floor int) {
	stores := lifetimes(nodes)
	takeOver(nodes)
	stores = slices.DeleteFunc(stores, func(s *storage) bool { return s.takes != nil })
	length = pack(stores)
	for i := range nodes {
		live := 0
		for _, s := range stores {
			if s.first <= i && i <= s.last {
				live += s.size()
			}
		}
		floor = max(floor, live)
	}
	return length, floor
}

// words is what the elements take, in words of 4 bytes.
func (s *storage) words() int { return (s.elems*s.dtype.Size() + 3) / 4 }

// size is words, up to the next offset.
func (s *storage) size() int { return (s.words() + align - 1) / align * align }

// like reports whether one storage can take the place of the other, element by
// element.
func (s *storage) like(o *storage) bool { return s.dtype == o.dtype && s.size() == o.size() }

// lifetimes sets first and last of every planned storage and returns them in
// order of first use.
func lifetimes(nodes []*node) []*storage {
	var stores []*storage
	touch := func(i int, v *Value, write bool) {
		if v == nil || v.store.external {
			return
		}
		s := v.store
		if s.first < 0 {
			if !write {
				panic("autograd: " + nodes[i].String() + " reads a value that was never written")
			}
			s.first = i
			stores = append(stores, s)
		}
		s.last = i
		if s.pinned {
			s.last = len(nodes)
		}
	}
	for i, n := range nodes {
		for _, v := range n.in {
			touch(i, v, false)
		}
		for _, v := range n.out {
			touch(i, v, true)
		}
	}
	return stores
}

// takeOver merges the result of an operation into the memory of an operand that
// is used for the last time.
func takeOver(nodes []*node) {
	for i, n := range nodes {
		if len(n.out) == 0 || n.out[0] == nil {
			continue
		}
		out := n.out[0].store
		if out.external || out.first != i {
			continue
		}
		for _, k := range n.inPlace {
			if v := n.in[k]; v != nil && free(v.store, i) && v.store.root().like(out) && !readElsewhere(n, v.store.root()) {
				s := v.store.root()
				out.takes = s
				s.last = out.last
				break
			}
		}
	}
}

// free reports whether operation i is the last use of the memory.
func free(s *storage, i int) bool {
	s = s.root()
	return !s.external && s.last == i
}

// readElsewhere reports whether the operation reads the memory through an operand
// that must not overlap the result.
func readElsewhere(n *node, s *storage) bool {
	for k, v := range n.in {
		if v != nil && v.store.root() == s && !slices.Contains(n.inPlace, k) {
			return true
		}
	}
	return false
}

// pack assigns offsets so that storages alive at the same time do not overlap:
// each in turn goes to the lowest gap that holds it. How good that is depends on
// the turn, so a few orders are tried and the shortest result stays. The outcome
// is a function of the program alone.
func pack(stores []*storage) int {
	orders := []func(a, b *storage) int{
		func(a, b *storage) int { return cmp.Compare(b.words(), a.words()) },
		func(a, b *storage) int {
			return cmp.Compare(b.words()*(b.last-b.first+1), a.words()*(a.last-a.first+1))
		},
		func(a, b *storage) int { return cmp.Compare(b.last-b.first, a.last-a.first) },
		func(a, b *storage) int { return cmp.Compare(a.first, b.first) },
	}
	best, bestOffsets := -1, make([]int, len(stores))
	for _, order := range orders {
		turn := slices.Clone(stores)
		slices.SortStableFunc(turn, order)
		if n := place(turn); best < 0 || n < best {
			best = n
			for i, s := range stores {
				bestOffsets[i] = s.off
			}
		}
	}
	for i, s := range stores {
		s.off = bestOffsets[i]
	}
	return best
}

// place assigns offsets in the given order, first fit, and returns the length.
func place(turn []*storage) int {
	length := 0
	placed := make([]*storage, 0, len(turn)) // by offset
	for _, s := range turn {
		off := 0
		for _, p := range placed {
			if p.last < s.first || s.last < p.first {
				continue
			}
			if off+s.size() <= p.off {
				break
			}
			off = max(off, p.off+p.size())
		}
		s.off = off
		length = max(length, off+s.size())
		at, _ := slices.BinarySearchFunc(placed, off, func(p *storage, off int) int { return cmp.Compare(p.off, off) })
		placed = slices.Insert(placed, at, s)
	}
	return length
}
