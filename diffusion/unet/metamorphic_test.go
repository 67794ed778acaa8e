package unet_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/tensor"
)

// variants are models whose results must not depend on batch or threads.
func variants() map[string]unet.Config {
	return map[string]unet.Config{"digits": unet.Digits(), "odd": oddConfig(), "scale shift": scaleShiftConfig()}
}

// Without time embedding, adding it and scaling and shifting by it are the same
// network, to the bit: only what the projections give differs.
func TestScaleShiftOfNothing(t *testing.T) {
	predict := func(scaleShift bool) []float32 {
		c := oddConfig()
		c.ScaleShift = scaleShift
		m := newModel(t, newCPU(t, 2), c)
		list, err := m.Export()
		require.NoError(t, err)
		others := 0
		for _, p := range list {
			if !strings.Contains(p.Name, ".time_emb_proj.") {
				rng.New(7, rng.StreamInit.With(others)).Normal(p.Data, 1)
				others++
			}
		}
		require.NoError(t, m.Load(list))
		b := hostBatch(3, c, false)
		require.NoError(t, m.Predict(b.Target, b.XT, b.T))
		return b.Target
	}
	require.Equal(t, predict(false), predict(true))
}

// A sample's prediction is the same bits in a batch of five and alone.
func TestPredictionIgnoresBatch(t *testing.T) {
	for name, c := range variants() {
		t.Run(name, func(t *testing.T) {
			m := newModel(t, newCPU(t, 2), c)
			spread(t, m)
			const n = 5
			b := hostBatch(n, c, false)
			all := make([]float32, len(b.Target))
			require.NoError(t, m.Predict(all, b.XT, b.T))
			in, out := len(b.XT)/n, len(b.Target)/n
			one := make([]float32, out)
			for i := range n {
				require.NoError(t, m.Predict(one, b.XT[i*in:(i+1)*in], b.T[i:i+1]))
				require.Equal(t, all[i*out:(i+1)*out], one, "sample %d", i)
			}
			require.NotEqual(t, all[:out], all[out:2*out])
		})
	}
}

// One, two and three threads give the same bits, forward and backward.
func TestThreadsDoNotMatter(t *testing.T) {
	for name, c := range variants() {
		t.Run(name, func(t *testing.T) {
			b := hostBatch(3, c, true)
			var loss float64
			var grads map[string][]float32
			for threads := 1; threads <= 3; threads++ {
				m := newModel(t, newCPU(t, threads), c)
				spread(t, m)
				l, g, err := m.LossAndGradients(b)
				require.NoError(t, err)
				if threads > 1 {
					require.Equal(t, math.Float64bits(loss), math.Float64bits(l), "%d threads", threads)
					require.Equal(t, grads, g, "%d threads", threads)
				}
				loss, grads = l, g
			}
		})
	}
}

// Dropout is a function of seed and draws: the same sample in another place of
// another batch has the same mask, other draws have others.
func TestDropoutFollowsDraws(t *testing.T) {
	c := oddConfig()
	be := newCPU(t, 2)
	m := newModel(t, be, c)
	spread(t, m)
	forward := func(b unet.HostBatch) [][]float32 {
		pred, err := m.Forward(deviceBatch(t, be, c, b))
		require.NoError(t, err)
		flat := make([]float32, pred.Len())
		require.NoError(t, be.Download(flat, pred))
		return slices.Collect(slices.Chunk(flat, len(flat)/len(b.T)))
	}
	b := hostBatch(1, c, true)
	b.XT, b.Target = slices.Repeat(b.XT, 3), slices.Repeat(b.Target, 3)
	b.T, b.Draws = slices.Repeat(b.T, 3), []int64{4, 5, 4}
	three := forward(b)
	require.Equal(t, three[0], three[2])
	require.NotEqual(t, three[0], three[1])

	b.Draws = []int64{5, 4, 6}
	other := forward(b)
	require.Equal(t, three[0], other[1])
	require.Equal(t, three[1], other[0])

	b.Seed++
	require.NotEqual(t, other[1], forward(b)[1])
	b.Train = false
	still := forward(b)
	require.Equal(t, still[0], still[1])
}

// A step's result does not depend on what the model did before, nor on whether the
// backward pass computed cheap values again.
func TestStepsAreIndependent(t *testing.T) {
	c := oddConfig()
	be := newCPU(t, 1)
	fresh, used, stored := newModel(t, be, c), newModel(t, be, c), newModel(t, be, c)
	stored.KeepActivations(true)
	for _, m := range []*unet.Model{fresh, used, stored} {
		spread(t, m)
	}
	b := hostBatch(3, c, true)
	want, wantGrads, err := fresh.LossAndGradients(b)
	require.NoError(t, err)
	small := fresh.ArenaLen()

	for _, n := range []int{1, 4, 2} {
		_, _, err := used.LossAndGradients(hostBatch(n, c, n == 2))
		require.NoError(t, err)
		other := hostBatch(n, c, false)
		require.NoError(t, used.Predict(other.Target, other.XT, other.T))
	}
	for _, m := range []*unet.Model{used, stored} {
		got, grads, err := m.LossAndGradients(b)
		require.NoError(t, err)
		require.Equal(t, math.Float64bits(want), math.Float64bits(got))
		require.Equal(t, wantGrads, grads)
	}
	require.Greater(t, float64(stored.ArenaLen()), 1.2*float64(small), "what computing again saves")
	stored.KeepActivations(false)
	_, grads, err := stored.LossAndGradients(b)
	require.NoError(t, err)
	require.Equal(t, wantGrads, grads)
	require.Equal(t, small, stored.ArenaLen())
}

// narrow is a backend without room for large buffers.
type narrow struct {
	tensor.Backend
	most int // elements
}

func (n *narrow) Alloc(dt tensor.DType, elements int) (tensor.Buffer, error) {
	if elements > n.most {
		return nil, errors.New("no room")
	}
	return n.Backend.Alloc(dt, elements)
}

// A device without room to keep what can be computed again computes it again.
func TestNoRoomToKeep(t *testing.T) {
	c := oddConfig()
	be := newCPU(t, 1)
	device := &narrow{be, math.MaxInt}
	m := newModel(t, device, c)
	spread(t, m)
	b := hostBatch(3, c, true)
	_, want, err := m.LossAndGradients(b)
	require.NoError(t, err)

	device.most = m.ArenaLen()
	m.KeepActivations(true)
	_, grads, err := m.LossAndGradients(b)
	require.NoError(t, err)
	require.Equal(t, want, grads)
	require.False(t, m.KeepsActivations())

	device.most--
	m.KeepActivations(true)
	_, _, err = m.LossAndGradients(b)
	require.ErrorContains(t, err, "no room")
}

// The gradient of a batch is the sum of those of its parts, to rounding: what
// makes chunks of a global batch add up.
func TestGradientsAdd(t *testing.T) {
	c := oddConfig()
	be := newCPU(t, 2)
	m := newModel(t, be, c)
	spread(t, m)
	b := hostBatch(3, c, true)
	grads := func(lo, hi int) (float64, []float32) {
		part := b
		in, out := len(b.XT)/3, len(b.Target)/3
		part.XT, part.Target = b.XT[lo*in:hi*in], b.Target[lo*out:hi*out]
		part.T, part.Draws = b.T[lo:hi], b.Draws[lo:hi]
		d := deviceBatch(t, be, c, part)
		d.GradScale = 1
		sum, err := m.LossAndGrad(d, nil)
		require.NoError(t, err)
		return sum, slices.Clone(hostSlice(m.Params().Grads()))
	}
	loss, all := grads(0, 3)
	firstLoss, first := grads(0, 1)
	restLoss, rest := grads(1, 3)
	require.InEpsilon(t, loss, firstLoss+restLoss, 1e-6)
	for i := range first {
		first[i] += rest[i]
	}
	requireClose(t, "gradient", all, first, 1e-5, 0)
}

// Every gradient is final when ready says so; the order is the reverse of
// registration, for any batch.
func TestReadyOrder(t *testing.T) {
	for name, c := range variants() {
		t.Run(name, func(t *testing.T) {
			be := newCPU(t, 1)
			m := newModel(t, be, c)
			spread(t, m)
			flat := hostSlice(m.Params().Grads())
			list := m.Params().List()
			at := make([][]float32, len(list))
			var order []int
			_, err := m.LossAndGrad(deviceBatch(t, be, c, hostBatch(2, c, true)), func(i int) {
				order = append(order, i)
				at[i] = slices.Clone(flat[list[i].Off : list[i].Off+list[i].Len])
			})
			require.NoError(t, err)
			require.Equal(t, m.ReadyOrder(), order)
			require.Equal(t, order, m.RecordedReadyOrder())
			for i, p := range list {
				require.Equal(t, flat[p.Off:p.Off+p.Len], at[i], p.Name)
			}
		})
	}
}

// In the steady state a training step allocates nothing.
func TestStepDoesNotAllocate(t *testing.T) {
	c := oddConfig()
	be := newCPU(t, 2)
	m := newModel(t, be, c)
	spread(t, m)
	b := deviceBatch(t, be, c, hostBatch(2, c, true))
	ready := func(int) {}
	step := func() {
		_, err := m.LossAndGrad(b, ready)
		require.NoError(t, err)
	}
	step()
	require.Zero(t, testing.AllocsPerRun(5, step))
}

// The programs unused for longest are dropped, and recorded again when needed.
func TestProgramsAreBounded(t *testing.T) {
	c := oddConfig()
	m := newModel(t, newCPU(t, 1), c)
	spread(t, m)
	predict := func(n int) []float32 {
		b := hostBatch(n, c, false)
		require.NoError(t, m.Predict(b.Target, b.XT, b.T))
		return b.Target
	}
	want := predict(1)
	for n := 2; n <= 8; n++ {
		predict(n)
	}
	require.Equal(t, []int{8, 7, 6, 5, 4, 3, 2, 1}, m.Recorded())
	predict(2)
	require.Equal(t, []int{2, 8, 7, 6, 5, 4, 3, 1}, m.Recorded())
	predict(9)
	require.Equal(t, []int{9, 2, 8, 7, 6, 5, 4, 3}, m.Recorded())
	require.Equal(t, want, predict(1))
}

// Every block has a dropout stream of its own.
func TestDropoutStreams(t *testing.T) {
	streams := newModel(t, newCPU(t, 1), oddConfig()).DropoutStreams()
	require.Len(t, streams, 3+2+6)
	for i, s := range streams {
		require.Equal(t, uint32(rng.StreamDropout.With(i)), s)
	}
}

func TestBatchErrors(t *testing.T) {
	c := oddConfig()
	be := newCPU(t, 1)
	m := newModel(t, be, c)
	for name, change := range map[string]func(b *unet.Batch){
		"empty":     func(b *unet.Batch) { *b = unet.Batch{} },
		"no target": func(b *unet.Batch) { b.Target = tensor.Tensor{} },
		"swapped":   func(b *unet.Batch) { b.XT, b.Target = b.Target, b.XT },
		"no draws":  func(b *unet.Batch) { b.Draws = tensor.Tensor{} },
		"T is F32":  func(b *unet.Batch) { b.T = b.XT },
		"size":      func(b *unet.Batch) { b.XT.Shape = tensor.Of(2, 24, 6, 3) },
	} {
		b := deviceBatch(t, be, c, hostBatch(2, c, true))
		change(&b)
		_, err := m.LossAndGrad(b, nil)
		require.ErrorIs(t, err, unet.ErrBatch, name)
	}
	require.ErrorIs(t, m.Predict(nil, nil, nil), unet.ErrBatch)
	_, _, err := m.LossAndGradients(unet.HostBatch{T: []int64{1}})
	require.ErrorIs(t, err, unet.ErrBatch)
	b := hostBatch(2, c, false)
	require.ErrorIs(t, m.Predict(b.Target, b.XT[1:], b.T), unet.ErrBatch)
}

// Losses that stay on the device are those that LossAndGrad adds up.
func TestLossesOnTheDevice(t *testing.T) {
	be := newCPU(t, 1)
	c := oddConfig()
	m := newModel(t, be, c)
	b := deviceBatch(t, be, c, hostBatch(3, c, false))
	want, err := m.LossAndGrad(b, nil)
	require.NoError(t, err)
	buf, err := be.Alloc(tensor.F32, 4)
	require.NoError(t, err)
	b.Losses = tensor.Tensor{Buf: be.Slice(buf, 1, 3), Shape: tensor.Of(3)}
	sum, err := m.LossAndGrad(b, nil)
	require.NoError(t, err)
	require.Zero(t, sum)
	losses := make([]float32, 4)
	require.NoError(t, be.Download(losses, buf))
	require.Zero(t, losses[0])
	require.Equal(t, want, float64(losses[1])+float64(losses[2])+float64(losses[3]))
	b.Losses.Shape = tensor.Of(2)
	_, err = m.LossAndGrad(b, nil)
	require.ErrorIs(t, err, unet.ErrBatch)
}
