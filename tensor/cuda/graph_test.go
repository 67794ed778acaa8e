//go:build cuda

package cuda_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cuda"
)

// deviceBatch is a batch in buffers that stay.
func deviceBatch(t *testing.T, be tensor.Backend, c unet.Config, n int) unet.Batch {
	t.Helper()
	host := unetBatch(c, n)
	integers := func(v []int64) tensor.Tensor {
		buf, err := be.Alloc(tensor.I64, len(v))
		require.NoError(t, err)
		t.Cleanup(func() { be.Free(buf) })
		be.UploadInt64(buf, v)
		return tensor.Tensor{Buf: buf, Shape: tensor.Of(len(v))}
	}
	images := func(v []float32, channels int) tensor.Tensor {
		return tensor.Tensor{Buf: alloc(t, be, tensor.F32, v), Shape: tensor.Of(n, c.SampleSize, c.SampleSize, channels)}
	}
	return unet.Batch{
		XT: images(host.XT, c.InChannels), Target: images(host.Target, c.OutChannels),
		T: integers(host.T), Draws: integers(host.Draws), GradScale: 0.01, Seed: host.Seed, Train: true,
	}
}

// recorder counts recordings.
type recorder struct {
	*cuda.Backend
	recordings int
}

func (r *recorder) Record(f func() error) (func() error, error) {
	r.recordings++
	return r.Backend.Record(f)
}

// eager hides that the backend records, and nothing else.
type eager struct {
	tensor.Backend
	fusedNorm
	fusedAttention
	fusedGradients
	mixed
}

type (
	fusedNorm      = tensor.GroupNormSiLU
	fusedAttention = tensor.Attention
	fusedGradients = tensor.FusedGradients
	mixed          = tensor.Mixed
)

// A training pass replayed as a graph gives the bits of one whose operations are
// launched one by one, on inputs and weights that change between replays.
func TestGraphOfAStep(t *testing.T) {
	for name, of := range map[string]struct {
		net    unet.Config
		config cuda.Config
	}{
		"small":        {smallUNet(), cuda.Config{}},
		"narrow heads": {narrowHeads(), cuda.Config{}},
		"in BF16":      {smallUNet(), cuda.Config{BF16: true}},
	} {
		c, be := of.net, openWith(t, of.config)
		rec := &recorder{Backend: be}
		pass := func(be tensor.Backend, steps int) (losses []float64, grads [][]float32, ready []int) {
			m, err := unet.New(be, c)
			require.NoError(t, err)
			defer m.Close()
			unetWeights(t, m)
			b := deviceBatch(t, be, c, 2)
			values := tensor.Tensor{Buf: m.Params().Values(), Shape: tensor.Of(m.Params().FlatLen())}
			dv := tensor.Tensor{Buf: m.Params().Grads(), Shape: values.Shape}
			for i := range steps {
				be.Upload(b.XT.Buf, normal(50+i, b.XT.Shape.Len()))
				ready = ready[:0]
				loss, err := m.LossAndGrad(b, func(p int) { ready = append(ready, p) })
				require.NoError(t, err)
				losses = append(losses, loss)
				grads = append(grads, download(t, be, m.Params().Grads()))
				be.AddScaled(values, dv, -0.01)
			}
			return losses, grads, ready
		}
		wantLosses, wantGrads, wantReady := pass(eager{be, be, be, be, be}, 5)
		losses, grads, ready := pass(rec, 5)
		require.Equal(t, wantLosses, losses, name)
		require.Equal(t, wantGrads, grads, name)
		require.Equal(t, wantReady, ready, name)
		require.Positive(t, rec.recordings, name)
	}
}

// Predictions are replayed too, and are those of the operations one by one.
func TestGraphOfAPrediction(t *testing.T) {
	be := open(t)
	rec := &recorder{Backend: be}
	c := narrowHeads()
	predict := func(be tensor.Backend) (all [][]float32) {
		m, err := unet.New(be, c)
		require.NoError(t, err)
		defer m.Close()
		unetWeights(t, m)
		for i, n := range []int{3, 3, 2, 3, 2, 2, 3} { // batches of two sizes take turns
			size := n * c.SampleSize * c.SampleSize
			dst := make([]float32, size*c.OutChannels)
			require.NoError(t, m.Predict(dst, normal(i, size*c.InChannels), make([]int64, n)))
			all = append(all, dst)
		}
		return all
	}
	require.Equal(t, predict(eager{be, be, be, be, be}), predict(rec))
	require.Equal(t, 2, rec.recordings, "one for each size")
}

// What cannot be recorded is refused, and the backend continues.
func TestRecordRefuses(t *testing.T) {
	be := open(t)
	x := tensor.Tensor{Buf: alloc(t, be, tensor.F32, normal(1, 64)), Shape: tensor.Of(64)}
	before := download(t, be, x.Buf)
	own := errors.New("own")
	for name, f := range map[string]func() error{
		"waiting":     func() error { return be.Sync() },
		"downloading": func() error { return be.Download(make([]float32, 64), x.Buf) },
		"uploading":   func() error { be.Upload(x.Buf, before); return nil },
		"allocating": func() error {
			buf, err := be.Alloc(tensor.F32, 64)
			if err == nil {
				be.Free(buf)
			}
			return err
		},
	} {
		_, err := be.Record(f)
		require.ErrorIs(t, err, cuda.ErrRecord, name)
		require.NoError(t, be.Sync(), name)
		require.Equal(t, before, download(t, be, x.Buf), name)
	}
	calls := 0
	_, err := be.Record(func() error { calls++; return own })
	require.ErrorIs(t, err, own)
	require.Equal(t, 1, calls, "what fails is not recorded")
	_, err = be.Record(func() error {
		if calls++; calls == 3 {
			return own
		}
		return nil
	})
	require.ErrorIs(t, err, own)
	replay, err := be.Record(func() error { be.Scale(x, x, 2); return nil })
	require.NoError(t, err)
	require.NoError(t, replay())
	require.Equal(t, 4*before[5], download(t, be, x.Buf)[5], "once while recording, once replayed")
}

func TestReplayAfterClose(t *testing.T) {
	be, err := cuda.New(cuda.Config{})
	require.NoError(t, err)
	buf, err := be.Alloc(tensor.F32, 8)
	require.NoError(t, err)
	replay, err := be.Record(func() error { be.Fill(tensor.Tensor{Buf: buf, Shape: tensor.Of(8)}, 1); return nil })
	require.NoError(t, err)
	require.NoError(t, be.Close())
	require.ErrorContains(t, replay(), "closed")
}
