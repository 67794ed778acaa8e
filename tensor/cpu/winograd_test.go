package cpu_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu"
)

// So many tiles of so many channels take more than one pass of Winograd's
// filtering, which divides them in the middle of an image and of a row; one
// image alone takes one.
func TestImagesOfABatchAreIndependent(t *testing.T) {
	const n, h, w, ci, co = 2, 25, 23, 256, 32
	conv := tensor.Conv{Kernel: 3, Stride: 1, PadLo: 1, PadHi: 1}
	for _, set := range sets() {
		be := cpu.New(cpu.Config{Threads: 2, Kernels: set.String()})
		of := func(dims ...int) tensor.Tensor {
			s := tensor.Of(dims...)
			buf, err := be.Alloc(tensor.F32, s.Len())
			require.NoError(t, err)
			draws, err := be.Alloc(tensor.I64, dims[0])
			require.NoError(t, err)
			be.UploadInt64(draws, []int64{int64(s.Len()), 1, 2}[:dims[0]])
			v := tensor.Tensor{Buf: buf, Shape: s}
			be.Normal(v, tensor.Tensor{Buf: draws, Shape: tensor.Of(dims[0])}, 1, 1)
			return v
		}
		image := func(v tensor.Tensor, i int) tensor.Tensor {
			_, h, w, c := v.Shape.Dim(0), v.Shape.Dim(1), v.Shape.Dim(2), v.Shape.Dim(3)
			return tensor.Tensor{Buf: be.Slice(v.Buf, i*h*w*c, h*w*c), Shape: tensor.Of(1, h, w, c)}
		}
		x, weight, bias := of(n, h, w, ci), of(3, 3, ci, co), of(1, co).View(tensor.Of(co))
		y, one := of(n, h, w, co), of(1, h, w, co)
		back, dx, oneBack := of(3, 3, co, ci), of(n, h, w, co), of(1, h, w, co)
		var none tensor.Tensor
		be.Conv2D(y, x, weight, bias, none, none, conv)
		be.Conv2DInputGrad(dx, x, back, conv)
		for i := range n {
			be.Conv2D(one, image(x, i), weight, bias, none, none, conv)
			require.Equal(t, image(y, i).Buf.(tensor.Host).Float32s(), one.Buf.(tensor.Host).Float32s(), "%v: Conv2D, image %d", set, i)
			be.Conv2DInputGrad(oneBack, image(x, i), back, conv)
			require.Equal(t, image(dx, i).Buf.(tensor.Host).Float32s(), oneBack.Buf.(tensor.Host).Float32s(), "%v: Conv2DInputGrad, image %d", set, i)
		}
		require.NoError(t, be.Close())
	}
}
