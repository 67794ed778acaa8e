package allreduce

// Program is the upper part of the canonical tree, flattened: the additions that
// turn the ranks' subtree sums into the root. Registers 0..leaves-1 are the
// subtree sums of all ranks, left to right; higher ones are scratch. It is what an
// implementation of Group adds by, and is never changed.
type Program struct {
	leaves  int
	first   []int // by rank: the register of its first subtree; first[world] = leaves
	ops     []addOp
	scratch int // number of scratch registers
}

// addOp is register[dst] = register[a] + register[b], a the left operand.
type addOp struct{ dst, a, b int }

// blockElems is the number of elements that a program handles at a time: a few
// registers of it stay in the first-level cache.
const blockElems = 1024

// Leaves returns how many subtree sums the ranks have together.
func (p *Program) Leaves() int { return p.leaves }

// First returns the register of a rank's first subtree sum. A rank has the
// registers [First(rank), First(rank+1)), 0 <= rank < world.
func (p *Program) First(rank int) int { return p.first[rank] }

// Program returns the additions of a plan.
func (p *Plan) Program() *Program {
	prog := &Program{first: make([]int, 0, p.world+1)}
	register := make(map[Node]int)
	for rank := range p.world {
		prog.first = append(prog.first, prog.leaves)
		for _, n := range p.nodes[rank] {
			register[n] = prog.leaves
			prog.leaves++
		}
	}
	prog.first = append(prog.first, prog.leaves)

	var free []int
	var eval func(n Node) int
	eval = func(n Node) int {
		if r, ok := register[n]; ok {
			return r
		}
		left, right, two := p.children(n)
		a := eval(left)
		if !two {
			return a
		}
		b := eval(right)
		dst := a
		if a < prog.leaves { // a subtree sum is never overwritten
			if len(free) == 0 {
				free = append(free, prog.leaves+prog.scratch)
				prog.scratch++
			}
			dst, free = free[len(free)-1], free[:len(free)-1]
		}
		prog.ops = append(prog.ops, addOp{dst: dst, a: a, b: b})
		if b >= prog.leaves {
			free = append(free, b)
		}
		return dst
	}
	eval(p.root)
	return prog
}

// Machine runs a Program on host memory. It owns the scratch registers and is used
// by one goroutine at a time.
type Machine struct {
	prog    *Program
	scratch []float32
	window  [][]float32
}

// NewMachine returns a machine for a program.
func NewMachine(prog *Program) *Machine {
	m := &Machine{
		prog:    prog,
		scratch: make([]float32, prog.scratch*blockElems),
		window:  make([][]float32, prog.leaves+prog.scratch),
	}
	for i := range prog.scratch {
		m.window[prog.leaves+i] = m.scratch[i*blockElems : (i+1)*blockElems]
	}
	return m
}

// Reduce writes the root of the leaves to dst. Leaves are as long as dst and
// are not changed, except that dst may be one of them.
func (m *Machine) Reduce(dst []float32, leaves [][]float32) {
	ops, last := m.prog.ops, len(m.prog.ops)-1
	if last < 0 {
		if len(dst) > 0 && &dst[0] != &leaves[0][0] {
			copy(dst, leaves[0])
		}
		return
	}
	for lo := 0; lo < len(dst); lo += blockElems {
		hi := min(lo+blockElems, len(dst))
		for i, leaf := range leaves {
			m.window[i] = leaf[lo:hi]
		}
		for i, op := range ops {
			to := dst[lo:hi]
			if i < last { // only the root touches dst, which may be a leaf
				to = m.window[op.dst]
			}
			Add(to, m.window[op.a], m.window[op.b], hi-lo)
		}
	}
}

// Sum writes the sum of the parts, left to right, to dst; zeros where there are
// none. Parts are as long as dst, which may be any of them; the others are not
// changed.
func Sum(dst []float32, parts [][]float32) {
	if len(parts) == 0 {
		clear(dst)
		return
	}
	var buf [blockElems]float32
	for lo := 0; lo < len(dst); lo += blockElems {
		hi := min(lo+blockElems, len(dst))
		sum := parts[0][lo:hi]
		for _, part := range parts[1:] { // dst may be any of them: write it last
			Add(buf[:], sum, part[lo:hi], hi-lo)
			sum = buf[:hi-lo]
		}
		if &sum[0] != &dst[lo] {
			copy(dst[lo:hi], sum)
		}
	}
}
