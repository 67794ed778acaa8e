//go:build cuda

package cuda_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cuda"
)

// From its second time on an update is two graphs, between which the host waits once,
// whatever learning rate, number and decay are; Adan's own clipping, which measures
// twice, included.
func TestPassIsReplayed(t *testing.T) {
	be := open(t)
	segments, n := passSegments()
	for _, own := range []float64{0, 0.5} {
		c, err := optim.DefaultConfig("adan")
		require.NoError(t, err)
		c.MaxGradNorm = own
		p := newTwins(t, be, c, &agr.Config{}, segments, n)
		p.update(t, passGradient(n, 1), 1, 1, 0.9)
		require.NoError(t, be.Sync())
		for step := int64(2); step < 8; step++ {
			var moved *optim.Movement // the first time that it is asked for it is recorded
			if step%2 == 0 {
				moved = &optim.Movement{}
			}
			if step == 2 {
				p.update(t, passGradient(n, 2), 2, 1, 0.9)
				continue
			}
			be.Upload(p.mem, passGradient(n, step))
			require.NoError(t, be.Sync())
			calls := cudatest.CallsOf(t, func() {
				_, err := agr.Update(p.device, optim.Update{
					Params: p.params, Grads: p.mem, EMA: p.ema,
					LR: 0.01 / float64(step), T: step, MaxGradNorm: 1, EMADecay: 1 - 0.1/float64(step), Movement: moved,
				})
				require.NoError(t, err)
			})
			require.Equal(t, cudatest.Calls{Graphs: 2, Waits: 1}, calls)
		}
	}
}

// Other buffers and another way to clip or to average are recorded again; what was
// recorded is not replayed on the wrong ones.
func TestPassOnOtherBuffers(t *testing.T) {
	be := open(t)
	segments, n := passSegments()
	c, err := optim.DefaultConfig("adan")
	require.NoError(t, err)
	p := newTwins(t, be, c, &agr.Config{}, segments, n)
	for step := int64(1); step < 4; step++ {
		p.update(t, passGradient(n, step), step, 1, 0.9)
	}
	for _, b := range []*tensor.Buffer{&p.params, &p.ema, &p.mem} { // as a state that moves
		p.compare(t, "before")
		*b = alloc(t, be, tensor.F32, download(t, be, *b))
		p.update(t, passGradient(n, 5), 5, 1, 0.9)
	}
	p.compare(t, "other buffers")
	p.update(t, passGradient(n, 6), 6, 0.25, 0.9)
	p.compare(t, "another clip")
	p.update(t, passGradient(n, 7), 7, 0.25, -1)
	p.update(t, passGradient(n, 8), 8, 0.25, 0)
	p.compare(t, "another average")
}

// What was measured and not applied changes nothing: a peer may be lost in between.
func TestPassMeasuresWithoutATrace(t *testing.T) {
	be := open(t)
	segments, n := passSegments()
	c, err := optim.DefaultConfig("adan")
	require.NoError(t, err)
	p := newTwins(t, be, c, &agr.Config{}, segments, n)
	require.Panics(t, func() { _ = p.device.Apply() })
	for step := int64(1); step < 4; step++ {
		be.Upload(p.mem, passGradient(n, 90+step))
		_, err := p.device.Measure(optim.Update{
			Params: p.params, Grads: p.mem, EMA: p.ema, LR: 1, T: step + 1, MaxGradNorm: 1, EMADecay: 0.5,
		})
		require.NoError(t, err)
		p.compare(t, "measured")
		p.update(t, passGradient(n, step), step, 1, 0.9)
		p.compare(t, "after")
	}
	require.Panics(t, func() { _ = p.device.Apply() }, "applied once")
}

// A device that has failed says so in both halves, also where they are replayed.
func TestPassOnAFailedDevice(t *testing.T) {
	be, err := cuda.New(cuda.Config{})
	require.NoError(t, err)
	defer func() { _ = be.Close() }()
	c, err := optim.DefaultConfig("adan")
	require.NoError(t, err)
	p, err := cuda.NewPass(be, c, true, nil, 64)
	require.NoError(t, err)
	x := alloc(t, be, tensor.F32, normal(1, 64))
	g := alloc(t, be, tensor.F32, normal(2, 64))
	u := optim.Update{Params: x, Grads: g, LR: 1e-3, MaxGradNorm: 1}
	for u.T = 1; u.T < 4; u.T++ {
		_, err = agr.Update(p, u)
		require.NoError(t, err)
	}
	_, err = p.Measure(u)
	require.NoError(t, err)
	be.FailForTest()
	require.Error(t, p.Apply())
	_, err = p.Measure(u)
	require.Error(t, err)
	u.Params, u.Grads = g, x
	_, err = agr.Update(p, u)
	require.Error(t, err, "and where they would be recorded")
}
