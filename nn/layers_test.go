package nn_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/autograd"
	"github.com/agrdist/agrdist/autograd/gradcheck"
	"github.com/agrdist/agrdist/nn"
	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/tensor"
)

// apply runs one layer forward in float64: build registers it and returns what
// records it, x is the input, params the values by name in PyTorch's layout (random
// where absent; all are returned).
func apply(t *testing.T, x []float32, shape tensor.Shape, dt tensor.DType, build func(p *nn.Params) func(*autograd.Tape, *autograd.Value) *autograd.Value) (y []float32, params map[string][]float32) {
	t.Helper()
	be := gradcheck.Backend{}
	p := &nn.Params{}
	record := build(p)
	require.NoError(t, p.Alloc(be))
	flat := make([]float32, p.FlatLen())
	rng.New(4, rng.StreamInit).Normal(flat, 0)
	be.Upload(p.Values(), flat)
	params = map[string][]float32{}
	for _, w := range p.Unflatten(flat) {
		params[w.Name] = w.Data
	}
	tape := autograd.NewTape(be, autograd.Config{})
	in := tape.Input(dt, shape)
	out := record(tape, in)
	tape.Keep(out)
	program, err := tape.Compile(autograd.NewArena(be))
	require.NoError(t, err)
	buf, err := be.Alloc(dt, shape.Len())
	require.NoError(t, err)
	if dt == tensor.I64 {
		ints := make([]int64, len(x))
		for i, v := range x {
			ints[i] = int64(v)
		}
		be.UploadInt64(buf, ints)
	} else {
		be.Upload(buf, x)
	}
	program.Bind(in, tensor.Tensor{Buf: buf, Shape: shape})
	require.NoError(t, program.Run(autograd.Step{}))
	y = make([]float32, out.Shape().Len())
	require.NoError(t, be.Download(y, out.Tensor().Buf))
	return y, params
}

func normal(n int) []float32 {
	x := make([]float32, n)
	rng.New(8, rng.StreamNoise).Normal(x, 0)
	return x
}

// rows applies W x + b to rows of x, W in PyTorch's [out,in].
func rows(x []float32, params map[string][]float32, name string) []float64 {
	w, b := params[name+".weight"], params[name+".bias"]
	in := len(w) / len(b)
	var y []float64
	for r := range len(x) / in {
		for o, bias := range b {
			s := float64(bias)
			for i := range in {
				s += float64(w[o*in+i]) * float64(x[r*in+i])
			}
			y = append(y, s)
		}
	}
	return y
}

func requireNear(t *testing.T, want []float64, got []float32) {
	t.Helper()
	require.Len(t, got, len(want))
	for i := range want {
		require.InDelta(t, want[i], got[i], 1e-5*(1+math.Abs(want[i])))
	}
}

func TestLinear(t *testing.T) {
	x := normal(6 * 3)
	y, params := apply(t, x, tensor.Of(6, 3), tensor.F32, func(p *nn.Params) func(*autograd.Tape, *autograd.Value) *autograd.Value {
		return nn.NewLinear(p, "l", 3, 4).Forward
	})
	requireNear(t, rows(x, params, "l"), y)

	pixels, params := apply(t, x, tensor.Of(1, 2, 3, 3), tensor.F32, func(p *nn.Params) func(*autograd.Tape, *autograd.Value) *autograd.Value {
		l := nn.NewLinear(p, "l", 3, 4)
		return func(t *autograd.Tape, x *autograd.Value) *autograd.Value { return l.Pixels(t, x, nil) }
	})
	requireNear(t, rows(x, params, "l"), pixels)
}

// A convolution against its definition in PyTorch's layouts.
func TestConv2D(t *testing.T) {
	const h, w, in, out = 4, 6, 2, 3
	x := normal(h * w * in)
	c := tensor.Conv{Kernel: 3, Stride: 2, PadLo: 0, PadHi: 1}
	y, params := apply(t, x, tensor.Of(1, h, w, in), tensor.F32, func(p *nn.Params) func(*autograd.Tape, *autograd.Value) *autograd.Value {
		l := nn.NewConv2D(p, "c", in, out, c)
		return func(t *autograd.Tape, x *autograd.Value) *autograd.Value { return l.Forward(t, x, nil, nil) }
	})
	var want []float64
	for i := range h / 2 {
		for j := range w / 2 {
			for o := range out {
				s := float64(params["c.bias"][o])
				for ci := range in {
					for a := range 3 {
						for b := range 3 {
							if r, q := 2*i+a, 2*j+b; r < h && q < w {
								s += float64(params["c.weight"][((o*in+ci)*3+a)*3+b]) * float64(x[(r*w+q)*in+ci])
							}
						}
					}
				}
				want = append(want, s)
			}
		}
	}
	requireNear(t, want, y)
}

func TestGroupNorm(t *testing.T) {
	const pixels, channels, groups, eps = 6, 4, 2, 0.1
	x := normal(pixels * channels)
	build := func(silu bool) func(p *nn.Params) func(*autograd.Tape, *autograd.Value) *autograd.Value {
		return func(p *nn.Params) func(*autograd.Tape, *autograd.Value) *autograd.Value {
			l := nn.NewGroupNorm(p, "n", channels, groups, eps)
			return func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
				if silu {
					return l.SiLU(t, x, autograd.Dropout{})
				}
				return l.Forward(t, x)
			}
		}
	}
	y, params := apply(t, x, tensor.Of(1, 2, 3, channels), tensor.F32, build(false))
	want := make([]float64, len(x))
	for g := range groups {
		var sum, squares, n float64
		each := func(visit func(i, c int)) {
			for p := range pixels {
				for c := g * 2; c < g*2+2; c++ {
					visit(p*channels+c, c)
				}
			}
		}
		each(func(i, _ int) { sum += float64(x[i]); n++ })
		each(func(i, _ int) { squares += math.Pow(float64(x[i])-sum/n, 2) })
		each(func(i, c int) {
			want[i] = (float64(x[i])-sum/n)/math.Sqrt(squares/n+eps)*float64(params["n.weight"][c]) + float64(params["n.bias"][c])
		})
	}
	requireNear(t, want, y)
	for i, v := range want {
		want[i] = v / (1 + math.Exp(-v))
	}
	y, _ = apply(t, x, tensor.Of(1, 2, 3, channels), tensor.F32, build(true))
	requireNear(t, want, y)
}

// GroupNorm, then x (1 + s) + t with a scale and a shift for each sample and channel,
// then SiLU.
func TestGroupNormScaleShift(t *testing.T) {
	const samples, pixels, channels, groups, eps = 3, 6, 4, 2, 0.1
	x, e := normal(samples*pixels*channels), normal(samples*2*channels)
	s := tensor.Of(samples, 2, 3, channels)
	norm := func(p *nn.Params) *nn.GroupNorm { return nn.NewGroupNorm(p, "n", channels, groups, eps) }
	plain, _ := apply(t, x, s, tensor.F32, func(p *nn.Params) func(*autograd.Tape, *autograd.Value) *autograd.Value {
		return norm(p).Forward
	})
	be := gradcheck.Backend{}
	scales, err := tensor.New(be, tensor.F32, tensor.Of(samples, 2*channels))
	require.NoError(t, err)
	be.Upload(scales.Buf, e)
	y, _ := apply(t, x, s, tensor.F32, func(p *nn.Params) func(*autograd.Tape, *autograd.Value) *autograd.Value {
		l := norm(p)
		return func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
			return l.ScaleShiftSiLU(t, x, t.Param(-1, scales, tensor.Tensor{}), autograd.Dropout{})
		}
	})
	want := make([]float64, len(x))
	for i, v := range plain {
		row := e[i/(pixels*channels)*2*channels:]
		u := float64(v)*(1+float64(row[i%channels])) + float64(row[channels+i%channels])
		want[i] = u / (1 + math.Exp(-u))
	}
	requireNear(t, want, y)
}

// The embedding is Linear, SiLU, Linear of the sinusoids.
func TestEmbedding(t *testing.T) {
	for _, flip := range []bool{false, true} {
		y, params := apply(t, []float32{0, 7, 999}, tensor.Of(3), tensor.I64, func(p *nn.Params) func(*autograd.Tape, *autograd.Value) *autograd.Value {
			return nn.NewEmbedding(p, "e", 6, 5, 1, flip).Forward
		})
		var sinusoids []float32
		for _, ts := range []float64{0, 7, 999} {
			var sin, cos []float32
			for k := range 3 {
				a := ts * math.Pow(10000, -float64(k)/(3-1))
				sin, cos = append(sin, float32(math.Sin(a))), append(cos, float32(math.Cos(a)))
			}
			if flip {
				sin, cos = cos, sin
			}
			sinusoids = append(append(sinusoids, sin...), cos...)
		}
		var hidden []float32
		for _, v := range rows(sinusoids, params, "e.linear_1") {
			hidden = append(hidden, float32(v/(1+math.Exp(-v))))
		}
		requireNear(t, rows(hidden, params, "e.linear_2"), y)
	}
}

// Attention of an image whose pixels are all alike is the value projection: every
// weight of the softmax is 1/L.
func TestAttentionOfConstant(t *testing.T) {
	const c = 4
	one := normal(c)
	var x []float32
	for range 6 {
		x = append(x, one...)
	}
	var norm []float64
	y, params := apply(t, x, tensor.Of(1, 2, 3, c), tensor.F32, func(p *nn.Params) func(*autograd.Tape, *autograd.Value) *autograd.Value {
		return nn.NewAttention(p, "a", c, 2, 1, 1e-3).Forward
	})
	var mean, variance float64
	for _, v := range one {
		mean += float64(v) / c
	}
	for _, v := range one {
		variance += (float64(v) - mean) * (float64(v) - mean) / c
	}
	for i, v := range one {
		norm = append(norm, (float64(v)-mean)/math.Sqrt(variance+1e-3)*float64(params["a.group_norm.weight"][i])+float64(params["a.group_norm.bias"][i]))
	}
	narrow := func(x []float64) (y []float32) {
		for _, v := range x {
			y = append(y, float32(v))
		}
		return y
	}
	out := rows(narrow(rows(narrow(norm), params, "a.to_v")), params, "a.to_out.0")
	for i := range out {
		out[i] += float64(one[i])
	}
	for p := range 6 {
		requireNear(t, out, y[p*c:(p+1)*c])
	}
}

func TestXavierUniform(t *testing.T) {
	p := nn.Param{Kind: nn.Conv, Shape: []int{8, 4, 3, 3}, Len: 8 * 4 * 9}
	x, y := make([]float32, p.Len), make([]float32, p.Len)
	p.XavierUniform(x, 2, 1, 5)
	p.XavierUniform(y, 2, 1, 5)
	require.Equal(t, x, y)
	p.XavierUniform(y, 2, 1, 6)
	require.NotEqual(t, x, y)
	bound, sum, top := 2*math.Sqrt(6.0/((8+4)*9)), 0.0, 0.0
	for _, v := range x {
		sum += float64(v)
		top = max(top, math.Abs(float64(v)))
	}
	require.LessOrEqual(t, top, bound)
	require.Greater(t, top, 0.97*bound)
	require.InDelta(t, 0, sum/float64(p.Len), 5*bound/math.Sqrt(3*float64(p.Len)))
}
