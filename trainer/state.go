package trainer

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
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

	Layout []nn.Param   // where each tensor lies in the flat slices below
	Values []float32    // parameters
	EMA    []float32    // their moving average; nil: none is kept
	Slots  []optim.Slot // the optimizer's moments

	device mirror // of Values
}

// NewState wraps the storage of a model and an optimizer.
func NewState(be tensor.Backend, p *nn.Params, o Optimizer, ema bool) *State {
	s := &State{Layout: p.List(), Slots: o.Slots(), device: newMirror(be, p.Values())}
	s.Values = s.device.host
	if ema {
		s.EMA = make([]float32, p.FlatLen())
	}
	return s
}

// init gives the state its first values, those of the model.
func (s *State) init(m Model, seed uint64) error {
	m.Init(seed)
	if err := s.device.pull(); err != nil {
		return err
	}
	s.Step, s.Updates, s.InARow, s.Generation = 0, 0, 0, 0
	copy(s.EMA, s.Values)
	for _, slot := range s.Slots {
		clear(slot.Data)
	}
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

// Flushed must be called after the flat slices were written from outside, so
// that a device with its own memory sees the parameters.
func (s *State) Flushed() { s.device.push() }

// digest is a fingerprint of the whole state, to compare ranks with.
func (s *State) digest() [16]byte {
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
	return [16]byte(h.Sum(sum[:0])[:16])
}

// parameterDigest is the cheap comparison made while training.
func (s *State) parameterDigest() [16]byte {
	sum := sha256.Sum256(bytesOf(s.Values))
	return [16]byte(sum[:16])
}

// bytesOf views floats as memory. It is used for fingerprints that machines of
// one run compare with each other, never for what is stored.
func bytesOf(x []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x))
}

// mirror is the host's view of a flat device buffer: the buffer itself where the
// host addresses it, else a copy that is moved on demand.
type mirror struct {
	host []float32
	be   tensor.Backend
	buf  tensor.Buffer
	same bool
}

func newMirror(be tensor.Backend, b tensor.Buffer) mirror {
	if h, ok := b.(tensor.Host); ok {
		return mirror{host: h.Float32s(), be: be, buf: b, same: true}
	}
	return mirror{host: make([]float32, b.Len()), be: be, buf: b}
}

// pull brings the device's values to the host.
func (m *mirror) pull() error {
	if m.same {
		return nil
	}
	if err := m.be.Download(m.host, m.buf); err != nil {
		return fmt.Errorf("trainer: read from %s: %w", m.be.Name(), err)
	}
	return nil
}

// push brings the host's values to the device.
func (m *mirror) push() {
	if !m.same {
		m.be.Upload(m.buf, m.host)
	}
}
