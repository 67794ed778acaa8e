package unet_test

import (
	"math"
	"slices"
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
	for _, name := range []string{"avx512bf16", "neonbf16"} {
		if (cpu.Config{Threads: 1, Kernels: name, Precision: tensor.BF16}).Validate() == nil {
			names = append(names, name)
		}
	}
	return names
}

// Rounding the operands of every product to 8 bits moves no gradient by more than
// 3 % of its tensor's norm; or of 1 % of the whole gradient's where a tensor's is
// below that, and be it nought, as that of a key's bias, which no softmax sees. The
// whole gradient moves by 1 % at most.
func TestBF16Gradients(t *testing.T) {
	shifted := unet.Digits()
	shifted.ScaleShift = true
	for name, c := range map[string]unet.Config{"digits": unet.Digits(), "odd": oddConfig(), "scale shift": shifted} {
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
			require.InEpsilon(t, wantLoss, loss, 5e-3)
			same, moved := 0, 0.0
			for p, g := range want {
				diff := make([]float32, len(g))
				for i := range g {
					diff[i] = got[p][i] - g[i]
				}
				moved = math.Hypot(moved, norm(diff))
				requireClose(t, name+", "+be.Name()+": "+p, g, got[p], 3e-2, 1e-2*global)
				if slices.Equal(g, got[p]) {
					same++
				}
			}
			require.LessOrEqual(t, moved, 1e-2*global, "%s, %s: the whole gradient", name, be.Name())
			require.Less(t, same, len(want)/2, "%s, %s: float32 has come out", name, be.Name())
		}
	}
}
