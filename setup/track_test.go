package setup

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/optim"
)

// elsewhere is a pass of which nobody knows that it works in host memory, as a device's.
type elsewhere struct{ agr.Pass }

// The averages that a device computes by operations of its backend are those that the pass
// on the host computes block by block.
func TestTrackedAverages(t *testing.T) {
	c := config.Default()
	c.Train.EMAProfiles = []float64{0.05, 0.1}
	d := onCPU(t, func(*config.Config) {})
	model, err := unet.New(d.Backend, UNet(c.Model))
	require.NoError(t, err)
	p := model.Params()
	host, err := d.Pass(&c, p)
	require.NoError(t, err)
	profiles, err := optim.NewProfiles(c.Train.EMAProfiles)
	require.NoError(t, err)
	plain, err := d.untracked(&c, p)
	require.NoError(t, err)
	device, err := agr.Track(elsewhere{plain}, d.Backend, profiles, p.FlatLen())
	require.NoError(t, err)
	require.Len(t, host.Slots(), len(plain.Slots())+2)

	model.Init(1)
	start := make([]float32, p.FlatLen())
	require.NoError(t, d.Backend.Download(start, p.Values()))
	train := func(pass agr.Pass) (slots [][]float32) {
		d.Backend.Upload(p.Values(), start)
		for step := int64(1); step <= 5; step++ {
			grad := make([]float32, len(start))
			for i := range grad {
				grad[i] = start[(i+int(step))%len(start)]
			}
			if step == 3 {
				grad[0] /= 0 // dropped
			}
			d.Backend.Upload(p.Grads(), grad)
			_, err := agr.Update(pass, optim.Update{Params: p.Values(), Grads: p.Grads(), LR: 1e-2, T: step, MaxGradNorm: 1})
			require.NoError(t, err)
		}
		for _, s := range pass.Slots() {
			slots = append(slots, slices.Clone(s.Float32s()))
		}
		return slots
	}
	want, got := train(host), train(device)
	require.Len(t, got, len(want))
	for i := range want {
		require.InDeltaSlice(t, want[i], got[i], 1e-6, host.Slots()[i].Name)
	}
}
