//go:build cuda

package cuda_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cuda"
)

// passSegments has tensors of several blocks, of odd lengths and places, of one
// element and of none, of zeros, and padding between.
func passSegments() ([]optim.Segment, int) {
	const b = optim.BlockSize
	return []optim.Segment{
		{Name: "conv", Off: 0, Len: b + 321},
		{Name: "bias", Off: b + 336, Len: 3, Vector: true},
		{Name: "scalar", Off: b + 352, Len: 1, Vector: true},
		{Name: "empty", Off: b + 368, Len: 0},
		{Name: "zero", Off: b + 368, Len: 40},
		{Name: "odd", Off: b + 411, Len: 1039, Vector: true},
		{Name: "linear", Off: b + 1456, Len: 600},
	}, b + 2064
}

// passGradient is that of update t; every third one is too small to be clipped.
func passGradient(n int, t int64) []float32 {
	g := normal(int(t), n)
	for i := range g {
		switch {
		case i >= optim.BlockSize+368 && i < optim.BlockSize+408:
			g[i] = 0
		case t%3 == 0:
			g[i] *= 1e-6
		}
	}
	return g
}

// passConfigs are all optimizers with their options.
func passConfigs(t *testing.T) map[string]optim.Config {
	t.Helper()
	all := map[string]optim.Config{}
	with := func(label, name string, change func(c *optim.Config)) {
		c, err := optim.DefaultConfig(name)
		require.NoError(t, err)
		change(&c)
		all[label] = c
	}
	for _, name := range optim.Names() {
		with(name, name, func(*optim.Config) {})
	}
	with("adan prox", "adan", func(c *optim.Config) { c.WeightDecay = 0.1 })
	with("adan no_prox", "adan", func(c *optim.Config) { c.WeightDecay, c.NoProx = 0.1, true })
	with("adan own clipping", "adan", func(c *optim.Config) { c.MaxGradNorm = 0.5 })
	with("adam decay", "adam", func(c *optim.Config) { c.WeightDecay = 0.1 })
	with("rmsprop centered", "rmsprop", func(c *optim.Config) { c.Centered, c.WeightDecay = true, 0.1 })
	with("rmsprop momentum", "rmsprop", func(c *optim.Config) { c.Momentum = 0.8 })
	with("acprop plain", "acprop", func(c *optim.Config) { c.Rectify, c.WeightDecay = false, 0.1 })
	with("acprop quick", "acprop", func(c *optim.Config) { c.Beta2 = 0.9 })
	with("sgd", "sgdm", func(c *optim.Config) { c.Momentum, c.WeightDecay = 0, 0.1 })
	with("sgdm dampening", "sgdm", func(c *optim.Config) { c.Dampening = 0.3 })
	with("sgdm nesterov", "sgdm", func(c *optim.Config) { c.Nesterov = true })
	with("lion decay", "lion", func(c *optim.Config) { c.WeightDecay = 0.1 })
	return all
}

// twins are a pass on the host and one on the device with the same content.
type twins struct {
	host             agr.Pass
	device           *cuda.Pass
	be               *cuda.Backend
	w, avg           []float32
	params, ema, mem tensor.Buffer
}

func newTwins(t *testing.T, be *cuda.Backend, c optim.Config, a *agr.Config, segments []optim.Segment, n int) *twins {
	t.Helper()
	host, err := agr.NewPassWith(c, a, segments, n, nil)
	require.NoError(t, err)
	device, err := cuda.NewPassWith(be, c, a, segments, n)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, device.Close()) })
	require.Equal(t, host.Name(), device.Name())
	w := normal(1000, n)
	return &twins{
		host: host, device: device, be: be, w: w, avg: append([]float32(nil), w...),
		params: alloc(t, be, tensor.F32, w), ema: alloc(t, be, tensor.F32, w), mem: alloc(t, be, tensor.F32, w),
	}
}

// update runs both; the moving average is off where decay is negative.
func (p *twins) update(t *testing.T, grad []float32, step int64, maxNorm, decay float64) {
	t.Helper()
	on := optim.Update{
		Params: tensor.Floats(p.w), Grads: tensor.Floats(append([]float32(nil), grad...)), EMA: tensor.Floats(p.avg),
		LR: 0.01 * float64(step) / 4, T: step, MaxGradNorm: maxNorm, EMADecay: decay,
	}
	off := on
	off.Params, off.Grads, off.EMA = p.params, p.mem, p.ema
	if decay < 0 {
		on.EMA, off.EMA = nil, nil
	}
	if step%2 == 0 {
		on.Movement, off.Movement = &optim.Movement{}, &optim.Movement{}
	}
	want, err := agr.Update(p.host, on)
	require.NoError(t, err)
	p.be.Upload(p.mem, grad)
	got, err := agr.Update(p.device, off)
	require.NoError(t, err)
	if math.IsNaN(want.GradNorm) {
		require.True(t, math.IsNaN(got.GradNorm))
		want.GradNorm, got.GradNorm = 0, 0
	}
	require.Equal(t, want, got)
	if on.Movement == nil {
		return
	}
	w, g := *on.Movement, *off.Movement
	for _, x := range [][2]float64{{w.Update, g.Update}, {w.Params, g.Params}, {w.EMA, g.EMA}} {
		require.InDelta(t, x[0], x[1], 1e-12*math.Abs(x[0]), "movement")
	}
	require.Equal(t, want.Finite, w != optim.Movement{})
}

// compare requires the same bits of everything that the passes write.
func (p *twins) compare(t *testing.T, label string) {
	t.Helper()
	require.Equal(t, bits(p.w), bits(download(t, p.be, p.params)), "%s: parameters", label)
	require.Equal(t, bits(p.avg), bits(download(t, p.be, p.ema)), "%s: averages", label)
	slots := p.device.Slots()
	require.Len(t, slots, len(p.host.Slots()))
	for i, s := range p.host.Slots() {
		require.Equal(t, s.Name, slots[i].Name)
		require.Equal(t, bits(s.Float32s()), bits(download(t, p.be, slots[i].Data)), "%s: %s", label, s.Name)
	}
}

func bits(v []float32) []uint32 {
	u := make([]uint32, len(v))
	for i, x := range v {
		u[i] = math.Float32bits(x)
	}
	return u
}

// Every optimizer, with AGR and without, has on the device the bits that it has
// on the host, padding included.
func TestPassHasTheHostsBits(t *testing.T) {
	be := open(t)
	segments, n := passSegments()
	for label, c := range passConfigs(t) {
		for _, a := range []*agr.Config{nil, {}, {Scope: agr.ScopeGroup, ScalarTensors: agr.ScalarKeep},
			{Tensors: agr.TensorsVectors}, {Tensors: agr.TensorsWeights, Scope: agr.ScopeGroup}} {
			if a != nil && a.Scope != "" && c.Name != "adan" || race && a == nil {
				continue
			}
			t.Run(fmt.Sprintf("%s/%+v", label, a), func(t *testing.T) {
				p := newTwins(t, be, c, a, segments, n)
				for step := int64(1); step <= 7; step++ {
					p.update(t, passGradient(n, step), step, float64(step%2), []float64{0, 0.99, -1}[step%3])
					if step == 1 || step == 7 {
						p.compare(t, fmt.Sprintf("update %d", step))
					}
				}
			})
		}
	}
}

// A gradient that is not finite leaves everything as it was, and the next one is
// applied as if nothing had been.
func TestPassLeavesBadGradientsAlone(t *testing.T) {
	be := open(t)
	segments, n := passSegments()
	for label, c := range passConfigs(t) {
		t.Run(label, func(t *testing.T) {
			p := newTwins(t, be, c, &agr.Config{}, segments, n)
			p.update(t, passGradient(n, 1), 1, 1, 0.9)
			for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
				g := passGradient(n, 2)
				g[optim.BlockSize+337] = float32(bad)
				p.update(t, g, 2, 1, 0.9)
				p.compare(t, fmt.Sprint(bad))
			}
			p.update(t, passGradient(n, 2), 2, 1, 0.9)
			p.compare(t, "after")
		})
	}
}

// Buffers that do not start on a vector give the same.
func TestPassOnViews(t *testing.T) {
	be := open(t)
	c, err := optim.DefaultConfig("adan")
	require.NoError(t, err)
	const n = 333
	p := newTwins(t, be, c, &agr.Config{}, nil, n)
	for _, b := range []*tensor.Buffer{&p.params, &p.ema, &p.mem} {
		whole := alloc(t, be, tensor.F32, normal(1000, n+2))
		*b = be.Slice(whole, 1, n)
		be.Upload(*b, p.w)
	}
	p.update(t, passGradient(n, 1), 1, 1, 0.9)
	p.compare(t, "views")
}

func TestPassErrors(t *testing.T) {
	be := open(t)
	c, err := optim.DefaultConfig("adan")
	require.NoError(t, err)
	_, err = cuda.NewPass(be, c, true, []optim.Segment{{Name: "a", Len: 9}}, 8)
	require.ErrorIs(t, err, optim.ErrSegments)
	_, err = cuda.NewPass(be, optim.Config{Name: "none"}, true, nil, 8)
	require.ErrorIs(t, err, optim.ErrConfig)
	_, err = cuda.NewPassWith(be, c, &agr.Config{Scope: "all"}, nil, 8)
	require.ErrorIs(t, err, agr.ErrConfig)
	_, err = cuda.NewPassWith(be, c, &agr.Config{Order: agr.BeforeClip}, nil, 8)
	require.ErrorIs(t, err, cuda.ErrOrder)
	_, total, err := be.MemInfo()
	require.NoError(t, err)
	_, err = cuda.NewPass(be, c, true, nil, int(total/4)+1)
	require.ErrorIs(t, err, cuda.ErrMemory)

	p, err := cuda.NewPass(be, c, false, nil, 8)
	require.NoError(t, err)
	require.Equal(t, "adan", p.Name())
	x := alloc(t, be, tensor.F32, make([]float32, 8))
	short := be.Slice(x, 0, 7)
	require.Panics(t, func() { _, _ = p.Measure(optim.Update{Params: short, Grads: x, LR: 1, T: 1}) })
	require.Panics(t, func() { _, _ = p.Measure(optim.Update{Params: x, Grads: short, LR: 1, T: 1}) })
	require.Panics(t, func() { _, _ = p.Measure(optim.Update{Params: x, Grads: x, EMA: short, LR: 1, T: 1}) })
	require.Panics(t, func() { _, _ = p.Measure(optim.Update{Params: x, Grads: x, LR: 1}) })
	require.NoError(t, p.Close())
	require.NoError(t, p.Close())
}

// mix is the digest's word at a place, written down a second time.
func mix(place uint64, word uint32) uint64 {
	z := (place+1)*0x9E3779B97F4A7C15 + uint64(word)
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

func TestDigest(t *testing.T) {
	be := open(t)
	for _, n := range []int{0, 1, 7, 16384, 50_001} {
		v := normal(3, n)
		var want uint64
		for i, x := range v {
			want += mix(uint64(i), math.Float32bits(x))
		}
		got, err := be.Digest(alloc(t, be, tensor.F32, v))
		require.NoError(t, err)
		require.Equal(t, want, got)
		if n < 7 {
			continue
		}
		swapped := append([]float32(nil), v...)
		swapped[1], swapped[2] = swapped[2], swapped[1]
		other, err := be.Digest(alloc(t, be, tensor.F32, swapped))
		require.NoError(t, err)
		require.NotEqual(t, want, other, "two elements changed places")
		v[n-1] = math.Float32frombits(math.Float32bits(v[n-1]) ^ 1)
		other, err = be.Digest(alloc(t, be, tensor.F32, v))
		require.NoError(t, err)
		require.NotEqual(t, want, other, "one bit changed")
	}
}
