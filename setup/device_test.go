package setup

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce/mesh"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu"
)

func onCPU(t *testing.T, set func(*config.Config)) *Device {
	t.Helper()
	c := config.Default()
	c.Device, c.Train.Threads = "cpu", 1
	set(&c)
	d, err := Open(DeviceOf(&c, 0))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

func TestOpenCPU(t *testing.T) {
	f32 := onCPU(t, func(*config.Config) {})
	bf16 := onCPU(t, func(c *config.Config) { c.Train.Precision = "bf16" })
	require.Equal(t, f32.Backend.Name(), f32.Rounding)
	product := func(d *Device) float32 {
		be := d.Backend
		var x [3]tensor.Tensor
		for i := range x {
			b, err := be.Alloc(tensor.F32, 1)
			require.NoError(t, err)
			be.Upload(b, []float32{1.0001})
			x[i] = tensor.Tensor{Buf: b, Shape: tensor.Of(1, 1)}
		}
		be.MatMul(x[0], x[1], x[2], tensor.MatMulArgs{Alpha: 1})
		out := make([]float32, 1)
		require.NoError(t, be.Download(out, x[0].Buf))
		return out[0]
	}
	require.NotEqual(t, float32(1), product(f32))
	require.Equal(t, float32(1), product(bf16), "1.0001 is 1 in bf16")

	c := config.Default()
	model, err := unet.New(f32.Backend, UNet(c.Model))
	require.NoError(t, err)
	pass, err := f32.Pass(&c, model.Params())
	require.NoError(t, err)
	require.NotEmpty(t, pass.Slots())
	require.NotNil(t, pass.Slots()[0].Float32s(), "the state lives on the host")
	e, err := mesh.Listen(mesh.EndpointConfig{RunID: "test"})
	require.NoError(t, err)
	defer e.Close()
	require.Same(t, e, f32.Connector(e, nil))
	keep, err := f32.Fits(&c)
	require.NoError(t, err)
	require.False(t, keep, "memory of the host is left to others")

	c.Train.Precision = "f8"
	c.Device = "cpu"
	_, err = Open(DeviceOf(&c, 0))
	require.ErrorContains(t, err, `"f8"`)
}

// The precision decides bits: workers and checkpoints of different ones do not mix.
func TestPrecisionIsInTheHash(t *testing.T) {
	a, err := Load(config.Source{Set: []string{"train.precision=bf16"}})
	require.NoError(t, err)
	b, err := Load(config.Source{Set: []string{"train.precision=f32"}})
	require.NoError(t, err)
	require.NotEqual(t, a.Hash(), b.Hash())
	require.Equal(t, []string{"train.precision is bf16, the checkpoint has f32"}, a.Contradictions(b))
	_, err = Load(config.Source{Set: []string{"train.precision=f16"}})
	require.ErrorContains(t, err, "f32, bf16")
}

// counting is a backend of the host that counts its buffers' bytes.
type counting struct {
	tensor.Backend
	bytes int64
}

func (c *counting) Alloc(dt tensor.DType, n int) (tensor.Buffer, error) {
	c.bytes += int64(n) * int64(dt.Size())
	return c.Backend.Alloc(dt, n)
}

func (c *counting) Free(b tensor.Buffer) {
	c.bytes -= int64(b.Len()) * int64(b.DType().Size())
	c.Backend.Free(b)
}

// What is worked out without memory is what a model takes of it.
func TestMemoryIsWhatIsAllocated(t *testing.T) {
	c := config.Default()
	c.Train.Chunk, c.Train.GlobalBatch = 4, 20 // 5 chunks
	m, err := MemoryOf(&c)
	require.NoError(t, err)

	be := &counting{Backend: cpu.New(cpu.Config{Threads: 1})}
	defer be.Close()
	model, err := unet.New(be, UNet(c.Model))
	require.NoError(t, err)
	require.Equal(t, m.Values+m.Gradients, be.bytes)
	require.Equal(t, m.Parameters, model.Params().Count())
	require.Equal(t, m.Values, m.Average)
	require.Equal(t, 4*m.Values, m.Moments, "adan keeps the gradient too")
	require.Equal(t, 2*m.Values, m.Sums)

	before := be.bytes
	batch, err := emptyBatch(be, &c)
	require.NoError(t, err)
	_, err = model.LossAndGrad(batch, nil)
	require.NoError(t, err)
	// The host keeps the scores of attention, GPUs do not.
	require.LessOrEqual(t, m.Activations, be.bytes-before)
	require.Greater(t, 2*m.Activations, be.bytes-before)
	computed := be.bytes
	model.KeepActivations(true)
	_, err = model.LossAndGrad(batch, nil)
	require.NoError(t, err)
	require.Positive(t, m.Kept)
	require.LessOrEqual(t, m.Kept, be.bytes-computed)
	require.Greater(t, 2*m.Kept, be.bytes-computed)

	c.Train.Precision = "bf16"
	half, err := MemoryOf(&c)
	require.NoError(t, err)
	require.Less(t, float64(half.Activations), 0.6*float64(m.Activations), "GPUs hold them in bf16")
	require.Equal(t, m.Total()-m.Activations, half.Total()-half.Activations)
	c.Train.Precision = "f32"

	c.Train.EMADecay, c.Optimizer.Name = 0, "sgdm"
	less, err := MemoryOf(&c)
	require.NoError(t, err)
	require.Zero(t, less.Average)
	require.Equal(t, m.Values, less.Moments)
	require.Equal(t, m.Activations, less.Activations)
}

func TestFits(t *testing.T) {
	c := config.Default()
	d := &Device{Backend: &meter{}, free: func() (int64, error) { return 1 << 30, nil }}
	keep, err := d.Fits(&c)
	require.NoError(t, err)
	require.False(t, keep, "there is room for training, and little more")
	need, err := MemoryOf(&c)
	require.NoError(t, err)
	d.free = func() (int64, error) { return need.Total() + need.Kept + spareMemory, nil }
	keep, err = d.Fits(&c)
	require.NoError(t, err)
	require.True(t, keep)
	d.free = func() (int64, error) { return 10 << 20, nil }
	_, err = d.Fits(&c)
	var refused *config.Error
	require.ErrorAs(t, err, &refused)
	for _, part := range []string{"0.01 GiB of memory free", "701345 parameters", "activations of 8 images", "train.chunk"} {
		require.ErrorContains(t, err, part)
	}
}
