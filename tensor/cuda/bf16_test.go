//go:build cuda

package cuda_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/autograd/gradcheck"
	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cuda"
)

// mixedCase is an operation on BF16 activations and F32 parameters.
type mixedCase struct {
	name    string
	in, out []operand
	run     func(be tensor.Backend, in, out []tensor.Tensor)
	tol     float64 // relative to the largest magnitude; 0 means that of F32 sums
}

type operand struct {
	activation bool
	shape      tensor.Shape
}

func act(dims ...int) operand   { return operand{true, tensor.Of(dims...)} }
func param(dims ...int) operand { return operand{false, tensor.Of(dims...)} }

// mixedDraws are the I64 operand of the random operations.
func mixedDraws(be tensor.Backend, n int) tensor.Tensor {
	buf, err := be.Alloc(tensor.I64, n)
	if err != nil {
		panic(err)
	}
	host := make([]int64, n)
	for i := range host {
		host[i] = int64(40 + i)
	}
	be.UploadInt64(buf, host)
	return tensor.Tensor{Buf: buf, Shape: tensor.Of(n)}
}

func mixedCases() []mixedCase {
	var all []mixedCase
	add := func(name string, in, out []operand, run func(be tensor.Backend, in, out []tensor.Tensor)) {
		all = append(all, mixedCase{name: name, in: in, out: out, run: run})
	}
	for _, d := range [][4]int{{2, 4, 4, 32}, {2, 3, 5, 7}, {1, 32, 32, 16}} {
		n, h, w, c := d[0], d[1], d[2], d[3]
		x, large := act(n, h, w, c), act(n, 2*h, 2*w, c)
		one := []operand{x}
		at := func(op string) string { return fmt.Sprintf("%s/%v", op, d) }
		add(at("Add"), []operand{x, x}, one, func(be tensor.Backend, in, out []tensor.Tensor) { be.Add(out[0], in[0], in[1]) })
		add(at("Fill, AddScaled"), one, one, func(be tensor.Backend, in, out []tensor.Tensor) {
			be.Fill(out[0], 0.5)
			be.AddScaled(out[0], in[0], 3)
		})
		add(at("Scale"), one, one, func(be tensor.Backend, in, out []tensor.Tensor) { be.Scale(out[0], in[0], 0.37) })
		add(at("SiLU"), one, one, func(be tensor.Backend, in, out []tensor.Tensor) { be.SiLU(out[0], in[0]) })
		add(at("SiLUGrad"), []operand{x, x}, one, func(be tensor.Backend, in, out []tensor.Tensor) { be.SiLUGrad(out[0], in[0], in[1]) })
		addChannels := func(be tensor.Backend, in, out []tensor.Tensor) { be.AddChannels(out[0], in[0], in[1]) }
		add(at("AddChannels/bias"), []operand{x, param(c)}, one, addChannels)
		add(at("AddChannels/sample"), []operand{x, act(n, c)}, one, addChannels)
		add(at("Concat"), []operand{x, act(n, h, w, 8)}, []operand{act(n, h, w, c+8)},
			func(be tensor.Backend, in, out []tensor.Tensor) { be.Concat(out[0], in[0], in[1]) })
		add(at("Split"), []operand{act(n, h, w, c+8)}, []operand{x, act(n, h, w, 8)},
			func(be tensor.Backend, in, out []tensor.Tensor) { be.Split(out[0], out[1], in[0]) })
		add(at("QSample"), []operand{x, x, param(n), param(n)}, one,
			func(be tensor.Backend, in, out []tensor.Tensor) { be.QSample(out[0], in[0], in[1], in[2], in[3]) })
		sum := func(be tensor.Backend, in, out []tensor.Tensor) { be.SumChannels(out[0], in[0]) }
		add(at("SumChannels/all"), one, []operand{param(c)}, sum)
		add(at("SumChannels/sample"), one, []operand{act(n, c)}, sum)
		add(at("MSE"), []operand{x, x}, []operand{param(n), x},
			func(be tensor.Backend, in, out []tensor.Tensor) { be.MSE(out[0], out[1], in[0], in[1], 0.25) })
		add(at("Normal"), nil, one, func(be tensor.Backend, _, out []tensor.Tensor) {
			be.Normal(out[0], mixedDraws(be, n), 7, uint32(rng.StreamNoise))
		})
		add(at("Dropout"), one, one, func(be tensor.Backend, in, out []tensor.Tensor) {
			be.Dropout(out[0], in[0], mixedDraws(be, n), 0.3, 7, uint32(rng.StreamDropout))
		})
		add(at("Softmax"), one, one, func(be tensor.Backend, in, out []tensor.Tensor) { be.Softmax(out[0], in[0], 0.6) })
		add(at("SoftmaxGrad"), []operand{x, x}, one,
			func(be tensor.Backend, in, out []tensor.Tensor) { be.SoftmaxGrad(out[0], in[0], in[1], 0.6) })
		add(at("Upsample"), one, []operand{large}, func(be tensor.Backend, in, out []tensor.Tensor) { be.Upsample(out[0], in[0]) })
		add(at("UpsampleGrad"), []operand{large}, one,
			func(be tensor.Backend, in, out []tensor.Tensor) { be.UpsampleGrad(out[0], in[0]) })
		add(at("TimestepEmbedding"), nil, []operand{act(n, 2*c)}, func(be tensor.Backend, _, out []tensor.Tensor) {
			be.TimestepEmbedding(out[0], mixedDraws(be, n), 0, false)
		})
		for _, groups := range []int{1, c / 4 / 2 * 2, c} {
			if groups > 0 && c%groups == 0 {
				all = append(all, mixedNorms(n, h, w, c, groups)...)
			}
		}
	}
	product := func(args tensor.MatMulArgs) func(be tensor.Backend, in, out []tensor.Tensor) {
		return func(be tensor.Backend, in, out []tensor.Tensor) { be.MatMul(out[0], in[0], in[1], args) }
	}
	add("MatMul", []operand{act(2, 9, 24), act(2, 24, 16)}, []operand{act(2, 9, 16)}, product(tensor.MatMulArgs{Alpha: 0.5}))
	add("MatMul, transposed", []operand{act(24, 9), act(16, 24)}, []operand{act(9, 16)},
		product(tensor.MatMulArgs{TransA: true, TransB: true, Alpha: 1}))
	one := tensor.Conv{Kernel: 1, Stride: 1}
	image, wide, w := act(2, 3, 5, 24), act(2, 3, 5, 16), act(1, 1, 24, 16)
	add("Conv2D 1x1", []operand{image, w}, []operand{wide}, func(be tensor.Backend, in, out []tensor.Tensor) {
		be.Conv2D(out[0], in[0], in[1], tensor.Tensor{}, tensor.Tensor{}, tensor.Tensor{}, one)
	})
	add("Conv2DInputGrad 1x1", []operand{wide, w}, []operand{image}, func(be tensor.Backend, in, out []tensor.Tensor) {
		be.Conv2DInputGrad(out[0], in[0], in[1], one)
	})
	return append(all, mixedAttention()...)
}

func mixedNorms(n, h, w, c, groups int) []mixedCase {
	x, v, m := act(n, h, w, c), param(c), param(n, groups)
	drop := func(be tensor.Backend) tensor.Dropout {
		return tensor.Dropout{P: 0.3, Seed: 3, Stream: 6, Draws: mixedDraws(be, n)}
	}
	at := func(op string) string { return fmt.Sprintf("%s/%v/%d", op, x.shape, groups) }
	return []mixedCase{
		{name: at("GroupNorm"), in: []operand{x, v, v}, out: []operand{x, m, m}, run: func(be tensor.Backend, in, out []tensor.Tensor) {
			be.GroupNorm(out[0], out[1], out[2], in[0], in[1], in[2], groups, 1e-5)
		}},
		{name: at("GroupNormGrad"), in: []operand{x, x, v, v}, out: []operand{x, v, v, x, m, m}, run: func(be tensor.Backend, in, out []tensor.Tensor) {
			be.GroupNorm(out[3], out[4], out[5], in[1], in[2], in[3], groups, 1e-5)
			be.GroupNormGrad(out[0], out[1], out[2], in[0], in[1], in[2], out[4], out[5], groups)
		}},
		{name: at("GroupNormSiLU"), in: []operand{x, v, v}, out: []operand{x, m, m}, run: func(be tensor.Backend, in, out []tensor.Tensor) {
			be.(tensor.GroupNormSiLU).GroupNormSiLU(out[0], out[1], out[2], in[0], in[1], in[2], groups, 1e-5, drop(be))
		}},
		{name: at("GroupNormSiLUGrad"), in: []operand{x, x, v, v}, out: []operand{x, v, v, x, m, m}, run: func(be tensor.Backend, in, out []tensor.Tensor) {
			be.GroupNorm(out[3], out[4], out[5], in[1], in[2], in[3], groups, 1e-5)
			be.(tensor.GroupNormSiLU).GroupNormSiLUGrad(out[0], out[1], out[2], in[0], in[1], in[2], in[3], out[4], out[5],
				groups, drop(be))
		}},
	}
}

// mixedAttention has narrow and wide heads.
func mixedAttention() []mixedCase {
	return []mixedCase{
		attentionCase(2, 16, 32, 2), attentionCase(1, 70, 24, 1), attentionCase(2, 17, 48, 1), attentionCase(1, 80, 80, 2),
	}
}

// attentionCase is Attention and its gradient for [n, l, c].
func attentionCase(n, l, c, heads int) mixedCase {
	x, sums := act(n, l, c), param(n, heads, l)
	scale := float32(1 / math.Sqrt(float64(c/heads)))
	return mixedCase{
		name: fmt.Sprintf("Attention/%d,%d,%d/%d", n, l, c, heads), in: []operand{x, x, x, x}, out: []operand{x, x, x, x, sums},
		tol: 1.0 / 256, // the gradient reads y and, in wide heads, probabilities: they are rounded
		run: func(be tensor.Backend, in, out []tensor.Tensor) {
			a := be.(tensor.Attention)
			a.Attention(out[3], out[4], in[0], in[1], in[2], heads, scale)
			a.AttentionGrad(out[0], out[1], out[2], in[3], out[3], out[4], in[0], in[1], in[2], heads, scale)
		},
	}
}

// On BF16 activations every operation computes in F32 what float64 gives on the
// same values, and rounds once.
func TestBF16(t *testing.T) {
	be := open(t)
	for _, c := range mixedCases() {
		t.Run(c.name, func(t *testing.T) {
			want, got := c.results(t, gradcheck.Fused{}), c.results(t, be)
			require.Equal(t, got, c.results(t, be), "two calls")
			for i, w := range want {
				relative := 0.0
				if c.out[i].activation {
					relative = 1.0 / 250 // half a unit in the last place, and a little
				}
				requireElements(t, w, got[i], max(c.tol, 2e-5), relative, "output %d", i)
			}
		})
	}
}

// results runs the case. Activations are BF16 on the device and have such values in
// the reference.
func (c *mixedCase) results(t *testing.T, be tensor.Backend) [][]float32 {
	t.Helper()
	_, device := be.(*cuda.Backend)
	place := func(o operand, v []float32) tensor.Tensor {
		dt := tensor.F32
		if o.activation && device {
			dt = tensor.BF16
		}
		return tensor.Tensor{Buf: alloc(t, be, dt, v), Shape: o.shape}
	}
	var in, out []tensor.Tensor
	for i, o := range c.in {
		v := normal(100+i, o.shape.Len())
		if o.activation {
			for j, x := range v {
				v[j] = math.Float32frombits(math.Float32bits(x) &^ 0xffff)
			}
		}
		in = append(in, place(o, v))
	}
	for _, o := range c.out {
		out = append(out, place(o, normal(200, o.shape.Len())))
	}
	c.run(be, in, out)
	var results [][]float32
	for _, o := range out {
		results = append(results, download(t, be, o.Buf))
	}
	return results
}

// Products and 1x1 convolutions of BF16 operands with a BF16 result are one call of
// the library, with a bias or residual one kernel more: nothing is cast.
func TestBF16ProductsCastNothing(t *testing.T) {
	be := open(t)
	place := func(shape tensor.Shape, dt tensor.DType) tensor.Tensor {
		return tensor.Tensor{Buf: alloc(t, be, dt, normal(1, shape.Len())), Shape: shape}
	}
	m := place(tensor.Of(16, 16), tensor.BF16)
	image := func() tensor.Tensor { return place(tensor.Of(2, 4, 4, 16), tensor.BF16) }
	x, y, z, w := image(), image(), image(), place(tensor.Of(1, 1, 16, 16), tensor.BF16)
	bias, conv := place(tensor.Of(16), tensor.F32), tensor.Conv{Kernel: 1, Stride: 1}
	for name, c := range map[string]struct {
		run     func()
		kernels int
	}{
		"product": {func() { be.MatMul(place(tensor.Of(16, 16), tensor.BF16), m, m, tensor.MatMulArgs{Alpha: 1}) }, 0},
		"added": {func() {
			be.MatMul(m, place(tensor.Of(16, 16), tensor.BF16), w.View(tensor.Of(16, 16)), tensor.MatMulArgs{Alpha: 1, Beta: 1})
		}, 0},
		"forward":        {func() { be.Conv2D(y, x, w, tensor.Tensor{}, tensor.Tensor{}, tensor.Tensor{}, conv) }, 0},
		"with terms":     {func() { be.Conv2D(y, x, w, bias, tensor.Tensor{}, z, conv) }, 1},
		"input gradient": {func() { be.Conv2DInputGrad(y, x, w, conv) }, 0},
	} {
		c.run() // finds the algorithm
		calls := cudatest.CallsOf(t, c.run)
		require.Equal(t, 1, calls.Libraries, name)
		require.Equal(t, c.kernels, calls.Kernels, name)
	}
}
