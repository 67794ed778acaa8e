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
// pass's own memory. A movement comes with it: what Apply would do is computed without
// being written, which reads all of the state once more, and fills u.Movement here.
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
	graph, queue := &p.measure, p.queueMeasure
	if u.Movement != nil {
		if p.moved == 0 {
			if err := p.room(&p.moved, nil, 3*8*p.blocks*updateParts); err != nil {
				return optim.Stats{GradNorm: math.NaN()}, err
			}
		}
		graph, queue = &p.measureMove, p.queueMeasureMove
	}
	if err := p.play(graph, o, queue); err != nil {
		return optim.Stats{GradNorm: math.NaN()}, err
	}
	return p.stats(u.Movement)
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
func (p *Pass) queueMeasure(o operands) { p.queueVerdict(o, false) }

// queueMeasureMove also brings out the movement.
func (p *Pass) queueMeasureMove(o operands) { p.queueVerdict(o, true) }

func (p *Pass) queueVerdict(o operands, move bool) {
	b, k := p.be, &p.be.kernels
	b.enter()
	defer b.leave()
	b.check("copy the settings of an update", b.copyToDevice(p.settings, p.pinned, settingsBytes, b.stream))
	b.counts.called(what{updates.class, k.passNorms.name, true}, 0, 4*int64(p.size))
	b.launch(&k.passNorms, grid{ceil(p.blocks, normThreads/normLanes), 1}, normThreads,
		at(p.l1), at(p.sq), at(o.g), at(p.table), intArg(p.blocks))
	b.launch(&k.passVerdict, grid{1, 1}, verdictThreads, at(p.verdict), at(p.den), at(p.l1), at(p.sq),
		at(p.firstBlock), at(p.lengths), intArg(p.segments), intArg(p.blocks), intArg(p.mode), boolArg(p.keep),
		f64arg(o.maxNorm), f64arg(p.c.MaxGradNorm), f64arg(p.c.Eps))
	if move {
		b.counts.called(what{updates.class, p.move.name, true}, 0, p.traffic(o, false))
		b.launch(p.move, grid{p.blocks * updateParts, 1}, updateThreads, append(p.arguments(o), at(p.moved))...)
		b.launch(&k.passMoved, grid{1, 1}, updateThreads, at(p.verdict), at(p.moved), intArg(p.blocks*updateParts))
	}
	b.check("read the verdict", b.copyToHost(unsafe.Add(p.pinned, settingsBytes), p.verdict, verdictBytes))
}

// queueApply changes parameters, state and average, all blocks in one launch.
func (p *Pass) queueApply(o operands) {
	p.be.counts.called(what{updates.class, p.update.name, true}, 0, p.traffic(o, true))
	p.be.launch(p.update, grid{p.blocks * updateParts, 1}, updateThreads, p.arguments(o)...)
}

// arguments are those of the update's kernels.
func (p *Pass) arguments(o operands) []uint64 {
	args := []uint64{at(o.w), at(o.g), at(o.ema), 0, 0, 0, 0, at(p.table), at(p.den), at(p.verdict), at(p.settings), intArg(o.average)}
	for i, s := range p.slots {
		if s != nil {
			args[3+i] = at(s.ptr)
		}
	}
	return args
}

// traffic is what an update reads and writes: parameters, gradient, state and average,
// the gradient without writing it; or what measuring its movement reads.
func (p *Pass) traffic(o operands, writes bool) int64 {
	read, written := int64(2), int64(1)
	for _, s := range p.slots {
		if s != nil {
			read++
			written++
		}
	}
	if o.average == averageBlend {
		read++
	}
	if o.average != averageNone {
		written++
	}
	if !writes {
		written = 0
	}
	return 4 * (read + written) * int64(p.size)
}

// stats waits for the verdict and reads it; m, where not nil, takes the movement.
func (p *Pass) stats(m *optim.Movement) (optim.Stats, error) {
	if err := p.be.Sync(); err != nil {
		return optim.Stats{GradNorm: math.NaN()}, err
	}
	raw := unsafe.Slice((*byte)(unsafe.Add(p.pinned, settingsBytes)), verdictBytes)
	f64 := func(at int) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(raw[at:])) }
	s := optim.Stats{GradNorm: f64(0), Clip: f64(8), Finite: binary.LittleEndian.Uint32(raw[20:]) != 0, AGR: f64(24)}
	if m != nil && s.Finite {
		*m = optim.Movement{Update: math.Sqrt(f64(32)), Params: math.Sqrt(f64(40)), EMA: math.Sqrt(f64(48))}
	}
	return s, nil
}
