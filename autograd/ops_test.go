package autograd_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/autograd"
	"github.com/agrdist/agrdist/autograd/gradcheck"
	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu"
)

type values = []*autograd.Value

// opCase is a small network around one operation. All tensors are parameters, so
// that every operand's gradient is checked.
type opCase struct {
	name   string
	params []tensor.Shape
	build  func(t *autograd.Tape, p values, draws *autograd.Value) *autograd.Value
}

const samples = 2

func convCase(name string, c tensor.Conv, h, w, in, out int, optional bool) opCase {
	oh, ow := c.OutSize(h), c.OutSize(w)
	shapes := []tensor.Shape{tensor.Of(samples, h, w, in), tensor.Of(c.Kernel, c.Kernel, in, out)}
	if optional {
		shapes = append(shapes, tensor.Of(out), tensor.Of(samples, out), tensor.Of(samples, oh, ow, out))
	}
	return opCase{"conv2d " + name, shapes, func(t *autograd.Tape, p values, _ *autograd.Value) *autograd.Value {
		p = append(p, nil, nil, nil)
		return t.Conv2D(p[0], p[1], p[2], p[3], p[4], c)
	}}
}

func matMulCase(rank3, transA, transB bool) opCase {
	dims := func(r, c int, trans bool) tensor.Shape {
		if trans {
			r, c = c, r
		}
		if rank3 {
			return tensor.Of(samples, r, c)
		}
		return tensor.Of(r, c)
	}
	return opCase{
		fmt.Sprintf("matmul rank3=%v %v %v", rank3, transA, transB),
		[]tensor.Shape{dims(3, 4, transA), dims(4, 5, transB)},
		func(t *autograd.Tape, p values, _ *autograd.Value) *autograd.Value {
			return t.MatMul(p[0], p[1], transA, transB, 0.5)
		},
	}
}

func opCases() []opCase {
	image := tensor.Of(samples, 3, 2, 4)
	norm := []tensor.Shape{image, tensor.Of(4), tensor.Of(4)}
	each := []tensor.Shape{image, tensor.Of(samples, 4), tensor.Of(samples, 4)}
	shifted := append(slices.Clone(norm), tensor.Of(samples, 8))
	qkv := []tensor.Shape{tensor.Of(samples, 3, 6), tensor.Of(samples, 3, 6), tensor.Of(samples, 3, 6)}
	cases := []opCase{
		convCase("3x3 all operands", tensor.Conv{Kernel: 3, Stride: 1, PadLo: 1, PadHi: 1}, 3, 5, 2, 3, true),
		convCase("3x3 bare", tensor.Conv{Kernel: 3, Stride: 1, PadLo: 1, PadHi: 1}, 4, 4, 3, 2, false),
		convCase("strided", tensor.Conv{Kernel: 3, Stride: 2, PadLo: 1, PadHi: 1}, 6, 4, 2, 2, true),
		convCase("strided right-bottom", tensor.Conv{Kernel: 3, Stride: 2, PadLo: 0, PadHi: 1}, 4, 6, 2, 2, true),
		convCase("1x1", tensor.Conv{Kernel: 1, Stride: 1}, 2, 3, 4, 3, true),
		{"upsample", []tensor.Shape{image}, func(t *autograd.Tape, p values, _ *autograd.Value) *autograd.Value {
			return t.Upsample(p[0])
		}},
		{"add", []tensor.Shape{image, image}, func(t *autograd.Tape, p values, _ *autograd.Value) *autograd.Value {
			return t.Add(p[0], p[1])
		}},
		{"add channels", []tensor.Shape{image, tensor.Of(4)}, func(t *autograd.Tape, p values, _ *autograd.Value) *autograd.Value {
			return t.AddChannels(p[0], p[1])
		}},
		{"add channels per sample", []tensor.Shape{image, tensor.Of(samples, 4)}, func(t *autograd.Tape, p values, _ *autograd.Value) *autograd.Value {
			return t.AddChannels(p[0], p[1])
		}},
		{"silu", []tensor.Shape{image}, func(t *autograd.Tape, p values, _ *autograd.Value) *autograd.Value {
			return t.SiLU(p[0])
		}},
		{"dropout", []tensor.Shape{image}, func(t *autograd.Tape, p values, draws *autograd.Value) *autograd.Value {
			return t.Dropout(p[0], autograd.Dropout{P: 0.4, Stream: 3, Draws: draws})
		}},
		{"concat", []tensor.Shape{image, tensor.Of(samples, 3, 2, 3)}, func(t *autograd.Tape, p values, _ *autograd.Value) *autograd.Value {
			return t.Concat(p[0], p[1])
		}},
		{"split", []tensor.Shape{image}, func(t *autograd.Tape, p values, _ *autograd.Value) *autograd.Value {
			a, b := t.Split(p[0], 1)
			return t.Concat(t.SiLU(b), a)
		}},
		{"split, one part unused", []tensor.Shape{image}, func(t *autograd.Tape, p values, _ *autograd.Value) *autograd.Value {
			_, b := t.Split(p[0], 1)
			return b
		}},
		{"group norm", norm, func(t *autograd.Tape, p values, _ *autograd.Value) *autograd.Value {
			return t.GroupNorm(p[0], p[1], p[2], 2, 1e-5)
		}},
		{"group norm silu", norm, func(t *autograd.Tape, p values, _ *autograd.Value) *autograd.Value {
			return t.GroupNormSiLU(p[0], p[1], p[2], 2, 1e-5, autograd.Dropout{})
		}},
		{"group norm silu dropout", norm, func(t *autograd.Tape, p values, draws *autograd.Value) *autograd.Value {
			return t.GroupNormSiLU(p[0], p[1], p[2], 2, 1e-5, autograd.Dropout{P: 0.3, Stream: 7, Draws: draws})
		}},
		{"group norm, affine per sample", each, func(t *autograd.Tape, p values, _ *autograd.Value) *autograd.Value {
			return t.GroupNorm(p[0], p[1], p[2], 2, 1e-5)
		}},
		{"group norm silu dropout, affine per sample", each, func(t *autograd.Tape, p values, draws *autograd.Value) *autograd.Value {
			return t.GroupNormSiLU(p[0], p[1], p[2], 2, 1e-5, autograd.Dropout{P: 0.3, Stream: 7, Draws: draws})
		}},
		{"scale shift", shifted, func(t *autograd.Tape, p values, _ *autograd.Value) *autograd.Value {
			gammas, betas := t.ScaleShift(p[1], p[2], t.SiLU(p[3]))
			return t.GroupNormSiLU(p[0], gammas, betas, 2, 1e-5, autograd.Dropout{})
		}},
		{"scale shift, gammas unused", shifted[1:], func(t *autograd.Tape, p values, _ *autograd.Value) *autograd.Value {
			_, betas := t.ScaleShift(p[0], p[1], p[2])
			return betas
		}},
		{"softmax", []tensor.Shape{tensor.Of(samples, 3, 5)}, func(t *autograd.Tape, p values, _ *autograd.Value) *autograd.Value {
			return t.Softmax(p[0], 0.7)
		}},
		{"attention 1 head", qkv, func(t *autograd.Tape, p values, _ *autograd.Value) *autograd.Value {
			return t.Attention(p[0], p[1], p[2], 1, 0.4)
		}},
		{"attention 3 heads", qkv, func(t *autograd.Tape, p values, _ *autograd.Value) *autograd.Value {
			return t.Attention(p[0], p[1], p[2], 3, 0.7)
		}},
		{"view", []tensor.Shape{image}, func(t *autograd.Tape, p values, _ *autograd.Value) *autograd.Value {
			return t.SiLU(t.View(t.SiLU(p[0]), tensor.Of(samples, 24)))
		}},
		{"parameter used three times", []tensor.Shape{image}, func(t *autograd.Tape, p values, _ *autograd.Value) *autograd.Value {
			return t.Add(t.SiLU(p[0]), t.Add(p[0], p[0]))
		}},
		{"value used three times", []tensor.Shape{image}, func(t *autograd.Tape, p values, _ *autograd.Value) *autograd.Value {
			h := t.SiLU(p[0])
			return t.Concat(t.Add(t.SiLU(h), h), h)
		}},
		{"parameter as residual of itself", []tensor.Shape{image, tensor.Of(1, 1, 4, 4)}, func(t *autograd.Tape, p values, _ *autograd.Value) *autograd.Value {
			return t.Conv2D(p[0], p[1], nil, nil, p[0], tensor.Conv{Kernel: 1, Stride: 1})
		}},
		{"parameter not used", []tensor.Shape{image, image}, func(t *autograd.Tape, p values, _ *autograd.Value) *autograd.Value {
			return t.SiLU(p[0])
		}},
	}
	for i := range 8 {
		cases = append(cases, matMulCase(i&4 != 0, i&2 != 0, i&1 != 0))
	}
	return cases
}

// bench is a case compiled on a backend.
type bench struct {
	be     tensor.Backend
	params []tensor.Tensor
	grads  []tensor.Tensor
	prog   *autograd.Program
	loss   *autograd.Value
	ready  []int
}

// random allocates a tensor of normal values that depend on the stream alone.
func random(tb testing.TB, be tensor.Backend, s tensor.Shape, stream rng.Stream) tensor.Tensor {
	tb.Helper()
	host := make([]float32, s.Len())
	rng.New(11, stream).Normal(host, 0)
	buf, err := be.Alloc(tensor.F32, s.Len())
	require.NoError(tb, err)
	be.Upload(buf, host)
	return tensor.Tensor{Buf: buf, Shape: s}
}

func compile(tb testing.TB, be tensor.Backend, c opCase, storeAll bool) *bench {
	tb.Helper()
	return compileIn(tb, autograd.NewArena(be), be, c, storeAll)
}

func compileIn(tb testing.TB, arena *autograd.Arena, be tensor.Backend, c opCase, storeAll bool) *bench {
	tb.Helper()
	b := &bench{be: be}
	tape := autograd.NewTape(be, autograd.Config{Train: true, StoreAll: storeAll})
	var p values
	for i, s := range c.params {
		b.params = append(b.params, random(tb, be, s, rng.StreamInit.With(i)))
		b.grads = append(b.grads, random(tb, be, s, rng.StreamNoise.With(i))) // must be overwritten
		p = append(p, tape.Param(i, b.params[i], b.grads[i]))
	}
	draws := tape.Input(tensor.I64, tensor.Of(samples))
	y := c.build(tape, p, draws)
	target := tape.Input(tensor.F32, y.Shape())
	b.loss = tape.MSE(y, target)
	tape.Keep(b.loss)
	var err error
	b.prog, err = tape.Compile(arena)
	require.NoError(tb, err)
	ids, err := be.Alloc(tensor.I64, samples)
	require.NoError(tb, err)
	be.UploadInt64(ids, []int64{5, 1 << 40})
	b.prog.Bind(draws, tensor.Tensor{Buf: ids, Shape: tensor.Of(samples)})
	b.prog.Bind(target, random(tb, be, y.Shape(), rng.StreamSample))
	return b
}

func (b *bench) run(tb testing.TB) {
	tb.Helper()
	b.ready = b.ready[:0]
	require.NoError(tb, b.prog.Run(autograd.Step{Seed: 3, GradScale: 0.5, Ready: func(i int) { b.ready = append(b.ready, i) }}))
}

func (b *bench) host(tb testing.TB, x tensor.Tensor) []float32 {
	tb.Helper()
	host := make([]float32, x.Shape.Len())
	require.NoError(tb, b.be.Download(host, x.Buf))
	return host
}

// Every operation's gradient is right in float64, by differences, on the fused and
// on the composed path.
func TestGradientsByDifferences(t *testing.T) {
	for _, be := range []tensor.Backend{gradcheck.Backend{}, gradcheck.Fused{}} {
		for _, c := range opCases() {
			t.Run(fmt.Sprintf("%T/%s", be, c.name), func(t *testing.T) {
				b := compile(t, be, c, false)
				b.run(t)
				require.ElementsMatch(t, indices(len(c.params)), b.ready)
				require.Equal(t, b.ready, b.prog.ReadyOrder())
				loss := func() (float64, error) {
					if err := b.prog.Run(autograd.Step{Seed: 3, GradScale: 0.5}); err != nil {
						return 0, err
					}
					sum := 0.0
					for _, l := range gradcheck.Float64s(b.loss.Tensor().Buf) {
						sum += 0.5 * l
					}
					return sum, nil
				}
				var grads [][]float64
				for _, g := range b.grads {
					grads = append(grads, slices.Clone(gradcheck.Float64s(g.Buf)))
				}
				for i, grad := range grads {
					for seed := range uint64(3) {
						require.NoError(t, gradcheck.Directional(loss, gradcheck.Float64s(b.params[i].Buf), grad, 1e-3, 1e-8, 1, seed), "operand %d", i)
					}
				}
			})
		}
	}
}

func indices(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// The CPU's gradients are those of the float64 backend.
func TestGradientsOnCPU(t *testing.T) {
	be := cpu.New(cpu.Config{Threads: 2})
	t.Cleanup(func() { require.NoError(t, be.Close()) })
	for _, c := range opCases() {
		t.Run(c.name, func(t *testing.T) {
			got, want := compile(t, be, c, false), compile(t, gradcheck.Backend{}, c, false)
			got.run(t)
			want.run(t)
			for i := range c.params {
				requireClose(t, want.host(t, want.grads[i]), got.host(t, got.grads[i]), 1e-5)
			}
		})
	}
}

func requireClose(t *testing.T, want, got []float32, tolerance float64) {
	t.Helper()
	var diff, size float64
	for i := range want {
		d := float64(got[i]) - float64(want[i])
		diff += d * d
		size += float64(want[i]) * float64(want[i])
	}
	require.LessOrEqual(t, math.Sqrt(diff), tolerance*(math.Sqrt(size)+1e-3))
}
