package agr_test

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/tensor"
)

// goroutines is a Runner that starts f in descending order, at most n at once.
type goroutines int

func (g goroutines) Threads() int { return int(g) }

func (g goroutines) Run(n int, f func(i int)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, int(g))
	for i := n - 1; i >= 0; i-- {
		slots <- struct{}{}
		wg.Go(func() { f(i); <-slots })
	}
	wg.Wait()
}

// Elements whose gradient is always zero.
const zeroLo, zeroHi = optim.BlockSize + 368, optim.BlockSize + 408

// layout has tensors of several blocks, of odd lengths, of one element and of
// none, and padding.
func layout() ([]optim.Segment, int) {
	segments := []optim.Segment{
		{Name: "conv", Off: 0, Len: optim.BlockSize + 321},
		{Name: "bias", Off: optim.BlockSize + 336, Len: 3},
		{Name: "scalar", Off: optim.BlockSize + 352, Len: 1},
		{Name: "empty", Off: optim.BlockSize + 368, Len: 0},
		{Name: "zero", Off: zeroLo, Len: zeroHi - zeroLo},
		{Name: "linear", Off: optim.BlockSize + 416, Len: 1039},
	}
	return segments, optim.BlockSize + 1456
}

// gradient is that of update t. Every third one is small, so that nothing is
// clipped. Each is made once: the tests run through them many times.
func gradient(n int, t int64) []float32 {
	key := [2]int64{int64(n), t}
	if gradients[key] == nil {
		g := random(rand.New(rand.NewPCG(uint64(t), 77)), n)
		if n > zeroHi {
			clear(g[zeroLo:zeroHi])
		}
		if t%3 == 0 {
			for i := range g {
				g[i] *= 1e-6
			}
		}
		gradients[key] = g
	}
	return append([]float32(nil), gradients[key]...)
}

var gradients = map[[2]int64][]float32{}

// state is all that a pass writes.
type state struct{ params, ema []float32 }

func newState(n int) state {
	w := gradient(n, 1000)
	return state{w, append([]float32(nil), w...)}
}

// bits returns everything that p and s hold.
func bits(p agr.Pass, s state) map[string][]uint32 {
	all := map[string][]uint32{}
	for _, slot := range append(p.Slots(), optim.Slot{Name: "params", Data: tensor.Floats(s.params)}, optim.Slot{Name: "ema", Data: tensor.Floats(s.ema)}) {
		b := make([]uint32, slot.Data.Len())
		for i, v := range slot.Float32s() {
			b[i] = math.Float32bits(v)
		}
		all[slot.Name] = b
	}
	return all
}

// apply is both halves of an update.
func apply(p agr.Pass, u optim.Update) optim.Stats {
	stats, err := agr.Update(p, u)
	if err != nil {
		panic(err) // the host has no errors
	}
	return stats
}

// job is a run of a pass.
type job struct {
	decay, clip float64
	noEMA       bool
}

func (j job) update(s state, t int64) optim.Update {
	u := optim.Update{
		Params: tensor.Floats(s.params), EMA: tensor.Floats(s.ema), Grads: tensor.Floats(gradient(len(s.params), t)),
		LR: 0.01 * float64(min(t-1, 3)) / 3, T: t, MaxGradNorm: j.clip, EMADecay: j.decay,
	}
	if j.noEMA {
		u.EMA = nil
	}
	return u
}

func configs(t *testing.T) map[string]optim.Config {
	t.Helper()
	all := map[string]optim.Config{}
	for _, name := range optim.Names() {
		c, err := optim.DefaultConfig(name)
		require.NoError(t, err)
		all[name] = c
	}
	c := all["adan"]
	c.WeightDecay = 0.1
	all["adan prox"] = c
	c.NoProx = true
	all["adan no_prox"] = c
	c = all["adan"]
	c.MaxGradNorm = 0.5
	all["adan own clipping"] = c
	return all
}
