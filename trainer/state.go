package trainer

import (
	"encoding/binary"
	"fmt"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/nn"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/tensor"
)

// State is everything that a step changes: what a checkpoint holds and what a
// rank that is behind copies. It is the same on all ranks after each step.
type State struct {
	Step    int64 // steps committed; the next one to compute
	Updates int64 // updates applied; smaller than Step where steps were skipped
	InARow  int64 // steps skipped since the last update

	// Generation committed Step; 0: read from a checkpoint. It is not part of
	// the model: two runs with other histories have other generations.
	Generation uint64

	// The flat slices. Where a device holds the state they are copies: Pull
	// brings them up to date, Flushed writes them back.
	Layout []nn.Param   // where each tensor lies in the flat slices below
	Values []float32    // parameters
	EMA    []float32    // their moving average; nil: none is kept
	Slots  []optim.Slot // the optimizer's moments, as host slices

	lineage []mark // by step

	values  *mirror   // of Values
	ema     *mirror   // of EMA; nil: there is none
	mirrors []*mirror // all there are, in the order of Flats
}

// NewState wraps the storage of a model and an optimizer on a backend, and allocates
// the average beside them where there is to be one.
func NewState(be tensor.Backend, p *nn.Params, pass agr.Pass, ema bool) (*State, error) {
	s := &State{Layout: p.List(), values: newMirror(be, p.Values())}
	s.Values, s.mirrors = s.values.host, []*mirror{s.values}
	if ema {
		b, err := be.Alloc(tensor.F32, p.FlatLen())
		if err != nil {
			return nil, fmt.Errorf("trainer: the moving average: %w", err)
		}
		s.ema = newMirror(be, b)
		s.EMA, s.mirrors = s.ema.host, append(s.mirrors, s.ema)
	}
	for _, slot := range pass.Slots() {
		m := newMirror(be, slot.Data)
		s.Slots = append(s.Slots, optim.Slot{Name: slot.Name, Data: tensor.Floats(m.host)})
		s.mirrors = append(s.mirrors, m)
	}
	return s, nil
}

// update is the next update of the state by a gradient in the same memory.
func (s *State) update(grads tensor.Buffer) optim.Update {
	u := optim.Update{Params: s.values.buf, Grads: grads, T: s.Updates + 1}
	if s.ema != nil {
		u.EMA = s.ema.buf
	}
	return u
}

// init gives the state its first values, those of the model.
func (s *State) init(m Model, seed uint64) error {
	m.Init(seed)
	s.values.stale = true
	if err := s.values.pull(); err != nil {
		return err
	}
	s.Step, s.Updates, s.InARow, s.Generation, s.lineage = 0, 0, 0, 0, nil
	copy(s.EMA, s.Values)
	for _, slot := range s.Slots {
		clear(slot.Float32s())
	}
	s.Flushed()
	return nil
}

// Flats lists all flat slices of the state in a fixed order.
func (s *State) Flats() [][]float32 {
	flats := make([][]float32, len(s.mirrors))
	for i, m := range s.mirrors {
		flats[i] = m.host
	}
	return flats
}

// Pull brings the flat slices up to date with the device. It must be called
// before they are read.
func (s *State) Pull() error {
	for _, m := range s.mirrors {
		if err := m.pull(); err != nil {
			return err
		}
	}
	return nil
}

// Flushed must be called after the flat slices were written from outside, so
// that a device with its own memory sees them.
func (s *State) Flushed() {
	for _, m := range s.mirrors {
		m.push()
	}
}

// changed notes that the state was written where it lives.
func (s *State) changed() {
	for _, m := range s.mirrors {
		m.stale = true
	}
}

// WithEMA runs f while the model computes with the averaged parameters, if there
// are any. The state is the same afterwards.
func (s *State) WithEMA(f func() error) error {
	if s.ema == nil {
		return f()
	}
	restore, err := s.values.replace(s.ema)
	if err != nil {
		return err
	}
	defer restore()
	return f()
}

// digest is a fingerprint of the whole state, to compare ranks with. Generations wait for
// it, so its speed counts: see fingerprint.
func (s *State) digest() (d [16]byte, err error) {
	if err := s.Pull(); err != nil {
		return d, err
	}
	return fingerprint([]int64{s.Step, s.Updates, s.InARow}, s.Flats()...), nil
}

// parameterDigest is the cheap comparison made while training.
func (s *State) parameterDigest() (d [16]byte, err error) {
	if be, ok := s.values.be.(Digester); ok && !s.values.same {
		sum, err := be.Digest(s.values.buf)
		if err != nil {
			return d, fmt.Errorf("trainer: digest on %s: %w", s.values.be.Name(), err)
		}
		binary.LittleEndian.PutUint64(d[:], sum)
		return d, nil
	}
	if err := s.values.pull(); err != nil {
		return d, err
	}
	return fingerprint(nil, s.Values), nil
}
