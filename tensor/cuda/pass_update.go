//go:build cuda

package cuda

import (
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"

	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/tensor"
)

// operands are what the kernels of an update are called with; while they stay, what
// was recorded is replayed.
type operands struct {
	w, g, ema cu.DevicePtr
	average   int
	maxNorm   float64
}

// recorded is a half of an update as a graph.
type recorded struct {
	of     operands
	replay func() error
}

// What happens to the average, as kernels/pass.cu counts.
const (
	averageNone = iota
	averageCopy
	averageBlend
)

// Measure implements agr.Pass. It waits for the norm of the gradient and what follows
// from it, the only time in an update that the host waits, and writes nothing but the
// pass's own memory.
func (p *Pass) Measure(u optim.Update) (optim.Stats, error) {
	o := operands{w: p.vector("parameters", u.Params), g: p.vector("gradients", u.Grads), maxNorm: u.MaxGradNorm}
	rate := float32(0)
	if u.EMA != nil {
		o.ema, o.average = p.vector("averages", u.EMA), averageCopy
		if u.EMADecay != 0 {
			o.average, rate = averageBlend, float32(1-u.EMADecay)
		}
	}
	if u.T < 1 {
		panic(fmt.Sprintf("cuda: update number %d, they count from 1", u.T))
	}
	// The last Measure has waited for the copy out of this memory.
	settings := unsafe.Slice((*float32)(p.pinned), settingsBytes/4)
	k := scalars(p.o, u.LR, u.T)
	copy(settings, k[:])
	settings[maxScalars] = rate
	p.measured = &o
	if err := p.play(&p.measure, o, p.queueMeasure); err != nil {
		return optim.Stats{GradNorm: math.NaN()}, err
	}
	return p.stats()
}

// Apply implements agr.Pass. It does not wait: a failure of the device shows where the
// host waits next.
func (p *Pass) Apply() error {
	if p.measured == nil {
		panic("cuda: Apply of an update that was not measured")
	}
	o := *p.measured
	p.measured = nil
	return p.play(&p.apply, o, p.queueApply)
}

func (p *Pass) vector(what string, b tensor.Buffer) cu.DevicePtr {
	m := p.be.own("Update", b)
	if m.dtype != tensor.F32 || m.n != p.size {
		panic(fmt.Sprintf("cuda: %d %s of %v, want %d of F32", m.n, what, m.dtype, p.size))
	}
	return m.ptr
}

// play queues a half of an update: the graph of these operands, recorded where there
// is none.
func (p *Pass) play(r *recorded, o operands, queue func(o operands)) error {
	if r.replay != nil && r.of == o {
		return r.replay()
	}
	*r = recorded{}
	// Recording runs it once, for real.
	replay, err := p.be.Record(func() error { queue(o); return nil })
	if err != nil {
		return fmt.Errorf("cuda: update: %w", err)
	}
	*r = recorded{of: o, replay: replay}
	return nil
}

// queueMeasure brings the settings in and the verdict on the gradient out.
func (p *Pass) queueMeasure(o operands) {
	b := p.be
	b.enter()
	defer b.leave()
	b.check("copy the settings of an update", cu.MemcpyHtoDAsync(p.settings, p.pinned, settingsBytes, b.stream))
	p.judge(o.g, p.verdict, p.mode, o.maxNorm, 1e-6)
	b.check("read the verdict", cu.MemcpyDtoHAsync(unsafe.Add(p.pinned, settingsBytes), p.verdict, verdictBytes, b.stream))
}

// queueApply changes parameters, state and average.
func (p *Pass) queueApply(o operands) {
	den, verdict := p.den, p.verdict
	if p.c.MaxGradNorm > 0 {
		// Adan's own clipping measures what AGR left.
		regularized := o
		regularized.average = averageNone
		p.launch(&p.be.kernels.passRegularize, regularized, den, verdict)
		den, verdict = p.none, p.verdict+verdictBytes
		p.judge(o.g, verdict, agrOff, p.c.MaxGradNorm, p.c.Eps)
	}
	p.launch(p.update, o, den, verdict)
}

// judge writes the verdict on a gradient and the denominators.
func (p *Pass) judge(g, verdict cu.DevicePtr, mode int, maxNorm, eps float64) {
	k := &p.be.kernels
	p.be.launch(&k.passNorms, grid{ceil(p.blocks, normThreads/normLanes), 1}, normThreads,
		at(p.l1), at(p.sq), at(g), at(p.table), intArg(p.blocks))
	p.be.launch(&k.passVerdict, grid{1, 1}, verdictThreads, at(verdict), at(p.den), at(p.l1), at(p.sq),
		at(p.firstBlock), at(p.lengths), intArg(p.segments), intArg(p.blocks), intArg(mode), boolArg(p.keep),
		f64arg(maxNorm), f64arg(eps))
}

// launch runs an update kernel over all blocks.
func (p *Pass) launch(k *kernel, o operands, den, verdict cu.DevicePtr) {
	args := []uint64{at(o.w), at(o.g), at(o.ema), 0, 0, 0, 0, at(p.table), at(den), at(verdict), at(p.settings), intArg(o.average)}
	for i, s := range p.slots {
		if s != nil {
			args[3+i] = at(s.ptr)
		}
	}
	p.be.launch(k, grid{p.blocks * updateParts, 1}, updateThreads, args...)
}

// stats waits for the verdict and reads it.
func (p *Pass) stats() (optim.Stats, error) {
	if err := p.be.Sync(); err != nil {
		return optim.Stats{GradNorm: math.NaN()}, err
	}
	raw := unsafe.Slice((*byte)(unsafe.Add(p.pinned, settingsBytes)), verdictBytes)
	f64 := func(at int) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(raw[at:])) }
	return optim.Stats{GradNorm: f64(0), Clip: f64(8), Finite: binary.LittleEndian.Uint32(raw[20:]) != 0}, nil
}
