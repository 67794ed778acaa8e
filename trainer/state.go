package trainer

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"unsafe"

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
	Slots  []optim.Slot // the optimizer's moments

	values  *mirror   // of Values
	ema     *mirror   // of EMA; nil: it lives on the host, or there is none
	mirrors []*mirror // all there are, in the order of Flats
}

// NewState wraps the storage of a model and an optimizer on the host.
func NewState(be tensor.Backend, p *nn.Params, o Optimizer, ema bool) *State {
	s := &State{Layout: p.List(), Slots: o.Slots(), values: newMirror(be, p.Values())}
	s.Values, s.mirrors = s.values.host, []*mirror{s.values}
	if ema {
		s.EMA = make([]float32, p.FlatLen())
	}
	return s
}

// newDeviceState wraps the storage of a model and an optimizer on a device, and
// allocates the average beside them.
func newDeviceState(be tensor.Backend, p *nn.Params, o DeviceOptimizer, ema bool) (*State, error) {
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
	for _, slot := range o.Slots() {
		m := newMirror(be, slot.Buf)
		s.Slots = append(s.Slots, optim.Slot{Name: slot.Name, Data: m.host})
		s.mirrors = append(s.mirrors, m)
	}
	return s, nil
}

// init gives the state its first values, those of the model.
func (s *State) init(m Model, seed uint64) error {
	m.Init(seed)
	s.values.stale = true
	if err := s.values.pull(); err != nil {
		return err
	}
	s.Step, s.Updates, s.InARow, s.Generation = 0, 0, 0, 0
	copy(s.EMA, s.Values)
	for _, slot := range s.Slots {
		clear(slot.Data)
	}
	s.Flushed()
	return nil
}

// Flats lists all flat slices of the state in a fixed order.
func (s *State) Flats() [][]float32 {
	flats := [][]float32{s.Values}
	if s.EMA != nil {
		flats = append(flats, s.EMA)
	}
	for _, slot := range s.Slots {
		flats = append(flats, slot.Data)
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

// changed notes that the device has written its part of the state.
func (s *State) changed() {
	for _, m := range s.mirrors {
		m.stale = true
	}
}

// WithEMA runs f while the model computes with the averaged parameters, if there
// are any. The state is the same afterwards.
func (s *State) WithEMA(f func() error) error {
	switch {
	case s.EMA == nil:
		return f()
	case s.ema != nil && !s.values.same:
		if err := s.values.pull(); err != nil {
			return err
		}
		s.values.copyFrom(s.ema)
		defer s.values.push()
		return f()
	}
	raw := slices.Clone(s.Values)
	copy(s.Values, s.EMA)
	s.values.push()
	defer func() {
		copy(s.Values, raw)
		s.values.push()
	}()
	return f()
}

// digest is a fingerprint of the whole state, to compare ranks with.
func (s *State) digest() (d [16]byte, err error) {
	if err := s.Pull(); err != nil {
		return d, err
	}
	h := sha256.New()
	var head [24]byte
	binary.LittleEndian.PutUint64(head[0:], uint64(s.Step))
	binary.LittleEndian.PutUint64(head[8:], uint64(s.Updates))
	binary.LittleEndian.PutUint64(head[16:], uint64(s.InARow))
	h.Write(head[:])
	for _, flat := range s.Flats() {
		h.Write(bytesOf(flat))
	}
	var sum [sha256.Size]byte
	return [16]byte(h.Sum(sum[:0])[:16]), nil
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
	sum := sha256.Sum256(bytesOf(s.Values))
	return [16]byte(sum[:16]), nil
}

// bytesOf views floats as memory. It is used for fingerprints that machines of
// one run compare with each other, never for what is stored.
func bytesOf(x []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x))
}

// mirror is the host's view of a flat device buffer: the buffer itself where the
// host addresses it, else a copy that is moved on demand.
type mirror struct {
	host  []float32
	be    tensor.Backend
	buf   tensor.Buffer
	same  bool
	stale bool // the device's values are newer
}

func newMirror(be tensor.Backend, b tensor.Buffer) *mirror {
	if h, ok := b.(tensor.Host); ok {
		return &mirror{host: h.Float32s(), be: be, buf: b, same: true}
	}
	return &mirror{host: make([]float32, b.Len()), be: be, buf: b}
}

// pull brings the device's values to the host where they are newer.
func (m *mirror) pull() error {
	if m.same || !m.stale {
		return nil
	}
	if err := m.be.Download(m.host, m.buf); err != nil {
		return fmt.Errorf("trainer: read from %s: %w", m.be.Name(), err)
	}
	m.stale = false
	return nil
}

// push brings the host's values to the device.
func (m *mirror) push() {
	if !m.same {
		m.be.Upload(m.buf, m.host)
		m.stale = false
	}
}

// copyFrom overwrites the device's values with another's. It does not touch the
// host's, which push brings back.
func (m *mirror) copyFrom(o *mirror) {
	shape := tensor.Of(m.buf.Len())
	m.be.Copy(tensor.Tensor{Buf: m.buf, Shape: shape}, tensor.Tensor{Buf: o.buf, Shape: shape})
}
