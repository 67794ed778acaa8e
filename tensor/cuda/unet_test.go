//go:build cuda

package cuda_test

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu"
	"github.com/agrdist/agrdist/tensor/cuda"
)

// smallUNet has every kind of layer: dropout, attention of one wide head and
// resampling.
func smallUNet() unet.Config {
	c := unet.Digits()
	c.BlockOutChannels, c.AttentionLevels, c.LayersPerBlock = []int{16, 48}, []int{1}, 1
	c.NormNumGroups, c.Dropout = 8, 0.25
	return c
}

// narrowHeads has attention of several narrow heads and odd sizes, and scales and shifts
// by the time embedding.
func narrowHeads() unet.Config {
	return unet.Config{
		SampleSize: 6, InChannels: 3, OutChannels: 2,
		BlockOutChannels: []int{8, 12}, LayersPerBlock: 1, AttentionLevels: []int{0, 1},
		NormNumGroups: 4, NormEps: 1e-3,
		FreqShift: 1, FlipSinToCos: true, DownsamplePadding: 0, AttentionHeadDim: 4, ScaleShift: true,
	}
}

func unetBatch(c unet.Config, n int) unet.HostBatch {
	size := c.SampleSize * c.SampleSize
	b := unet.HostBatch{
		XT: normal(1, n*size*c.InChannels), Target: normal(2, n*size*c.OutChannels), Seed: 9, Train: true,
	}
	for i := range n {
		b.T = append(b.T, int64(i*377+30)%1000)
		b.Draws = append(b.Draws, int64(1000+i))
	}
	return b
}

// unetWeights gives every parameter weight: a new model's last convolutions are
// nearly zero, which would hide mistakes.
func unetWeights(t *testing.T, m *unet.Model) {
	t.Helper()
	tensors, err := m.Export()
	require.NoError(t, err)
	for i, p := range tensors {
		mean, fanIn := float32(0), 4
		if len(p.Shape) > 1 {
			fanIn = len(p.Data) / p.Shape[0]
		} else if strings.HasSuffix(p.Name, ".weight") {
			mean = 1
		}
		rng.New(77, rng.StreamInit.With(i)).Normal(p.Data, 1)
		for j, v := range p.Data {
			p.Data[j] = mean + v/float32(math.Sqrt(float64(fanIn)))
		}
	}
	require.NoError(t, m.Load(tensors))
}

func unetPass(t *testing.T, be tensor.Backend, c unet.Config) (float64, map[string][]float32) {
	t.Helper()
	m, err := unet.New(be, c)
	require.NoError(t, err)
	defer m.Close()
	unetWeights(t, m)
	loss, grads, err := m.LossAndGradients(unetBatch(c, 2))
	require.NoError(t, err)
	return loss, grads
}

// The loss and every gradient of a network are the host's to 1e-4 of the
// tensor's norm, and the same bits when it runs again.
func TestUNetAgreesWithTheHost(t *testing.T) {
	host := cpu.New(cpu.Config{Threads: 2})
	t.Cleanup(func() { require.NoError(t, host.Close()) })
	be := open(t)
	for name, c := range map[string]unet.Config{"small": smallUNet(), "narrow heads": narrowHeads()} {
		t.Run(name, func(t *testing.T) {
			wantLoss, want := unetPass(t, host, c)
			loss, got := unetPass(t, be, c)
			require.InEpsilon(t, wantLoss, loss, 1e-5)
			require.Len(t, got, len(want))
			global := 0.0
			for _, g := range want {
				global = math.Hypot(global, norm(g))
			}
			for key, w := range want {
				diff := make([]float32, len(w))
				for i := range w {
					diff[i] = got[key][i] - w[i]
				}
				// A key's bias has no gradient but rounding.
				require.LessOrEqual(t, norm(diff), 1e-4*max(norm(w), 1e-4*global), key)
			}
			again, same := unetPass(t, be, c)
			require.Equal(t, loss, again)
			require.Equal(t, got, same)
		})
	}
}

func norm(x []float32) float64 {
	var s float64
	for _, v := range x {
		s += float64(v) * float64(v)
	}
	return math.Sqrt(s)
}

// Activations that are kept have the bits of those that are computed again, in f32 and
// in bf16, and no norm, concatenation or enlargement then runs twice.
func TestKeptActivations(t *testing.T) {
	for name, config := range map[string]cuda.Config{"f32": {}, "bf16": {BF16: true}} {
		t.Run(name, func(t *testing.T) {
			be := openWith(t, config)
			c := smallUNet()
			var losses [2]float64
			var grads [2]map[string][]float32
			var calls [2]map[string]int
			for i, keep := range []bool{false, true} {
				m, err := unet.New(be, c)
				require.NoError(t, err)
				m.KeepActivations(keep)
				unetWeights(t, m)
				be.Count()
				losses[i], grads[i], err = m.LossAndGradients(unetBatch(c, 2))
				require.NoError(t, err)
				require.Equal(t, keep, m.KeepsActivations())
				calls[i] = map[string]int{}
				for _, o := range be.Counts().Operations {
					calls[i][o.Class] += o.Calls
				}
				m.Close()
			}
			require.Equal(t, losses[0], losses[1])
			require.Equal(t, grads[0], grads[1])
			require.Equal(t, 2*calls[1]["norm"], calls[0]["norm"])
			require.Less(t, calls[1]["concatenation"], calls[0]["concatenation"])
			require.Less(t, calls[1]["upsample"], calls[0]["upsample"])
		})
	}
}
