package allreduce

// A program is the upper part of the canonical tree, flattened: the additions
// that turn the ranks' subtree sums into the root. Registers 0..leaves-1 are
// the subtree sums of all ranks, left to right; higher ones are scratch.
type program struct {
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

// compile returns the program of a plan.
func (p *Plan) compile() *program {
	prog := &program{first: make([]int, 0, p.world+1)}
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

// A machine runs a program. It owns the scratch registers and is used by one
// goroutine at a time.
type machine struct {
	prog    *program
	scratch []float32
	window  [][]float32
}

func newMachine(prog *program) *machine {
	m := &machine{
		prog:    prog,
		scratch: make([]float32, prog.scratch*blockElems),
		window:  make([][]float32, prog.leaves+prog.scratch),
	}
	for i := range prog.scratch {
		m.window[prog.leaves+i] = m.scratch[i*blockElems : (i+1)*blockElems]
	}
	return m
}

// reduce writes the root of the leaves to dst. Leaves are as long as dst and
// are not changed, except that dst may be one of them.
func (m *machine) reduce(dst []float32, leaves [][]float32) {
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
			addTo(to, m.window[op.a], m.window[op.b], hi-lo)
		}
	}
}
