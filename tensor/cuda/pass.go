//go:build cuda

package cuda

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/internal/cuda/driver"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/tensor"
)

// The blocks of the update kernels (kernels/pass.cu).
const (
	normThreads    = 64
	normLanes      = optim.Lanes
	verdictThreads = 256
	updateThreads  = 256
	updateParts    = 4
)

// verdictBytes is the kernels' Verdict: norm, clip, the clip rounded to float32,
// whether all was finite, AGR's coefficient, and the three squares of a movement.
// settingsBytes is their Settings.
const (
	verdictBytes  = 56
	settingsBytes = 64
)

var _ agr.Pass = (*Pass)(nil)

// Pass is agr.Pass on the device, with the bits of package agr's on the host: norms,
// verdict, and in one launch clip, AGR, optimizer and moving average. The kernels read the verdict where
// the one before wrote it, and what changes from one update to the next (learning
// rate, bias corrections, decay of the average) where the host left it: an update is
// recorded once, as two CUDA graphs, and replayed.
type Pass struct {
	be     *Backend
	c      optim.Config
	o      optim.Optimizer // of no elements, for its scalars
	rule   *rule
	update *kernel
	move   *kernel // measures what update would do
	mode   int     // of AGR, see passVerdict
	keep   bool

	size             int
	segments, blocks int
	slots            [4]*buffer // in the kernel's order, nil where there is none

	table, firstBlock, lengths cu.DevicePtr // of the segments
	l1, sq, den                cu.DevicePtr // by block, by block, by segment
	verdict                    cu.DevicePtr
	moved                      cu.DevicePtr // sums of move by block of threads; 0: none was asked for yet
	settings                   cu.DevicePtr
	pinned                     unsafe.Pointer // the host's settings, and its copy of the verdict
	closers                    []func() error

	measured       *operands // of the last Measure; nil after Apply
	measure, apply recorded
	measureMove    recorded // Measure, with the movement
}

// How AGR's denominator comes about, as kernels/pass.cu counts.
const (
	agrOff = iota
	agrTensor
	agrGroup
)

// NewPass builds the pass for the optimizer that c names, with AGR as in the
// paper where agrOn is set, over flatLen elements made of segments (nil: one
// tensor). Errors come from optim.Config.Validate, optim.CheckSegments or the
// device.
func NewPass(be *Backend, c optim.Config, agrOn bool, segments []optim.Segment, flatLen int) (*Pass, error) {
	if agrOn {
		return NewPassWith(be, c, &agr.Config{}, segments, flatLen)
	}
	return NewPassWith(be, c, nil, segments, flatLen)
}

// ErrOrder is returned for agr.BeforeClip, which the kernels do not have.
var ErrOrder = errors.New("cuda: AGR before the clip is for the processor only")

// NewPassWith is NewPass with the variant of AGR; nil is none. ErrOrder is returned for
// an order that the device does not have.
func NewPassWith(be *Backend, c optim.Config, a *agr.Config, segments []optim.Segment, flatLen int) (*Pass, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if segments == nil {
		segments = optim.Whole(flatLen)
	}
	if err := optim.CheckSegments(segments, flatLen); err != nil {
		return nil, err
	}
	unclipped := c
	unclipped.MaxGradNorm = 0 // Adan's own clipping is the verdict's
	o, err := optim.New(unclipped, nil, 0, nil)
	if err != nil {
		return nil, err
	}
	p := &Pass{be: be, c: c, o: o, size: flatLen, segments: len(segments)}
	if a != nil {
		if err := a.Validate(); err != nil {
			return nil, err
		}
		if a.Order == agr.BeforeClip {
			return nil, ErrOrder
		}
		p.mode, p.keep = agrTensor, a.ScalarTensors == agr.ScalarKeep
		if a.Scope == agr.ScopeGroup {
			p.mode = agrGroup
		}
	}
	for i := range rules {
		if rules[i].name == c.Name {
			p.rule, p.update, p.move = &rules[i], &be.kernels.rules[i], &be.kernels.moves[i]
		}
	}
	if err := p.allocate(segments, a); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// allocate makes the state, zero, and the tables of the segments.
func (p *Pass) allocate(segments []optim.Segment, a *agr.Config) error {
	for i, name := range p.rule.slots(p.c) {
		if name == "" {
			continue
		}
		buf, err := p.be.Alloc(tensor.F32, p.size)
		if err != nil {
			return fmt.Errorf("cuda: optimizer state %s: %w", name, err)
		}
		p.slots[i] = buf.(*buffer)
		p.closers = append(p.closers, func() error { p.be.Free(buf); return nil })
	}
	blocks := optim.Blocks(segments)
	p.blocks = len(blocks)
	var table, first, lengths []byte
	for i, b := range blocks {
		for segment := len(first) / 4; segment <= b.Segment; segment++ {
			first = binary.LittleEndian.AppendUint32(first, uint32(i))
		}
		table = binary.LittleEndian.AppendUint64(table, uint64(b.Lo))
		table = binary.LittleEndian.AppendUint32(table, uint32(b.Segment))
		table = binary.LittleEndian.AppendUint32(table, uint32(b.Hi-b.Lo))
	}
	for len(first)/4 <= len(segments) {
		first = binary.LittleEndian.AppendUint32(first, uint32(len(blocks)))
	}
	for _, s := range segments {
		n := int32(s.Len)
		if a != nil && !a.Applies(s) {
			n = -1
		}
		lengths = binary.LittleEndian.AppendUint32(lengths, uint32(n))
	}
	for _, t := range []struct {
		to   *cu.DevicePtr
		host []byte
		size int
	}{
		{&p.table, table, len(table)},
		{&p.firstBlock, first, len(first)},
		{&p.lengths, lengths, len(lengths)},
		{&p.l1, nil, 8 * p.blocks},
		{&p.sq, nil, 8 * p.blocks},
		{&p.den, nil, 4 * len(segments)},
		{&p.verdict, nil, verdictBytes},
		{&p.settings, nil, settingsBytes},
	} {
		if err := p.room(t.to, t.host, t.size); err != nil {
			return err
		}
	}
	return p.pin()
}

// room allocates device memory with the content of host.
func (p *Pass) room(to *cu.DevicePtr, host []byte, size int) error {
	p.be.enter()
	defer p.be.leave()
	ptr, err := p.be.allocate(int64(max(size, 1)))
	if err != nil {
		return fmt.Errorf("cuda: update pass: %w", err)
	}
	*to = ptr
	p.closers = append(p.closers, func() error { return cu.MemFree(ptr) })
	if len(host) > 0 {
		p.be.copyIn(ptr, unsafe.Pointer(&host[0]), int64(len(host)))
	}
	return nil
}

// pin allocates the host's side of settings and verdict.
func (p *Pass) pin() error {
	p.be.enter()
	defer p.be.leave()
	ptr, err := driver.HostAlloc(settingsBytes + verdictBytes)
	if err != nil {
		return fmt.Errorf("cuda: update pass: %w", err)
	}
	p.pinned = ptr
	p.closers = append(p.closers, func() error { return driver.HostFree(ptr) })
	return nil
}

// Name is the optimizer's name, "adan(agr)" with AGR.
func (p *Pass) Name() string {
	if p.mode == agrOff {
		return p.c.Name
	}
	return p.c.Name + "(agr)"
}

// Slots lists the optimizer's state in package optim's order.
func (p *Pass) Slots() []optim.Slot {
	var all []optim.Slot
	for i, name := range p.rule.slots(p.c) {
		if name != "" {
			all = append(all, optim.Slot{Name: name, Data: p.slots[i]})
		}
	}
	return all
}

// Close gives the state's memory back. The pass must not be used again.
func (p *Pass) Close() error {
	if len(p.closers) == 0 {
		return nil
	}
	err := p.be.Sync()
	p.be.enter()
	defer p.be.leave()
	errs := []error{err}
	for _, f := range slices.Backward(p.closers) {
		errs = append(errs, f())
	}
	p.closers = nil
	return errors.Join(errs...)
}
