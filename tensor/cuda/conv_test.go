//go:build cuda

package cuda_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/autograd/gradcheck"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu"
	"github.com/agrdist/agrdist/tensor/cuda"
)

func openWith(t *testing.T, c cuda.Config) *cuda.Backend {
	t.Helper()
	be, err := cuda.New(c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, be.Close()) })
	return be
}

// roundBits rounds to nearest even, dropping so many bits of the mantissa.
func roundBits(v []float32, dropped uint) []float32 {
	out := make([]float32, len(v))
	for i, x := range v {
		u := math.Float32bits(x)
		u += 1<<(dropped-1) - 1 + u>>dropped&1
		out[i] = math.Float32frombits(u >> dropped << dropped)
	}
	return out
}

const (
	bf16Bits = 16 // bits that BF16 drops
	tf32Bits = 13
)

// place is a tensor on a backend; in the float64 reference all types are one.
func place(t *testing.T, be tensor.Backend, dt tensor.DType, v []float32, s tensor.Shape) tensor.Tensor {
	t.Helper()
	if _, ok := be.(*cuda.Backend); !ok {
		dt = tensor.F32
	}
	return tensor.Tensor{Buf: alloc(t, be, dt, v), Shape: s}
}

var convCases = []struct {
	n, h, w, ci, co int
	c               tensor.Conv
}{
	{2, 8, 8, 3, 32, tensor.Conv{Kernel: 3, Stride: 1, PadLo: 1, PadHi: 1}}, // ends of a network
	{2, 8, 8, 32, 3, tensor.Conv{Kernel: 3, Stride: 1, PadLo: 1, PadHi: 1}},
	{1, 6, 6, 1, 8, tensor.Conv{Kernel: 3, Stride: 1, PadLo: 1, PadHi: 1}},
	{2, 4, 4, 16, 24, tensor.Conv{Kernel: 3, Stride: 1, PadLo: 1, PadHi: 1}}, // nothing to pad
	{2, 7, 5, 12, 20, tensor.Conv{Kernel: 3, Stride: 2, PadLo: 1, PadHi: 1}},
	{2, 8, 8, 16, 16, tensor.Conv{Kernel: 3, Stride: 2, PadLo: 0, PadHi: 1}}, // an odd margin
	{1, 7, 6, 5, 9, tensor.Conv{Kernel: 3, Stride: 2, PadLo: 0, PadHi: 1}},
	{2, 6, 5, 8, 8, tensor.Conv{Kernel: 3, Stride: 2, PadLo: 1, PadHi: 0}},
	{1, 4, 6, 3, 8, tensor.Conv{Kernel: 3, Stride: 1, PadLo: 2, PadHi: 1}},
	{2, 5, 4, 33, 40, tensor.Conv{Kernel: 1, Stride: 1}}, // matrix products
	{2, 4, 4, 16, 32, tensor.Conv{Kernel: 1, Stride: 1}},
	{1, 5, 5, 8, 6, tensor.Conv{Kernel: 1, Stride: 2}},
}

// convResults runs the three directions: y, dx, dw, db. The matmul and convolution inputs
// are rounded as asked, which the device is to do by itself.
func convResults(t *testing.T, be tensor.Backend, i int, act tensor.DType, round func([]float32) []float32) [][]float32 {
	t.Helper()
	k := convCases[i]
	xs, ys := tensor.Of(k.n, k.h, k.w, k.ci), tensor.Of(k.n, k.c.OutSize(k.h), k.c.OutSize(k.w), k.co)
	ws := tensor.Of(k.c.Kernel, k.c.Kernel, k.ci, k.co)
	x := place(t, be, act, round(normal(1, xs.Len())), xs)
	w := place(t, be, tensor.F32, round(normal(2, ws.Len())), ws)
	dy := place(t, be, act, round(normal(3, ys.Len())), ys)
	bias := place(t, be, tensor.F32, normal(4, k.co), tensor.Of(k.co))
	per := place(t, be, tensor.F32, normal(5, k.n*k.co), tensor.Of(k.n, k.co))
	y := place(t, be, act, roundBits(normal(6, ys.Len()), bf16Bits), ys) // the residual
	dx := place(t, be, act, normal(7, xs.Len()), xs)
	dw := place(t, be, tensor.F32, normal(8, ws.Len()), ws)
	db := place(t, be, tensor.F32, normal(9, k.co), tensor.Of(k.co))
	be.Conv2D(y, x, w, bias, per, y, k.c)
	be.Conv2DInputGrad(dx, dy, w, k.c)
	be.Conv2DWeightGrad(dw, db, x, dy, k.c)
	return [][]float32{download(t, be, y.Buf), download(t, be, dx.Buf), download(t, be, dw.Buf), download(t, be, db.Buf)}
}

// requireNear allows errors relative to the largest magnitude.
func requireNear(t *testing.T, want, got []float32, tolerance float64, what string) {
	t.Helper()
	largest := 0.0
	for _, v := range want {
		largest = max(largest, math.Abs(float64(v)))
	}
	for j, v := range want {
		require.InDelta(t, v, got[j], tolerance*largest, "%s: element %d of %d", what, j, len(want))
	}
}

func unrounded(v []float32) []float32 { return v }

// fewerBits says how many bits the inputs keep.
type fewerBits struct {
	name      string
	config    cuda.Config
	act       tensor.DType
	dropped   uint    // of an operand's mantissa
	tolerance float64 // what the sums, and what stores the result, round
}

var precisions = []fewerBits{
	{"F32", cuda.Config{}, tensor.F32, 0, 1e-5},
	{"TF32", cuda.Config{TF32: true}, tensor.F32, tf32Bits, tf32Tolerance()},
	{"BF16 products", cuda.Config{BF16: true}, tensor.F32, bf16Bits, 1.0 / 256},
	{"BF16 activations", cuda.Config{}, tensor.BF16, bf16Bits, 1.0 / 128}, // the result is rounded twice
}

// tf32Tolerance: the doubles round matmul and convolution inputs to nearest even, tensor
// cores read their upper 19 bits. The inputs then differ by up to 2^-10 of themselves.
func tf32Tolerance() float64 {
	if cudatest.Real() {
		return 2e-3
	}
	return 1e-5
}

// products is the tolerance where the result is stored in F32.
func (b fewerBits) products() float64 {
	if b.config.TF32 {
		return b.tolerance
	}
	return 1e-5
}

func (b fewerBits) round(v []float32) []float32 {
	if b.dropped == 0 {
		return v
	}
	return roundBits(v, b.dropped)
}

// In fewer bits, matmul and convolution inputs are what is rounded, and nothing
// else: the result is that of float64 on rounded operands, up to the sums' own
// rounding and, for BF16, that of what is stored in it.
func TestConvolutions(t *testing.T) {
	for _, mode := range precisions {
		be := openWith(t, mode.config)
		for i, k := range convCases {
			name := fmt.Sprintf("%s %+v", mode.name, k)
			want := convResults(t, gradcheck.Fused{}, i, mode.act, mode.round)
			got := convResults(t, be, i, mode.act, unrounded)
			require.Equal(t, got, convResults(t, be, i, mode.act, unrounded), "%s: two calls", name)
			full := convResults(t, gradcheck.Fused{}, i, mode.act, unrounded)
			if mode.dropped > 0 {
				require.NotEqual(t, full[1], got[1], "%s: nothing was rounded", name)
			}
			tolerance := mode.tolerance
			if k.c.Kernel == 1 && k.c.Stride == 1 && mode.act == tensor.F32 {
				tolerance = mode.products() // cuBLASLt writes F32
			}
			for j, what := range []string{"y", "dx", "dw"} {
				requireNear(t, want[j], got[j], tolerance, name+": "+what)
			}
			if mode.act == tensor.F32 {
				requireNear(t, full[3], got[3], 1e-5, name+": db") // sums round no inputs
			}
		}
	}
}

// Where cuDNN finds no algorithm, convolutions are matrix products of patches, in batches
// where those are many.
func TestConvolutionsWithoutAlgorithm(t *testing.T) {
	if cudatest.Real() {
		t.Skip("cuDNN has algorithms")
	}
	t.Setenv("AGRDIST_FAKE_CUDNN", "none")
	for _, mode := range precisions {
		be := openWith(t, mode.config)
		be.PatchesForTest(20000) // turns of one image or a few
		for i, k := range convCases {
			want := convResults(t, gradcheck.Fused{}, i, mode.act, mode.round)
			got := convResults(t, be, i, mode.act, unrounded)
			tolerance := 1e-5 // cuBLASLt writes F32
			if mode.act == tensor.BF16 {
				tolerance = mode.tolerance
			}
			for j, what := range []string{"y", "dx", "dw"} {
				requireNear(t, want[j], got[j], tolerance, fmt.Sprintf("%s %+v: %s", mode.name, k, what))
			}
		}
	}
}

// Where cuDNN does not run what it offers, the next algorithm is taken, and patches behind
// the last; each is said once.
func TestRefusedAlgorithms(t *testing.T) {
	cudatest.Doubles(t, "cuDNN runs what it offers")
	for mode, want := range map[string]struct{ next, patches int }{
		"refuse": {next: 3}, "refuse-all": {next: 6, patches: 3},
	} {
		t.Run(mode, func(t *testing.T) {
			t.Setenv("AGRDIST_FAKE_CUDNN", mode)
			var log bytes.Buffer
			be := openWith(t, cuda.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			for range 2 {
				want := convResults(t, gradcheck.Fused{}, 0, tensor.F32, unrounded)
				got := convResults(t, be, 0, tensor.F32, unrounded)
				for j, what := range []string{"y", "dx", "dw"} {
					requireNear(t, want[j], got[j], 1e-5, what)
				}
			}
			require.Equal(t, want.next, strings.Count(log.String(), "refuses an algorithm"), log.String())
			require.Equal(t, want.patches, strings.Count(log.String(), "matrix product of patches"), log.String())
		})
	}
}

// Operands may begin anywhere: an address that the libraries do not take goes
// through scratch memory, or to an algorithm that takes it.
func TestOperandsAnywhere(t *testing.T) {
	be := open(t)
	n := func(s tensor.Shape, id, off int) tensor.Tensor {
		buf := alloc(t, be, tensor.F32, append(make([]float32, off), normal(id, s.Len())...))
		return tensor.Tensor{Buf: be.Slice(buf, off, s.Len()), Shape: s}
	}
	var first [][]float32
	for _, off := range []int{0, 1, 4, 16} {
		c := tensor.Conv{Kernel: 3, Stride: 1, PadLo: 1, PadHi: 1}
		x, w, y := n(tensor.Of(2, 4, 4, 8), 1, off), n(tensor.Of(3, 3, 8, 8), 2, off), n(tensor.Of(2, 4, 4, 8), 3, off)
		dx, dw := n(x.Shape, 4, off), n(w.Shape, 5, off)
		bias := n(tensor.Of(8), 6, off)
		be.Conv2DInputGrad(dx, y, w, c)
		be.Conv2DWeightGrad(dw, tensor.Tensor{}, x, y, c)
		be.Conv2D(y, x, w, bias, tensor.Tensor{}, y, c)
		a, b, d := n(tensor.Of(8, 12), 7, off), n(tensor.Of(12, 16), 8, off), n(tensor.Of(8, 16), 9, off)
		be.MatMul(d, a, b, tensor.MatMulArgs{Alpha: 1, Beta: 1})
		var got [][]float32
		for _, r := range []tensor.Tensor{y, dx, dw, d} {
			got = append(got, download(t, be, r.Buf))
		}
		if first == nil {
			first = got
		}
		for i := range got {
			requireNear(t, first[i], got[i], 1e-6, fmt.Sprintf("offset %d, result %d", off, i))
		}
	}
	require.NoError(t, be.Sync())
}

// Matrix products in fewer bits, into F32 and BF16.
func TestProducts(t *testing.T) {
	shapes := [3]tensor.Shape{tensor.Of(2, 7, 5), tensor.Of(2, 9, 5), tensor.Of(2, 7, 9)}
	run := func(be tensor.Backend, act tensor.DType, round func([]float32) []float32) []float32 {
		a, b := round(normal(1, shapes[0].Len())), round(normal(2, shapes[1].Len()))
		dst := place(t, be, act, roundBits(normal(3, shapes[2].Len()), bf16Bits), shapes[2])
		be.MatMul(dst, place(t, be, act, a, shapes[0]), place(t, be, tensor.F32, b, shapes[1]),
			tensor.MatMulArgs{TransB: true, Alpha: 0.5, Beta: 2})
		return download(t, be, dst.Buf)
	}
	for _, mode := range precisions {
		want := run(gradcheck.Fused{}, mode.act, mode.round)
		got := run(openWith(t, mode.config), mode.act, unrounded)
		tolerance := mode.products()
		if mode.act == tensor.BF16 {
			tolerance = 1.0 / 256
		}
		requireNear(t, want, got, tolerance, mode.name)
	}
}

// With products and activations in fewer bits the gradients of a network are still
// the host's: to 2e-2 of a tensor's norm in BF16, but for queries and keys, which
// rounding the operands alone takes past that, and narrow networks (ADR 15); to 1e-2
// in TF32. The whole gradient moves by 1.1 % at most.
func TestUNetInFewerBits(t *testing.T) {
	host := cpu.New(cpu.Config{Threads: 2})
	t.Cleanup(func() { require.NoError(t, host.Close()) })
	wide := unet.Digits()
	wide.BlockOutChannels, wide.NormNumGroups = []int{64, 128}, 16
	for name, c := range map[string]struct {
		net  unet.Config
		bf16 float64 // of each tensor's norm
	}{"64 and 128 channels": {wide, 2e-2}, "16 and 48 channels": {smallUNet(), 3.6e-2}} {
		t.Run(name, func(t *testing.T) { inFewerBits(t, host, c.net, c.bf16) })
	}
}

func inFewerBits(t *testing.T, host tensor.Backend, c unet.Config, bf16 float64) {
	t.Helper()
	wantLoss, want := unetPass(t, host, c)
	global := 0.0
	for _, g := range want {
		global = math.Hypot(global, norm(g))
	}
	for name, mode := range map[string]struct {
		config    cuda.Config
		tolerance float64
	}{"BF16": {cuda.Config{BF16: true}, bf16}, "TF32": {cuda.Config{TF32: true}, 1e-2}} {
		loss, got := unetPass(t, openWith(t, mode.config), c)
		require.InEpsilon(t, wantLoss, loss, 5e-3, name)
		worst, moved := 0.0, 0.0
		for key, w := range want {
			diff := make([]float32, len(w))
			for i := range w {
				diff[i] = got[key][i] - w[i]
			}
			tolerance := mode.tolerance
			if name == "BF16" && (strings.Contains(key, ".to_q.") || strings.Contains(key, ".to_k.")) {
				tolerance = max(tolerance, 3e-2)
			}
			moved = math.Hypot(moved, norm(diff))
			worst = max(worst, norm(diff)/max(norm(w), 1e-2*global))
			require.LessOrEqual(t, norm(diff), tolerance*max(norm(w), 1e-2*global), "%s: %s", name, key)
		}
		require.LessOrEqual(t, moved, 1.1e-2*global, name)
		require.Greater(t, worst, 1e-5, "%s: nothing was rounded", name)
		t.Logf("%s: whole %.3g, worst tensor %.3g of its norm", name, moved/global, worst)
	}
}
