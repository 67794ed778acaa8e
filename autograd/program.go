package autograd

import (
	"fmt"

	"github.com/agrdist/agrdist/tensor"
)

// Arena is the one buffer in which programs keep intermediate values. Programs
// that never run at the same time share one; it is as long as the largest needs.
type Arena struct {
	be  tensor.Backend
	buf tensor.Buffer
	// generation counts the buffers, so that a program notices that its memory
	// moved.
	generation int
}

// NewArena returns an empty arena on a backend.
func NewArena(be tensor.Backend) *Arena { return &Arena{be: be} }

// Len is the length in words of 4 bytes.
func (a *Arena) Len() int {
	if a.buf == nil {
		return 0
	}
	return a.buf.Len()
}

// Free gives the memory back. Programs of the arena must not run again.
func (a *Arena) Free() {
	if a.buf != nil {
		a.be.Free(a.buf)
		a.buf = nil
		a.generation++
	}
}

func (a *Arena) reserve(n int) error {
	if n <= a.Len() && a.generation > 0 {
		return nil
	}
	a.Free()
	buf, err := a.be.Alloc(tensor.F32, max(n, 1))
	if err != nil {
		return fmt.Errorf("autograd: arena of %d elements: %w", n, err)
	}
	a.buf = buf
	a.generation++
	return nil
}

// slice is n elements of a type from a word on.
func (a *Arena) slice(word int, dt tensor.DType, n int) tensor.Buffer {
	if dt == tensor.F32 {
		return a.be.Slice(a.buf, word, n)
	}
	return a.be.(tensor.Mixed).SliceAs(a.buf, dt, word, n)
}

// Program is a compiled tape. It is used by one goroutine at a time.
type Program struct {
	be         tensor.Backend
	arena      *Arena
	generation int
	nodes      []*node
	values     []*Value // planned values and their views
	length     int
	floor      int
	inputs     []*Value
	elems      map[int]int // of each parameter
	readyOrder []int
	step       Step

	recorded, cut replays // in one piece, and cut where gradients become ready
}

// Compile appends the backward pass if the tape trains and lays the values out
// in the arena. It fails when the device has no room.
func (t *Tape) Compile(a *Arena) (*Program, error) {
	p := &Program{be: t.be, arena: a, nodes: t.nodes, inputs: t.inputs, elems: map[int]int{}}
	for _, v := range t.params {
		p.elems[v.param.index] = v.shape.Len()
	}
	if t.config.Train {
		p.nodes = append(p.nodes, t.gradients()...)
	}
	p.length, p.floor = plan(p.nodes)
	seen := map[*Value]bool{}
	collect := func(v *Value) {
		if v != nil && !v.store.external && !seen[v] {
			seen[v] = true
			p.values = append(p.values, v)
		}
	}
	for _, n := range p.nodes {
		for _, v := range n.in {
			collect(v)
			p.bindView(v)
		}
		for _, v := range n.out {
			collect(v)
			p.bindView(v)
		}
		p.readyOrder = append(p.readyOrder, n.ready...)
	}
	for _, v := range t.keep {
		collect(v)
	}
	for _, v := range t.inputs {
		v.t = tensor.Tensor{}
	}
	return p, p.place()
}

// bindView gives a view of a parameter or of its gradient its memory, which
// never moves.
func (p *Program) bindView(v *Value) {
	if v == nil || v.viewOf == nil || !v.store.external {
		return
	}
	base := v.base()
	if base.t.Present() {
		v.t = base.t.View(v.shape)
		return
	}
	panic(fmt.Sprintf("autograd: view %v of an input: declare the input under that shape", v.shape))
}

// place points every value at its part of the arena, again whenever the arena
// was replaced by a longer one.
func (p *Program) place() error {
	if err := p.arena.reserve(p.length); err != nil {
		return err
	}
	if p.generation == p.arena.generation {
		return nil
	}
	for _, v := range p.values {
		v.t = tensor.Tensor{Buf: p.arena.slice(v.store.root().off, v.dtype, v.shape.Len()), Shape: v.shape}
	}
	p.generation = p.arena.generation
	return nil
}

// Bind sets the memory of an input for the coming runs.
func (p *Program) Bind(v *Value, t tensor.Tensor) {
	if t.Shape != v.shape || t.Buf.DType() != v.dtype {
		panic(fmt.Sprintf("autograd: input %v %v bound to %v %v", v.dtype, v.shape, t.Buf.DType(), t.Shape))
	}
	v.t = t
}

// Run calls all operations in order. It does not wait for the device; failures
// of the device surface at the backend's Sync or Download. The error is that of
// an arena that could not be allocated again after Arena.Free.
func (p *Program) Run(s Step) error {
	if p.generation != p.arena.generation {
		if err := p.place(); err != nil {
			return err
		}
	}
	p.step = s
	for _, n := range p.nodes {
		n.kernel(p.be, &p.step, n.out, n.in)
		if s.Ready != nil {
			for _, i := range n.ready {
				s.Ready(i)
			}
		}
	}
	p.step.Ready = nil
	return nil
}

// ReadyOrder lists the parameter indices in the order of Step.Ready.
func (p *Program) ReadyOrder() []int { return append([]int(nil), p.readyOrder...) }

// ArenaLen is the number of 4-byte words the program keeps in the arena, and
// floor the largest number alive at one time: no layout could need less.
func (p *Program) ArenaLen() (length, floor int) { return p.length, p.floor }
