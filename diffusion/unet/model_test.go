package unet_test

import (
	"encoding/json"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/nn"
	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu"
)

func newCPU(tb testing.TB, threads int) tensor.Backend {
	tb.Helper()
	be := cpu.New(cpu.Config{Threads: threads})
	tb.Cleanup(func() { require.NoError(tb, be.Close()) })
	return be
}

func newModel(tb testing.TB, be tensor.Backend, c unet.Config) *unet.Model {
	tb.Helper()
	m, err := unet.New(be, c)
	require.NoError(tb, err)
	tb.Cleanup(m.Close)
	return m
}

// oddConfig turns every switch that the golden model leaves off.
func oddConfig() unet.Config {
	return unet.Config{
		SampleSize: 12, InChannels: 3, OutChannels: 2,
		BlockOutChannels: []int{4, 8, 4}, LayersPerBlock: 1, AttentionLevels: []int{1, 2},
		NormNumGroups: 2, NormEps: 1e-3, Dropout: 0.25,
		FreqShift: 1, FlipSinToCos: true, DownsamplePadding: 0, AttentionHeadDim: 2,
	}
}

// scaleShiftConfig scales and shifts by the time embedding.
func scaleShiftConfig() unet.Config {
	c := oddConfig()
	c.ScaleShift = true
	return c
}

// noise is n images of standard normal values.
func noise(n, size, channels int, seed uint64) []float32 {
	per := size * size * channels
	x := make([]float32, n*per)
	for i := range n {
		rng.New(seed, rng.StreamNoise).Normal(x[i*per:(i+1)*per], uint64(i))
	}
	return x
}

func hostBatch(n int, c unet.Config, train bool) unet.HostBatch {
	b := unet.HostBatch{
		XT: noise(n, c.SampleSize, c.InChannels, 1), Target: noise(n, c.SampleSize, c.OutChannels, 2),
		Seed: 9, Train: train,
	}
	for i := range n {
		b.T = append(b.T, int64((i*377+30)%1000))
		b.Draws = append(b.Draws, int64(1000+i))
	}
	return b
}

// deviceBatch puts a host batch on a backend, the loss being its mean.
func deviceBatch(tb testing.TB, be tensor.Backend, c unet.Config, b unet.HostBatch) unet.Batch {
	tb.Helper()
	n := len(b.T)
	images := func(host []float32, channels int) tensor.Tensor {
		buf, err := be.Alloc(tensor.F32, len(host))
		require.NoError(tb, err)
		be.Upload(buf, host)
		return tensor.Tensor{Buf: buf, Shape: tensor.Of(n, c.SampleSize, c.SampleSize, channels)}
	}
	integers := func(host []int64) tensor.Tensor {
		buf, err := be.Alloc(tensor.I64, n)
		require.NoError(tb, err)
		be.UploadInt64(buf, host)
		return tensor.Tensor{Buf: buf, Shape: tensor.Of(n)}
	}
	return unet.Batch{
		XT: images(b.XT, c.InChannels), Target: images(b.Target, c.OutChannels),
		T: integers(b.T), Draws: integers(b.Draws),
		GradScale: float32(1 / float64(len(b.Target))), Seed: b.Seed, Train: b.Train,
	}
}

// spread gives every parameter weight: Init leaves biases zero and the last
// convolutions nearly so, which would hide mistakes.
func spread(tb testing.TB, m *unet.Model) {
	tb.Helper()
	tensors, err := m.Export()
	require.NoError(tb, err)
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
	require.NoError(tb, m.Load(tensors))
}

// The CIFAR-10 model has the parameters of the published one, by name and number,
// and a step of training changes its loss.
func TestCIFAR10Model(t *testing.T) {
	raw, err := os.ReadFile("testdata/pytorch_ddpm_to_diffusers_keys.json")
	require.NoError(t, err)
	var keys map[string]string
	require.NoError(t, json.Unmarshal(raw, &keys))

	m := newModel(t, newCPU(t, 2), unet.CIFAR10())
	var names []string
	for _, p := range m.Params().List() {
		names = append(names, p.Name)
		require.Zero(t, p.Off%nn.Alignment, p.Name)
	}
	require.Len(t, names, 328)
	require.ElementsMatch(t, slices.Collect(maps.Values(keys)), names)
	require.Equal(t, 35_746_307, m.Params().Count())

	c := unet.CIFAR10()
	c.SampleSize = 16 // the parameters do not depend on it, the time does
	be := newCPU(t, 2)
	m = newModel(t, be, c)
	require.Equal(t, 35_746_307, m.Params().Count())
	m.Init(1)
	b := hostBatch(1, c, true)
	batch := deviceBatch(t, be, c, b)
	loss := func() float64 {
		sum, err := m.LossAndGrad(batch, nil)
		require.NoError(t, err)
		return sum * float64(batch.GradScale)
	}
	before := loss()
	// The model starts at zero, but for 1e-5: the loss is the target's mean square.
	require.InEpsilon(t, norm(b.Target)*norm(b.Target)/float64(len(b.Target)), before, 1e-4)

	// A short way against the gradient lowers the loss by |gradient| times it.
	const way = 1e-3
	values, grads := hostSlice(m.Params().Values()), hostSlice(m.Params().Grads())
	size := norm(grads)
	for i, g := range grads {
		values[i] -= float32(way * float64(g) / size)
	}
	require.InEpsilon(t, size*way, before-loss(), 0.1)
}

func TestInit(t *testing.T) {
	be := newCPU(t, 2)
	a, b := newModel(t, be, unet.Digits()), newModel(t, be, unet.Digits())
	export := func(m *unet.Model, seed uint64) map[string][]float32 {
		m.Init(seed)
		list, err := m.Export()
		require.NoError(t, err)
		weights := map[string][]float32{}
		for _, w := range list {
			weights[w.Name] = w.Data
		}
		return weights
	}
	w := export(a, 3)
	require.Equal(t, w, export(b, 3))
	require.NotEqual(t, w["conv_in.weight"], export(b, 4)["conv_in.weight"])
	largest := func(name string) float64 {
		top := 0.0
		for _, v := range w[name] {
			top = max(top, math.Abs(float64(v)))
		}
		return top
	}
	for name, bound := range map[string]float64{
		"conv_in.weight":                             math.Sqrt(6.0 / ((1 + 32) * 9)),
		"mid_block.attentions.0.to_out.0.weight":     math.Sqrt(6.0 / (64 + 64)),
		"time_embedding.linear_1.weight":             math.Sqrt(6.0 / (32 + 128)),
		"down_blocks.1.resnets.0.conv1.weight":       math.Sqrt(6.0 / ((32 + 64) * 9)),
		"down_blocks.1.resnets.0.conv2.weight":       1e-5 * math.Sqrt(6.0/((64+64)*9)),
		"conv_out.weight":                            1e-5 * math.Sqrt(6.0/((32+1)*9)),
		"up_blocks.1.resnets.1.conv_shortcut.weight": math.Sqrt(6.0 / (64 + 32)),
	} {
		require.LessOrEqual(t, largest(name), bound*1.000001, name)
		require.GreaterOrEqual(t, largest(name), bound*0.95, name)
		variance := norm(w[name]) * norm(w[name]) / float64(len(w[name]))
		require.InEpsilon(t, bound*bound/3, variance, 0.15, name)
	}
	for name, v := range w {
		if strings.HasSuffix(name, ".bias") {
			require.Zero(t, norm(v), name)
		}
	}
	require.Equal(t, slices.Repeat([]float32{1}, 32), w["conv_norm_out.weight"])
}

func TestLoadAndExport(t *testing.T) {
	be := newCPU(t, 1)
	m, other := newModel(t, be, oddConfig()), newModel(t, be, oddConfig())
	spread(t, m)
	want, err := m.Export()
	require.NoError(t, err)

	// Older names, 1x1 convolutions for linear layers, another order.
	old := strings.NewReplacer(".to_q.", ".query.", ".to_k.", ".key.", ".to_v.", ".value.", ".to_out.0.", ".proj_attn.")
	var older []nn.Tensor
	for _, w := range want {
		if len(w.Shape) == 2 && strings.Contains(w.Name, "attentions") {
			w.Shape = append(slices.Clone(w.Shape), 1, 1)
		}
		w.Name = old.Replace(w.Name)
		older = append(older, w)
	}
	slices.Reverse(older)
	require.NotEqual(t, want[0].Name, older[0].Name)
	require.NoError(t, other.Load(older))
	got, err := other.Export()
	require.NoError(t, err)
	require.Equal(t, want, got)

	bad := slices.Clone(want)
	bad[3].Name = "conv_in.wieght"
	bad[5] = bad[4]
	bad[6].Shape = append([]int{1}, bad[6].Shape...)
	before, err := other.Export()
	require.NoError(t, err)
	err = other.Load(bad)
	require.ErrorIs(t, err, nn.ErrUnknown)
	require.ErrorIs(t, err, nn.ErrMissing)
	require.ErrorIs(t, err, nn.ErrTwice)
	require.ErrorIs(t, err, nn.ErrShape)
	require.ErrorContains(t, err, "conv_in.wieght")
	require.ErrorContains(t, err, want[5].Name)
	after, err := other.Export()
	require.NoError(t, err)
	require.Equal(t, before, after, "nothing changes on an error")
}
