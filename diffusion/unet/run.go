package unet

import (
	"errors"
	"fmt"
	"slices"

	"github.com/agrdist/agrdist/autograd"
	"github.com/agrdist/agrdist/tensor"
)

// mode is what a program is recorded for.
type mode struct {
	n        int
	grads    bool
	dropout  bool
	weighted bool
}

// program is a recorded batch size.
type program struct {
	mode
	*autograd.Program
	x, target, ts, draws *autograd.Value
	classes, roots       *autograd.Value
	pred, loss           *autograd.Value
	losses               []float32
}

// maxPrograms bounds how many batch sizes are kept recorded; the one unused for
// longest is dropped.
const maxPrograms = 8

// runner keeps the programs, last used first, and their memory.
type runner struct {
	model    *Model
	arena    *autograd.Arena
	programs []*program
	in       staging
	storeAll bool // what the backward pass could compute again is kept
}

func (r *runner) init(m *Model) {
	r.model, r.arena = m, autograd.NewArena(m.be)
}

// program returns the recorded program, recording it at its first use.
func (r *runner) program(want mode) (*program, error) {
	i := slices.IndexFunc(r.programs, func(p *program) bool { return p.mode == want })
	if i < 0 {
		p, err := r.record(want)
		if err != nil {
			return nil, err
		}
		if len(r.programs) >= maxPrograms {
			r.programs = r.programs[:maxPrograms-1]
		}
		r.programs = append(r.programs, p)
		i = len(r.programs) - 1
	}
	p := r.programs[i]
	copy(r.programs[1:i+1], r.programs[:i])
	r.programs[0] = p
	return p, nil
}

func (r *runner) record(want mode) (*program, error) {
	m := r.model
	t := autograd.NewTape(m.be, autograd.Config{Train: want.grads, StoreAll: r.storeAll})
	p := &program{
		mode:   want,
		x:      t.Input(tensor.F32, m.shape(want.n, m.config.InChannels)),
		ts:     t.Input(tensor.I64, tensor.Of(want.n)),
		losses: make([]float32, want.n),
	}
	if want.dropout {
		p.draws = t.Input(tensor.I64, tensor.Of(want.n))
	}
	if k := m.config.NumClassEmbeds; k > 0 {
		p.classes = t.Input(tensor.F32, tensor.Of(want.n, k))
	}
	p.pred = t.Float(m.net.forward(t, p.x, p.ts, p.draws, p.classes))
	if want.weighted {
		p.roots = t.Input(tensor.F32, tensor.Of(want.n))
		p.pred = t.ScaleSamples(p.pred, p.roots)
	}
	if want.grads {
		p.target = t.Input(tensor.F32, m.shape(want.n, m.config.OutChannels))
		p.loss = t.MSE(p.pred, p.target)
		t.Keep(p.loss)
	} else {
		t.Keep(p.pred)
	}
	var err error
	p.Program, err = t.Compile(r.arena)
	switch {
	case err == nil:
		return p, nil
	case r.storeAll: // less is enough
		m.KeepActivations(false)
		return r.record(want)
	}
	return nil, fmt.Errorf("unet: batch of %d: %w", want.n, err)
}

// KeepActivations says whether the backward pass keeps results of normalisation, SiLU,
// dropout, concatenation and enlargement (true), or computes them again from their
// operands (false, as in a new model). It changes no bit of any result: keeping saves
// memory traffic, on GPUs a tenth of a step's, and takes 1.7 times the memory for
// activations. Where the device then has no room, they are computed again.
func (m *Model) KeepActivations(keep bool) {
	if m.runner.storeAll != keep {
		m.runner.storeAll, m.runner.programs = keep, nil
		m.runner.arena.Free()
	}
}

// KeepsActivations says what KeepActivations has set, or false where there was no room.
func (m *Model) KeepsActivations() bool { return m.runner.storeAll }

func (m *Model) shape(n, channels int) tensor.Shape {
	return tensor.Of(n, m.config.SampleSize, m.config.SampleSize, channels)
}

// LossAndGrad runs forward and backward on a batch. lossSum is the sum of squared
// errors, added in sample order, unless b.Losses takes them. The gradient of GradScale times it overwrites
// Params().Grads(). ready, which may be nil, is called with the index in
// Params().List() of each parameter once the operations that write its gradient
// have been called, in the order of ReadyOrder. Errors wrap ErrBatch or come from
// the device.
func (m *Model) LossAndGrad(b Batch, ready func(i int)) (lossSum float64, err error) {
	want := mode{grads: true, dropout: b.Train && m.config.Dropout > 0, weighted: b.Roots.Present()}
	if b.XT.Shape.Rank() > 0 {
		want.n = b.XT.Shape.Dim(0)
	}
	if err := m.check(b, want); err != nil {
		return 0, err
	}
	p, err := m.runner.program(want)
	if err != nil {
		return 0, err
	}
	p.Bind(p.x, b.XT)
	p.Bind(p.target, b.Target)
	p.Bind(p.ts, b.T)
	if want.dropout {
		p.Bind(p.draws, b.Draws)
	}
	if p.classes != nil {
		p.Bind(p.classes, b.Classes)
	}
	if want.weighted {
		p.Bind(p.roots, b.Roots)
	}
	if err := p.Replay(autograd.Step{Seed: b.Seed, GradScale: b.GradScale, Ready: ready}); err != nil {
		return 0, fmt.Errorf("unet: %w", err)
	}
	if b.Losses.Present() {
		m.be.Copy(b.Losses, p.loss.Tensor())
		return 0, nil
	}
	if err := m.be.Download(p.losses, p.loss.Tensor().Buf); err != nil {
		return 0, fmt.Errorf("unet: loss: %w", err)
	}
	for _, l := range p.losses {
		lossSum += float64(l)
	}
	return lossSum, nil
}

func (m *Model) check(b Batch, want mode) error {
	operand := func(name string, t tensor.Tensor, dt tensor.DType, s tensor.Shape) error {
		switch {
		case !t.Present():
			return fmt.Errorf("%w: no %s", ErrBatch, name)
		case t.Shape != s || t.Buf.DType() != dt:
			return fmt.Errorf("%w: %s is %v %v, want %v %v", ErrBatch, name, t.Buf.DType(), t.Shape, dt, s)
		}
		return nil
	}
	if want.n < 1 {
		return fmt.Errorf("%w: no samples", ErrBatch)
	}
	err := errors.Join(
		operand("XT", b.XT, tensor.F32, m.shape(want.n, m.config.InChannels)),
		operand("Target", b.Target, tensor.F32, m.shape(want.n, m.config.OutChannels)),
		operand("T", b.T, tensor.I64, tensor.Of(want.n)),
	)
	if b.Losses.Present() {
		err = errors.Join(err, operand("Losses", b.Losses, tensor.F32, tensor.Of(want.n)))
	}
	if want.dropout {
		err = errors.Join(err, operand("Draws", b.Draws, tensor.I64, tensor.Of(want.n)))
	}
	if k := m.config.NumClassEmbeds; k > 0 {
		err = errors.Join(err, operand("Classes", b.Classes, tensor.F32, tensor.Of(want.n, k)))
	}
	if want.weighted {
		err = errors.Join(err, operand("Roots", b.Roots, tensor.F32, tensor.Of(want.n)))
	}
	return err
}

// ReadyOrder lists the parameter indices in the order in which LossAndGrad calls
// ready: the exact reverse of Params().List(), so that the flat gradient buffer
// fills from its end to its start.
func (m *Model) ReadyOrder() []int {
	order := make([]int, len(m.params.List()))
	for i := range order {
		order[i] = len(order) - 1 - i
	}
	return order
}

// ArenaLen is the number of 4-byte words of device memory that hold intermediate
// values: the largest need of the batches run so far.
func (m *Model) ArenaLen() int { return m.runner.arena.Len() }

// Close frees the model's memory on the device. The model must not be used again.
func (m *Model) Close() {
	m.runner.arena.Free()
	m.runner.in.free(m.be)
	m.params.Free(m.be)
}
