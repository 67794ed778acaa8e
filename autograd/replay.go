package autograd

import (
	"fmt"
	"math"
	"slices"

	"github.com/agrdist/agrdist/tensor"
)

// segmentElems is how many gradient elements become ready between two segments of
// a recorded program: 4 MiB, some tens of segments for a large network, each of
// them one launch.
const segmentElems = 1 << 20

// replays is what Replay remembers of one way to record a program.
type replays struct {
	recorded recording
	last     recordingKey // of the latest step
}

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
// Without Step.Ready the recording is one piece. With it, it is cut in segments:
// Ready is called in the same order as by Run, but for several parameters after each
// of them. Each of the two is recorded when it is first asked for twice.
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
	have, limit := &p.recorded, math.MaxInt
	if s.Ready != nil {
		have, limit = &p.cut, segmentElems
	}
	if !key.equal(have.recorded.key) {
		if !key.equal(have.last) {
			have.last = key
			return p.Run(s)
		}
		var err error
		if have.recorded, err = p.record(r, key, s, limit); err != nil {
			return err
		}
	}
	for _, g := range have.recorded.segments {
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

// record records segments in which at least so many gradient elements become ready.
// That runs the operations, some perhaps more than once, so the results are good only
// after a replay of all.
func (p *Program) record(r tensor.Replayer, key recordingKey, s Step, elems int) (recording, error) {
	s.Ready = nil
	rec := recording{key: key}
	for lo := 0; lo < len(p.nodes); {
		hi, ready := p.segment(lo, elems)
		nodes := p.nodes[lo:hi]
		replay, err := r.Record(func() error {
			for _, n := range nodes {
				n.kernel(p.be, &s, n.out, n.in)
			}
			return nil
		})
		if err != nil {
			return recording{}, fmt.Errorf("autograd: record: %w", err)
		}
		rec.segments = append(rec.segments, segment{replay, ready})
		lo = hi
	}
	return rec, nil
}

// segment returns the end of the segment of at least so many gradient elements that
// begins at node lo, and what is ready then.
func (p *Program) segment(lo, least int) (hi int, ready []int) {
	elems := 0
	for hi = lo; hi < len(p.nodes) && elems < least; hi++ {
		for _, i := range p.nodes[hi].ready {
			ready = append(ready, i)
			elems += p.elems[i]
		}
	}
	return hi, ready
}
