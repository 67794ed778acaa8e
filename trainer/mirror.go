package trainer

import (
	"fmt"
	"slices"
	"unsafe"

	"github.com/agrdist/agrdist/tensor"
)

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

// replace overwrites the vector with another one, until restore.
func (m *mirror) replace(o *mirror) (restore func(), err error) {
	if m.same {
		raw := slices.Clone(m.host)
		copy(m.host, o.host)
		return func() { copy(m.host, raw) }, nil
	}
	if err := m.pull(); err != nil {
		return nil, err
	}
	m.be.Copy(tensor.Flat(m.buf), tensor.Flat(o.buf))
	return m.push, nil
}

// bytesOf views floats as memory. It is used for fingerprints that machines of
// one run compare with each other, never for what is stored.
func bytesOf(x []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x))
}
