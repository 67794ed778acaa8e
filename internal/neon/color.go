package neon

import (
	"fmt"
	"math/big"
)

// integers are the physical registers to use: not those of the platform (R18), the linker
// (R16, R17, R27), the goroutine (R28) and the frame.
var integers = []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 19, 20, 21, 22, 23, 24, 25, 26}

const vectors = 32

// live returns the virtual registers that are live after each line.
func (f *Func) live() []big.Int {
	labels := map[string]int{}
	for i, l := range f.lines {
		if l.label != "" {
			if _, twice := labels[l.label]; twice {
				panic(fmt.Sprintf("neon: %s has two labels %s", f.name, l.label))
			}
			labels[l.label] = i
		}
	}
	before, after := make([]big.Int, len(f.lines)), make([]big.Int, len(f.lines))
	for changed := true; changed; {
		changed = false
		for i := len(f.lines) - 1; i >= 0; i-- {
			l, out := &f.lines[i], &after[i]
			if !l.ends && i+1 < len(f.lines) {
				out.Or(out, &before[i+1])
			}
			if l.target != "" {
				to, ok := labels[l.target]
				if !ok {
					panic(fmt.Sprintf("neon: %s has no label %s", f.name, l.target))
				}
				out.Or(out, &before[to])
			}
			in := new(big.Int).Set(out)
			for _, d := range l.defs {
				in.SetBit(in, d, 0)
			}
			for _, u := range l.uses {
				in.SetBit(in, u, 1)
			}
			if in.Cmp(&before[i]) != 0 {
				before[i].Set(in)
				changed = true
			}
		}
	}
	if first := before[0]; first.Sign() != 0 {
		panic(fmt.Sprintf("neon: %s reads registers %b before they are written", f.name, &first))
	}
	return after
}

// color gives every virtual register a physical one: in order of their first writing, the
// first that no neighbour has.
func (f *Func) color() []int {
	neighbours := make([]big.Int, len(f.vector))
	after := f.live()
	for i, l := range f.lines {
		busy := new(big.Int).Set(&after[i])
		for _, d := range l.defs { // also one that nobody reads needs a place
			busy.SetBit(busy, d, 1)
		}
		for _, d := range l.defs {
			neighbours[d].Or(&neighbours[d], busy)
			for n := range f.vector {
				if busy.Bit(n) == 1 && n != d {
					neighbours[n].SetBit(&neighbours[n], d, 1)
				}
			}
		}
	}
	at := make([]int, len(f.vector))
	for i := range at {
		at[i] = -1
	}
	for id, r := range f.fixed {
		at[id] = r
	}
	for _, l := range f.lines {
		for _, d := range l.defs {
			if at[d] < 0 {
				at[d] = f.free(d, &neighbours[d], at)
			}
		}
	}
	return at
}

// free is the first physical register that no neighbour of d has.
func (f *Func) free(d int, neighbours *big.Int, at []int) int {
	taken := map[int]bool{}
	for n, r := range at {
		if r >= 0 && n != d && f.vector[n] == f.vector[d] && neighbours.Bit(n) == 1 {
			taken[r] = true
		}
	}
	if f.vector[d] {
		for r := range vectors {
			if !taken[r] {
				return r
			}
		}
	}
	for _, r := range integers {
		if !f.vector[d] && !taken[r] {
			return r
		}
	}
	panic(fmt.Sprintf("neon: %s needs more registers (vectors: %t)", f.name, f.vector[d]))
}
