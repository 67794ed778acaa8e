//go:build cuda

package cuda

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
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
// and whether all was finite.
const verdictBytes = 24

// Slot is one named vector of optimizer state on the device, laid out like the
// parameters.
type Slot struct {
	Name string
	Data tensor.Buffer
}

// Pass is everything between a complete gradient and the next forward, on the
// device and with the bits of package agr's: norms, verdict, and in one launch
// clip, AGR, optimizer and moving average. The kernels read the verdict where
// the one before wrote it: the host waits for nothing but the Stats.
type Pass struct {
	be     *Backend
	c      optim.Config
	o      optim.Optimizer // of no elements, for its scalars
	rule   *rule
	update *kernel
	mode   int // of AGR, see passVerdict
	keep   bool

	size             int
	segments, blocks int
	slots            [4]*buffer // in the kernel's order, nil where there is none

	table, firstBlock, lengths cu.DevicePtr // of the segments
	l1, sq, den                cu.DevicePtr // by block, by block, by segment
	none                       cu.DevicePtr // infinite denominators
	verdict                    cu.DevicePtr // two: the clip, Adan's own clip
	pinned                     unsafe.Pointer
	closers                    []func() error
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

// NewPassWith is NewPass with the variant of AGR; nil is none.
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
	unclipped.MaxGradNorm = 0 // Adan's own clipping is Update's
	o, err := optim.New(unclipped, nil, 0, nil)
	if err != nil {
		return nil, err
	}
	p := &Pass{be: be, c: c, o: o, size: flatLen, segments: len(segments)}
	if a != nil {
		if err := a.Validate(); err != nil {
			return nil, err
		}
		p.mode, p.keep = agrTensor, a.ScalarTensors == agr.ScalarKeep
		if a.Scope == agr.ScopeGroup {
			p.mode = agrGroup
		}
	}
	for i := range rules {
		if rules[i].name == c.Name {
			p.rule, p.update = &rules[i], &be.kernels.rules[i]
		}
	}
	if err := p.allocate(segments); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// allocate makes the state, zero, and the tables of the segments.
func (p *Pass) allocate(segments []optim.Segment) error {
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
		lengths = binary.LittleEndian.AppendUint32(lengths, uint32(s.Len))
	}
	none := make([]byte, 0, 4*len(segments))
	for range segments {
		none = binary.LittleEndian.AppendUint32(none, math.Float32bits(float32(math.Inf(1))))
	}
	for _, t := range []struct {
		to   *cu.DevicePtr
		host []byte
		size int
	}{
		{&p.table, table, len(table)},
		{&p.firstBlock, first, len(first)},
		{&p.lengths, lengths, len(lengths)},
		{&p.none, none, len(none)},
		{&p.l1, nil, 8 * p.blocks},
		{&p.sq, nil, 8 * p.blocks},
		{&p.den, nil, 4 * len(segments)},
		{&p.verdict, nil, 2 * verdictBytes},
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

// pin allocates the host's copy of the verdict.
func (p *Pass) pin() error {
	p.be.enter()
	defer p.be.leave()
	ptr, err := driver.HostAlloc(verdictBytes)
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
func (p *Pass) Slots() []Slot {
	var all []Slot
	for i, name := range p.rule.slots(p.c) {
		if name != "" {
			all = append(all, Slot{name, p.slots[i]})
		}
	}
	return all
}

// Update applies update number t, counted from 1, with learning rate lr: the
// gradient is clipped to maxGradNorm (0 is off), and ema, which may be nil, moves
// towards the parameters by optim.EMA. A gradient with NaN or infinity leaves
// everything as it was, and Stats.Finite says so. The contents of grads
// afterwards are undefined. The error is the device's.
func (p *Pass) Update(params, grads, ema tensor.Buffer, lr float64, t int64, maxGradNorm, emaDecay float64) (optim.Stats, error) {
	w, g := p.vector("parameters", params), p.vector("gradients", grads)
	var avg cu.DevicePtr
	average, rate := averageNone, float32(0)
	if ema != nil {
		avg = p.vector("averages", ema)
		average = averageCopy
		if emaDecay != 0 {
			average, rate = averageBlend, float32(1-emaDecay)
		}
	}
	if t < 1 {
		panic(fmt.Sprintf("cuda: update number %d, they count from 1", t))
	}
	p.measure(g, p.den, p.verdict, p.mode, maxGradNorm, 1e-6)
	den, verdict := p.den, p.verdict
	if p.c.MaxGradNorm > 0 {
		// Adan's own clipping measures what AGR left.
		p.apply(&p.be.kernels.passRegularize, w, g, avg, den, verdict, averageNone, 0, [maxScalars]float32{})
		den, verdict = p.none, p.verdict+verdictBytes
		p.measure(g, p.den, verdict, agrOff, p.c.MaxGradNorm, p.c.Eps)
	}
	p.apply(p.update, w, g, avg, den, verdict, average, rate, scalars(p.o, lr, t))
	return p.stats()
}

// What happens to the average, as kernels/pass.cu counts.
const (
	averageNone = iota
	averageCopy
	averageBlend
)

func (p *Pass) vector(what string, b tensor.Buffer) cu.DevicePtr {
	m := p.be.own("Update", b)
	if m.dtype != tensor.F32 || m.n != p.size {
		panic(fmt.Sprintf("cuda: %d %s of %v, want %d of F32", m.n, what, m.dtype, p.size))
	}
	return m.ptr
}

// measure writes the verdict on a gradient and the denominators.
func (p *Pass) measure(g, den, verdict cu.DevicePtr, mode int, maxNorm, eps float64) {
	k := &p.be.kernels
	p.be.launch(&k.passNorms, grid{ceil(p.blocks, normThreads/normLanes), 1}, normThreads,
		at(p.l1), at(p.sq), at(g), at(p.table), intArg(p.blocks))
	p.be.launch(&k.passVerdict, grid{1, 1}, verdictThreads, at(verdict), at(den), at(p.l1), at(p.sq),
		at(p.firstBlock), at(p.lengths), intArg(p.segments), intArg(p.blocks), intArg(mode), boolArg(p.keep),
		f64arg(maxNorm), f64arg(eps))
}

// apply runs an update kernel over all blocks.
func (p *Pass) apply(k *kernel, w, g, ema, den, verdict cu.DevicePtr, average int, rate float32, scalars [maxScalars]float32) {
	args := [maxArguments]uint64{at(w), at(g), at(ema)}
	n := 3
	add := func(v uint64) { args[n] = v; n++ }
	for _, s := range p.slots {
		if s == nil {
			add(0)
			continue
		}
		add(at(s.ptr))
	}
	add(at(p.table))
	add(at(den))
	add(at(verdict))
	add(intArg(average))
	add(f32arg(rate))
	for _, v := range scalars {
		add(f32arg(v))
	}
	p.be.launch(k, grid{p.blocks * updateParts, 1}, updateThreads, args[:n]...)
}

// stats waits for the update and returns what it saw.
func (p *Pass) stats() (optim.Stats, error) {
	b := p.be
	b.enter()
	defer b.leave()
	b.check("read the verdict", cu.MemcpyDtoHAsync(p.pinned, p.verdict, verdictBytes, b.stream))
	b.check("update", b.stream.Synchronize())
	if b.failed != nil {
		return optim.Stats{GradNorm: math.NaN()}, b.failed
	}
	raw := unsafe.Slice((*byte)(p.pinned), verdictBytes)
	f64 := func(at int) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(raw[at:])) }
	return optim.Stats{GradNorm: f64(0), Clip: f64(8), Finite: binary.LittleEndian.Uint32(raw[20:]) != 0}, nil
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
