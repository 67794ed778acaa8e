package agr

import (
	"fmt"
	"slices"

	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/tensor"
)

// Track adds power-function averages of the parameters to a pass: see optim.Profiles. Each
// is one more slot of the optimizer's state, so that checkpoints, digests and copies to
// other ranks have it. flatLen is the pass's.
//
// A pass of this package moves them with each block of the parameters, while that is in
// the cache: 8 bytes of memory traffic a parameter and average. Any other pass, a device's,
// is followed by three elementwise operations of be: 32 bytes, with the gradient as scratch
// memory. Both hold 4 bytes a parameter and average.
func Track(p Pass, be tensor.Backend, profiles optim.Profiles, flatLen int) (Pass, error) {
	if len(profiles.Lengths) == 0 {
		return p, nil
	}
	if h, ok := p.(hosted); ok {
		t := &tracked{Pass: p, profiles: profiles, decays: make([]float64, len(profiles.Lengths))}
		for range profiles.Lengths {
			t.averages = append(t.averages, make([]float32, flatLen))
		}
		h.follow(t.block)
		return t, nil
	}
	t := &trackedOn{Pass: p, be: be, profiles: profiles, shape: tensor.Of(flatLen)}
	for range profiles.Lengths {
		b, err := be.Alloc(tensor.F32, flatLen)
		if err != nil {
			return nil, fmt.Errorf("agr: memory for an average: %w", err)
		}
		t.averages = append(t.averages, b)
		be.Fill(t.tensor(b), 0)
	}
	return t, nil
}

// hosted is a pass that calls after with every block of parameters that it has updated,
// from the goroutine that did it.
type hosted interface {
	follow(after func(params []float32, b optim.Block))
}

// tracked is a pass in host memory with averages.
type tracked struct {
	Pass
	profiles optim.Profiles
	averages [][]float32
	decays   []float64 // of the update that was measured
}

func (t *tracked) Slots() []optim.Slot {
	all := slices.Clip(t.Pass.Slots())
	for i, x := range t.averages {
		all = append(all, optim.Slot{Name: t.profiles.Slot(i), Data: tensor.Floats(x)})
	}
	return all
}

func (t *tracked) Measure(u optim.Update) (optim.Stats, error) {
	stats, err := t.Pass.Measure(u)
	for i := range t.decays {
		t.decays[i] = t.profiles.Decay(i, u.T)
	}
	return stats, err
}

func (t *tracked) block(params []float32, b optim.Block) {
	for i, x := range t.averages {
		optim.EMA(x[b.Lo:b.Hi], params[b.Lo:b.Hi], t.decays[i])
	}
}

// trackedOn is a pass on a device with averages.
type trackedOn struct {
	Pass
	be       tensor.Backend
	profiles optim.Profiles
	shape    tensor.Shape
	averages []tensor.Buffer
	u        optim.Update // measured, to be applied
	finite   bool
}

func (t *trackedOn) tensor(b tensor.Buffer) tensor.Tensor {
	return tensor.Tensor{Buf: b, Shape: t.shape}
}

func (t *trackedOn) Slots() []optim.Slot {
	all := slices.Clip(t.Pass.Slots())
	for i, b := range t.averages {
		all = append(all, optim.Slot{Name: t.profiles.Slot(i), Data: b})
	}
	return all
}

func (t *trackedOn) Measure(u optim.Update) (optim.Stats, error) {
	stats, err := t.Pass.Measure(u)
	t.u, t.finite = u, stats.Finite
	return stats, err
}

// Apply moves each average by rate (w - average), in this form so that it is at rest
// exactly where it equals w.
func (t *trackedOn) Apply() error {
	if err := t.Pass.Apply(); err != nil || !t.finite {
		return err
	}
	w, scratch := t.tensor(t.u.Params), t.tensor(t.u.Grads)
	for i, b := range t.averages {
		average := t.tensor(b)
		t.be.Copy(scratch, w)
		t.be.AddScaled(scratch, average, -1)
		t.be.AddScaled(average, scratch, float32(1-t.profiles.Decay(i, t.u.T)))
	}
	return nil
}
