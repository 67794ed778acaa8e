package unet_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu"
)

// benchmarkStep is a whole training step on the host: forward, backward, clip, AGR,
// Adan and the moving average.
func benchmarkStep(b *testing.B, c unet.Config, n int) {
	b.Helper()
	be := cpu.New(cpu.Config{Threads: runtime.GOMAXPROCS(0)})
	b.Cleanup(func() { require.NoError(b, be.Close()) })
	m := newModel(b, be, c)
	m.Init(1)
	oc, err := optim.DefaultConfig("adan")
	require.NoError(b, err)
	pass, err := agr.NewPass(oc, true, segments(m.Params()), m.Params().FlatLen(), be.Pool())
	require.NoError(b, err)
	batch := deviceBatch(b, be, c, hostBatch(n, c, true))
	update := optim.Update{
		Params: m.Params().Values(), Grads: m.Params().Grads(),
		EMA: tensor.Floats(make([]float32, m.Params().FlatLen())), LR: 1e-4, MaxGradNorm: 1, EMADecay: 0.999,
	}
	step := func() {
		_, err := m.LossAndGrad(batch, nil)
		require.NoError(b, err)
		update.T++
		_, err = agr.Update(pass, update)
		require.NoError(b, err)
	}
	step()
	b.ReportAllocs()
	for b.Loop() {
		step()
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "images/s")
	b.ReportMetric(float64(m.ArenaLen())*4/(1<<20), "arena-MiB")
}

func BenchmarkStepDigits(b *testing.B)  { benchmarkStep(b, unet.Digits(), 8) }
func BenchmarkStepCIFAR10(b *testing.B) { benchmarkStep(b, unet.CIFAR10(), 8) }

// BenchmarkStepSmall has the 1.11M parameters of agrdist bench step --preset small.
func BenchmarkStepSmall(b *testing.B) {
	c := unet.CIFAR10()
	c.BlockOutChannels, c.LayersPerBlock, c.AttentionLevels, c.Dropout = []int{32, 64, 64}, 1, []int{1}, 0.1
	benchmarkStep(b, c, 32)
}

func BenchmarkPredictCIFAR10(b *testing.B) {
	const n = 8
	c := unet.CIFAR10()
	m := newModel(b, newCPU(b, runtime.GOMAXPROCS(0)), c)
	m.Init(1)
	batch := hostBatch(n, c, false)
	for b.Loop() {
		require.NoError(b, m.Predict(batch.Target, batch.XT, batch.T))
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "images/s")
}
