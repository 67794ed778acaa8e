package shapes_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/internal/shapes"
)

const checks = shapes.Checks("gpu")

// of is an operand of which only the shape is looked at.
func of(dims ...int) tensor.Tensor { return tensor.Tensor{Shape: tensor.Of(dims...)} }

func TestMistakesPanicWithTheShapes(t *testing.T) {
	conv := func(x, w, y tensor.Tensor, c tensor.Conv) func() {
		return func() { checks.Conv("Conv2D", x, w, y, c) }
	}
	product := func(dst, x, y tensor.Shape, args tensor.MatMulArgs) func() {
		return func() { checks.MatMul(dst, x, y, args) }
	}
	x, w, y := of(2, 8, 6, 3), of(3, 3, 3, 5), of(2, 8, 6, 5)
	c := tensor.Conv{Kernel: 3, Stride: 1, PadLo: 1, PadHi: 1}
	for _, m := range []struct {
		call func()
		want string
	}{
		{func() { checks.SameLen("Upload", 3, 4) }, "gpu: Upload: lengths 3 and 4"},
		{func() { checks.Same("Add", of(2, 3), of(3, 2)) }, "gpu: Add: shapes [2 3] and [3 2]"},
		{func() { checks.Same("Add", of(6), of(6, 1)) }, "gpu: Add: shapes [6] and [6 1]"},
		{func() { checks.Want("Conv2D", "bias", of(4), tensor.Of(5)) }, "gpu: Conv2D: bias is [4], want [5]"},
		{func() { checks.Rank("Attention", "q", of(2, 3), 3) }, "gpu: Attention: q is [2 3], want 3 dimensions"},

		{conv(of(8, 6, 3), w, y, c), "gpu: Conv2D: x is [8 6 3], want 4 dimensions"},
		{conv(x, w, of(8, 6, 5), c), "gpu: Conv2D: y is [8 6 5], want 4 dimensions"},
		{conv(x, of(9, 3, 5), y, c), "gpu: Conv2D: w is [9 3 5], want 4 dimensions"},
		{conv(x, w, y, tensor.Conv{Kernel: 5, Stride: 1}), "gpu: Conv2D: unsupported convolution {Kernel:5 Stride:1 PadLo:0 PadHi:0}"},
		{conv(x, w, y, tensor.Conv{Kernel: 3}), "gpu: Conv2D: unsupported convolution {Kernel:3 Stride:0 PadLo:0 PadHi:0}"},
		{conv(x, w, y, tensor.Conv{Kernel: 3, Stride: 1, PadLo: -1}), "gpu: Conv2D: unsupported convolution {Kernel:3 Stride:1 PadLo:-1 PadHi:0}"},
		{conv(x, w, y, tensor.Conv{Kernel: 3, Stride: 1, PadHi: -1}), "gpu: Conv2D: unsupported convolution {Kernel:3 Stride:1 PadLo:0 PadHi:-1}"},
		{
			conv(of(2, 8, 1, 3), w, y, tensor.Conv{Kernel: 3, Stride: 1, PadHi: 1}),
			"gpu: Conv2D: x [2 8 1 3] is smaller than the kernel of {Kernel:3 Stride:1 PadLo:0 PadHi:1}",
		},
		{conv(x, w, of(2, 8, 7, 5), c), "gpu: Conv2D: y is [2 8 7 5], want [2 8 6 5]"},
		{conv(x, w, of(1, 8, 6, 5), c), "gpu: Conv2D: y is [1 8 6 5], want [2 8 6 5]"},
		{conv(x, of(3, 3, 5, 3), y, c), "gpu: Conv2D: w is [3 3 5 3], want [3 3 3 5]"},

		{
			product(tensor.Of(6), tensor.Of(2, 3), tensor.Of(3, 3), tensor.MatMulArgs{}),
			"gpu: MatMul: [6] = [2 3] (transposed false) x [3 3] (transposed false)",
		},
		{
			product(tensor.Of(2, 4), tensor.Of(1, 2, 3), tensor.Of(3, 4), tensor.MatMulArgs{}),
			"gpu: MatMul: [2 4] = [1 2 3] (transposed false) x [3 4] (transposed false)",
		},
		{
			product(tensor.Of(2, 4), tensor.Of(2, 3), tensor.Of(1, 3, 4), tensor.MatMulArgs{}),
			"gpu: MatMul: [2 4] = [2 3] (transposed false) x [1 3 4] (transposed false)",
		},
		{
			product(tensor.Of(5, 2, 4), tensor.Of(5, 2, 3), tensor.Of(1, 3, 4), tensor.MatMulArgs{}),
			"gpu: MatMul: [5 2 4] = [5 2 3] (transposed false) x [1 3 4] (transposed false)",
		},
		{
			product(tensor.Of(5, 2, 4), tensor.Of(1, 2, 3), tensor.Of(5, 3, 4), tensor.MatMulArgs{}),
			"gpu: MatMul: [5 2 4] = [1 2 3] (transposed false) x [5 3 4] (transposed false)",
		},
		{
			product(tensor.Of(2, 4), tensor.Of(2, 3), tensor.Of(3, 4), tensor.MatMulArgs{TransA: true}),
			"gpu: MatMul: [2 4] = [2 3] (transposed true) x [3 4] (transposed false)",
		},
		{
			product(tensor.Of(2, 4), tensor.Of(2, 3), tensor.Of(3, 4), tensor.MatMulArgs{TransB: true}),
			"gpu: MatMul: [2 4] = [2 3] (transposed false) x [3 4] (transposed true)",
		},
		{
			product(tensor.Of(2, 4), tensor.Of(2, 3), tensor.Of(5, 4), tensor.MatMulArgs{}),
			"gpu: MatMul: [2 4] = [2 3] (transposed false) x [5 4] (transposed false)",
		},
		{
			product(tensor.Of(3, 4), tensor.Of(2, 3), tensor.Of(3, 4), tensor.MatMulArgs{}),
			"gpu: MatMul: [3 4] = [2 3] (transposed false) x [3 4] (transposed false)",
		},
		{
			product(tensor.Of(2, 3), tensor.Of(2, 3), tensor.Of(3, 4), tensor.MatMulArgs{}),
			"gpu: MatMul: [2 3] = [2 3] (transposed false) x [3 4] (transposed false)",
		},
	} {
		t.Run(m.want, func(t *testing.T) { require.PanicsWithValue(t, m.want, m.call) })
	}
}

func TestWhatFitsPasses(t *testing.T) {
	require.NotPanics(t, func() {
		checks.SameLen("Upload", 3, 3)
		checks.Same("Add", of(2, 3), of(2, 3))
		checks.Want("Conv2D", "bias", of(5), tensor.Of(5))
		checks.Rank("Attention", "q", of(2, 3, 4), 3)
	})
}

func TestConvGivesTheSizes(t *testing.T) {
	for _, c := range []struct {
		conv       tensor.Conv
		ih, iw     int
		outH, outW int
	}{
		{tensor.Conv{Kernel: 3, Stride: 1, PadLo: 1, PadHi: 1}, 8, 6, 8, 6},
		{tensor.Conv{Kernel: 3, Stride: 2, PadHi: 1}, 8, 6, 4, 3},
		{tensor.Conv{Kernel: 3, Stride: 2, PadLo: 1, PadHi: 1}, 7, 5, 4, 3},
		{tensor.Conv{Kernel: 3, Stride: 1}, 3, 4, 1, 2},
		{tensor.Conv{Kernel: 1, Stride: 1}, 8, 6, 8, 6},
	} {
		got := checks.Conv("Conv2D", of(2, c.ih, c.iw, 3), of(c.conv.Kernel, c.conv.Kernel, 3, 5), of(2, c.outH, c.outW, 5), c.conv)
		require.Equal(t, shapes.Geometry{N: 2, IH: c.ih, IW: c.iw, CI: 3, OH: c.outH, OW: c.outW, CO: 5, Conv: c.conv}, got)
	}
}

func TestMatMulGivesTheSizes(t *testing.T) {
	for _, transA := range []bool{false, true} {
		for _, transB := range []bool{false, true} {
			x, y := []int{2, 3}, []int{3, 4}
			if transA {
				x = []int{3, 2}
			}
			if transB {
				y = []int{4, 3}
			}
			args := tensor.MatMulArgs{TransA: transA, TransB: transB}
			batch, m, n, k := checks.MatMul(tensor.Of(2, 4), tensor.Of(x...), tensor.Of(y...), args)
			require.Equal(t, []int{1, 2, 4, 3}, []int{batch, m, n, k}, "%+v", args)

			many := func(d []int) tensor.Shape { return tensor.Of(append([]int{5}, d...)...) }
			batch, m, n, k = checks.MatMul(many([]int{2, 4}), many(x), many(y), args)
			require.Equal(t, []int{5, 2, 4, 3}, []int{batch, m, n, k}, "batched, %+v", args)
		}
	}
}

func TestSplits(t *testing.T) {
	for _, c := range []struct {
		shape          tensor.Shape
		samples, per   int
		vectors, width int
	}{
		{tensor.Of(), 1, 1, 1, 1},
		{tensor.Of(7), 7, 1, 1, 7},
		{tensor.Of(2, 3), 2, 3, 2, 3},
		{tensor.Of(2, 3, 4, 5), 2, 60, 24, 5},
		{tensor.Of(2, 0, 5), 2, 0, 0, 5},
	} {
		n, per := shapes.Samples(c.shape)
		require.Equal(t, [2]int{c.samples, c.per}, [2]int{n, per}, "samples of %v", c.shape)
		n, width := shapes.Rows(c.shape)
		require.Equal(t, [2]int{c.vectors, c.width}, [2]int{n, width}, "rows of %v", c.shape)
	}
}
