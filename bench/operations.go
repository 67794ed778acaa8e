package bench

import (
	"fmt"

	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/tensor"
)

// workbench allocates operands. The first failure stays in err, and what is
// allocated after it is absent.
type workbench struct {
	be   tensor.Backend
	used []tensor.Buffer
	err  error
}

// zeros allocates.
func (w *workbench) zeros(dt tensor.DType, dims ...int) tensor.Tensor {
	s := tensor.Of(dims...)
	if w.err != nil {
		return tensor.Tensor{}
	}
	var buf tensor.Buffer
	if buf, w.err = w.be.Alloc(dt, s.Len()); w.err != nil {
		return tensor.Tensor{}
	}
	w.used = append(w.used, buf)
	return tensor.Tensor{Buf: buf, Shape: s}
}

// normal allocates standard normal values.
func (w *workbench) normal(dims ...int) tensor.Tensor {
	t := w.zeros(tensor.F32, dims...)
	if t.Present() {
		host := make([]float32, t.Shape.Len())
		rng.New(1, rng.StreamNoise).Normal(host, uint64(len(w.used)))
		w.be.Upload(t.Buf, host)
	}
	return t
}

// draws allocates the numbers of n samples.
func (w *workbench) draws(n int) tensor.Tensor {
	t := w.zeros(tensor.I64, n)
	if t.Present() {
		host := make([]int64, n)
		for i := range host {
			host[i] = int64(i)
		}
		w.be.UploadInt64(t.Buf, host)
	}
	return t
}

func (w *workbench) free() {
	for _, b := range w.used {
		w.be.Free(b)
	}
}

var (
	same3x3 = tensor.Conv{Kernel: 3, Stride: 1, PadLo: 1, PadHi: 1}
	none    tensor.Tensor
)

// operations lists what a step of the UNet is made of, at its shapes: the first
// three of the full model at batch 8, the others of the small one at batch 32.
func operations(be tensor.Backend) []operation {
	var list []operation
	for _, s := range [][3]int{{8, 128, 32}, {8, 256, 16}, {16, 256, 8}, {32, 32, 32}, {32, 64, 16}} {
		list = append(list, convolutions(s[0], s[1], s[2])...)
	}
	for _, s := range [][3]int{{8 * 16 * 16, 256, 256}, {8 * 32 * 32, 256, 128}} {
		list = append(list, product("conv1x1", s[0], s[1], s[2]))
	}
	list = append(list, product("gemm", 512, 512, 512))
	list = append(list, norms(be, 8, 128, 32)...)
	list = append(list, attentions(be, 8, 16*16, 256)...)
	return append(list, dropout(8, 128, 32))
}

// convolutions is the 3x3 convolution of [n,size,size,c] to as many channels, and
// its gradients.
func convolutions(n, c, size int) []operation {
	shape := fmt.Sprintf("%dx%dx%dx%d", n, size, size, c)
	flop := float64(2 * n * size * size * 9 * c * c)
	op := func(name string, run func(be tensor.Backend, x, y, w, bias tensor.Tensor)) operation {
		return operation{name: name, shape: shape, flop: flop, prepare: func(w *workbench) func() {
			x, y := w.normal(n, size, size, c), w.normal(n, size, size, c)
			weight, bias := w.normal(3, 3, c, c), w.normal(c)
			return func() { run(w.be, x, y, weight, bias) }
		}}
	}
	return []operation{
		op("conv3x3", func(be tensor.Backend, x, y, w, bias tensor.Tensor) {
			be.Conv2D(y, x, w, bias, none, none, same3x3)
		}),
		op("conv3x3.input_grad", func(be tensor.Backend, x, y, w, _ tensor.Tensor) {
			be.Conv2DInputGrad(x, y, w, same3x3)
		}),
		op("conv3x3.weight_grad", func(be tensor.Backend, x, y, w, bias tensor.Tensor) {
			be.Conv2DWeightGrad(w, bias, x, y, same3x3)
		}),
	}
}

// product is [m,k] by [k,n].
func product(name string, m, k, n int) operation {
	return operation{
		name: name, shape: fmt.Sprintf("%dx%dx%d", m, k, n), flop: float64(2 * m * k * n),
		prepare: func(w *workbench) func() {
			dst, a, b := w.zeros(tensor.F32, m, n), w.normal(m, k), w.normal(k, n)
			return func() { w.be.MatMul(dst, a, b, tensor.MatMulArgs{Alpha: 1}) }
		},
	}
}

// norms is GroupNorm + SiLU and its gradient, in 32 groups. The bytes are those of
// a single pass: x read and y written; x and dy read and dx written.
func norms(be tensor.Backend, n, c, size int) []operation {
	fused, ok := be.(tensor.GroupNormSiLU)
	if !ok {
		return nil
	}
	shape := fmt.Sprintf("%dx%dx%dx%d", n, size, size, c)
	tensorBytes := float64(4 * n * size * size * c)
	op := func(name string, tensors float64, backward bool) operation {
		return operation{name: name, shape: shape, bytes: tensors * tensorBytes, prepare: func(w *workbench) func() {
			x, y, dy := w.normal(n, size, size, c), w.zeros(tensor.F32, n, size, size, c), w.normal(n, size, size, c)
			gamma, beta, dgamma, dbeta := w.normal(c), w.normal(c), w.normal(c), w.normal(c)
			mean, rstd := w.zeros(tensor.F32, n, 32), w.zeros(tensor.F32, n, 32)
			if w.err != nil {
				return nil
			}
			forward := func() { fused.GroupNormSiLU(y, mean, rstd, x, gamma, beta, 32, 1e-5, tensor.Dropout{}) }
			if !backward {
				return forward
			}
			forward() // the moments
			return func() {
				fused.GroupNormSiLUGrad(y, dgamma, dbeta, dy, x, gamma, beta, mean, rstd, 32, tensor.Dropout{})
			}
		}}
	}
	return []operation{op("groupnorm_silu", 2, false), op("groupnorm_silu.grad", 3, true)}
}

// attentions is one head of c channels over l pixels; a backend that composes it
// of products and a softmax has nothing of its own to measure. The gradient's
// operations are its four matmuls; computing the scores again is not counted.
func attentions(be tensor.Backend, n, l, c int) []operation {
	fused, ok := be.(tensor.Attention)
	if !ok {
		return nil
	}
	shape := fmt.Sprintf("%dx%dx%d", n, l, c)
	products := func(count int) float64 { return float64(count) * float64(2*n*l*l*c) }
	const scale = 1.0 / 16 // 1/sqrt(256)
	op := func(name string, flop float64, backward bool) operation {
		return operation{name: name, shape: shape, flop: flop, prepare: func(w *workbench) func() {
			q, k, v := w.normal(n, l, c), w.normal(n, l, c), w.normal(n, l, c)
			y, lse := w.zeros(tensor.F32, n, l, c), w.zeros(tensor.F32, n, 1, l)
			dy, dq, dk, dv := w.normal(n, l, c), w.normal(n, l, c), w.normal(n, l, c), w.normal(n, l, c)
			if w.err != nil {
				return nil
			}
			forward := func() { fused.Attention(y, lse, q, k, v, 1, scale) }
			if !backward {
				return forward
			}
			forward() // the log-sum-exp
			return func() { fused.AttentionGrad(dq, dk, dv, dy, y, lse, q, k, v, 1, scale) }
		}}
	}
	return []operation{op("attention", products(2), false), op("attention.grad", products(4), true)}
}

func dropout(n, c, size int) operation {
	return operation{
		name: "dropout", shape: fmt.Sprintf("%dx%dx%dx%d", n, size, size, c),
		bytes: float64(2 * 4 * n * size * size * c),
		prepare: func(w *workbench) func() {
			x, y, draws := w.normal(n, size, size, c), w.zeros(tensor.F32, n, size, size, c), w.draws(n)
			return func() { w.be.Dropout(y, x, draws, 0.1, 1, uint32(rng.StreamDropout)) }
		},
	}
}
