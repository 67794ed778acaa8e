package unet_test

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/autograd/gradcheck"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/tensor"
)

// In float64, every gradient of a whole network with every switch turned is the
// difference quotient; in float32 on the host it is the same to rounding. Dropout is
// on, with fixed draws.
func TestOddModelGradients(t *testing.T) {
	for name, change := range map[string]func(c *unet.Config){
		"as is":            func(*unet.Config) {},
		"no mid attention": func(c *unet.Config) { c.NoMidAttention, c.AttentionLevels = true, nil },
		"one level":        func(c *unet.Config) { c.BlockOutChannels, c.AttentionLevels, c.SampleSize = []int{8}, nil, 3 },
		"scale shift":      func(c *unet.Config) { c.ScaleShift = true },
		"two layers": func(c *unet.Config) {
			c.LayersPerBlock, c.SampleSize, c.DownsamplePadding, c.AttentionLevels = 2, 4, 1, []int{0}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := oddConfig()
			change(&c)
			b := hostBatch(2, c, true)
			host := newModel(t, newCPU(t, 2), c)
			spread(t, host)
			weights, err := host.Export()
			require.NoError(t, err)
			_, got, err := host.LossAndGradients(b)
			require.NoError(t, err)

			for _, be := range []tensor.Backend{gradcheck.Backend{}, gradcheck.Fused{}} {
				ref := newModel(t, be, c)
				require.NoError(t, ref.Load(weights))
				_, want, err := ref.LossAndGradients(b)
				require.NoError(t, err)
				global := 0.0
				for _, g := range want {
					global = math.Hypot(global, norm(g))
				}
				for name, g := range want {
					requireClose(t, name, g, got[name], 1e-4, 1e-4*global)
				}
				// Each path once: differences take hundreds of passes.
				_, fused := be.(gradcheck.Fused)
				if (name == "as is" || name == "scale shift") && fused || name == "two layers" && !fused {
					requireDifferences(t, ref, deviceBatch(t, be, c, hostBatch(1, c, true)))
				}
			}
		})
	}
}

// requireDifferences checks the gradient of each layer, weight and bias together,
// along a random direction.
func requireDifferences(t *testing.T, m *unet.Model, b unet.Batch) {
	t.Helper()
	_, err := m.LossAndGrad(b, nil)
	require.NoError(t, err)
	values, grads := gradcheck.Float64s(m.Params().Values()), gradcheck.Float64s(m.Params().Grads())
	global := 0.0
	for _, g := range grads {
		global = math.Hypot(global, g)
	}
	target := gradcheck.Float64s(b.Target.Buf)
	loss := func() (float64, error) {
		pred, err := m.Forward(b)
		sum := 0.0
		for i, y := range gradcheck.Float64s(pred) {
			sum += (y - target[i]) * (y - target[i]) * float64(b.GradScale)
		}
		return sum, err
	}
	list := m.Params().List()
	for i := 0; i < len(list); i += 2 {
		p, bias := list[i], list[i+1]
		require.Equal(t, strings.TrimSuffix(p.Name, "weight"), strings.TrimSuffix(bias.Name, "bias"))
		p.Len = bias.Off + bias.Len - p.Off
		require.NoError(t, gradcheck.Directional(loss, values[p.Off:p.Off+p.Len], grads[p.Off:p.Off+p.Len], 1e-3, 1e-8, global, 5), p.Name)
	}
}
