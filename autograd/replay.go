package autograd

import (
	"fmt"
	"slices"

	"github.com/agrdist/agrdist/tensor"
)

// segmentElems is how many gradient elements become ready between two segments of
// a recorded program: 4 MiB, some tens of segments for a large network, each of
// them one launch.
const segmentElems = 1 << 20

// recording is a program as the backend recorded it, for one set of inputs and
// one Step: everything that the operations were called with is part of it.
type recording struct {
	key      recordingKey
	segments []segment
}

// segment is a run of operations, and the parameters that are ready after it.
type segment struct {
	replay func() error
	ready  []int
}

type recordingKey struct {
	seed       uint64
	gradScale  float32
	generation int
	inputs     []tensor.Tensor
}

func (k recordingKey) equal(o recordingKey) bool {
	return k.seed == o.seed && k.gradScale == o.gradScale && k.generation == o.generation &&
		slices.Equal(k.inputs, o.inputs)
}

// Replay does what Run does, the same bits, with less work on the host where the
// backend is a tensor.Replayer: when it is called for the second time in a row with
// the same bindings, Seed and GradScale, the program is recorded, and from then on
// replayed. What the inputs hold may change between calls.
//
// Step.Ready is called in the same order as by Run, but for several parameters
// after each segment of the program.
func (p *Program) Replay(s Step) error {
	r, ok := p.be.(tensor.Replayer)
	if !ok {
		return p.Run(s)
	}
	if p.generation != p.arena.generation {
		if err := p.place(); err != nil {
			return err
		}
	}
	key := recordingKey{seed: s.Seed, gradScale: s.GradScale, generation: p.generation}
	for _, v := range p.inputs {
		key.inputs = append(key.inputs, v.t)
	}
	if !key.equal(p.recorded.key) {
		if !key.equal(p.last) {
			p.last = key
			return p.Run(s)
		}
		if err := p.record(r, key, s); err != nil {
			return err
		}
	}
	for _, g := range p.recorded.segments {
		if err := g.replay(); err != nil {
			return fmt.Errorf("autograd: replay: %w", err)
		}
		if s.Ready != nil {
			for _, i := range g.ready {
				s.Ready(i)
			}
		}
	}
	return nil
}

// record records the segments. That runs the operations, some perhaps more than
// once, so the results are good only after a replay of all.
func (p *Program) record(r tensor.Replayer, key recordingKey, s Step) error {
	s.Ready = nil
	rec := recording{key: key}
	for lo := 0; lo < len(p.nodes); {
		hi, ready := p.segment(lo)
		nodes := p.nodes[lo:hi]
		replay, err := r.Record(func() error {
			for _, n := range nodes {
				n.kernel(p.be, &s, n.out, n.in)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("autograd: record: %w", err)
		}
		rec.segments = append(rec.segments, segment{replay, ready})
		lo = hi
	}
	p.recorded = rec
	return nil
}

// segment returns the end of the segment that begins at node lo, and what is ready
// then.
func (p *Program) segment(lo int) (hi int, ready []int) {
	elems := 0
	for hi = lo; hi < len(p.nodes) && elems < segmentElems; hi++ {
		for _, i := range p.nodes[hi].ready {
			ready = append(ready, i)
			elems += p.elems[i]
		}
	}
	return hi, ready
}
