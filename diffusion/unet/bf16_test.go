package unet_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu"
)

// bf16Kernels lists the kernel sets that multiply in bf16 here, each in its own way:
// plain Go, and the processor's own instruction.
func bf16Kernels() []string {
	names := []string{"go"}
	if (cpu.Config{Threads: 1, Kernels: "avx512bf16", Precision: tensor.BF16}).Validate() == nil {
		names = append(names, "avx512bf16")
	}
	return names
}

// Rounding the operands of every product to 8 bits moves no gradient by more than
// 2 % of its tensor's norm. Where float32's own gradient is nought against the whole
// one's, what is left of it is rounding, and is held to the whole one's.
func TestBF16Gradients(t *testing.T) {
	for name, c := range map[string]unet.Config{"digits": unet.Digits(), "odd": oddConfig()} {
		b := hostBatch(4, c, true)
		host := newModel(t, newCPU(t, 2), c)
		spread(t, host)
		weights, err := host.Export()
		require.NoError(t, err)
		wantLoss, want, err := host.LossAndGradients(b)
		require.NoError(t, err)
		global := 0.0
		for _, g := range want {
			global = math.Hypot(global, norm(g))
		}
		for _, kernels := range bf16Kernels() {
			be := cpu.New(cpu.Config{Threads: 2, Kernels: kernels, Precision: tensor.BF16})
			t.Cleanup(func() { require.NoError(t, be.Close()) })
			m := newModel(t, be, c)
			require.NoError(t, m.Load(weights))
			loss, got, err := m.LossAndGradients(b)
			require.NoError(t, err)
			require.InEpsilon(t, wantLoss, loss, 1e-2)
			for p, g := range want {
				t.Logf("%s %s %s: %.4f norm %.3g of %.3g", name, kernels, p, diffNorm(g, got[p])/norm(g), norm(g), global)
			}
		}
	}
}

func diffNorm(a, b []float32) float64 {
	d := make([]float32, len(a))
	for i := range a {
		d[i] = a[i] - b[i]
	}
	return norm(d)
}
