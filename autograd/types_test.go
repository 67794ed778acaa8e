package autograd

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/tensor"
)

// halves stores activations in BF16; nothing is computed on it here.
type halves struct{ tensor.Backend }

func (halves) Activations() tensor.DType                                   { return tensor.BF16 }
func (halves) SliceAs(tensor.Buffer, tensor.DType, int, int) tensor.Buffer { panic("not used") }

// Types enter at convolutions and go on from there; gradients have the type of what
// they are the gradient of.
func TestTypes(t *testing.T) {
	tape := NewTape(halves{}, Config{Train: true})
	image := tensor.Of(2, 4, 4, 8)
	input := tape.Input(tensor.F32, image)
	weight := func(i int) *Value {
		return tape.Param(i, tensor.Tensor{Buf: word{}, Shape: tensor.Of(1, 1, 8, 8)}, tensor.Tensor{Buf: word{}})
	}
	pixelwise := tensor.Conv{Kernel: 1, Stride: 1}
	h := tape.Conv2D(input, weight(0), nil, nil, nil, pixelwise)
	require.Equal(t, tensor.BF16, h.dtype)
	require.Equal(t, tensor.BF16, tape.SiLU(h).dtype)
	require.Equal(t, tensor.F32, tape.SiLU(input).dtype)
	require.Equal(t, tensor.BF16, tape.View(h, tensor.Of(2, 16, 8)).dtype)
	require.Equal(t, tensor.F32, tape.Conv2D(h, weight(1), nil, nil, input, pixelwise).dtype, "that of the residual")
	require.Panics(t, func() { tape.Add(h, input) })
	require.Panics(t, func() { tape.Concat(input, h) })
	require.Panics(t, func() { tape.MSE(h, input) })

	copied := tape.Float(h)
	require.NotSame(t, h, copied, "others have read it in BF16")
	require.Equal(t, tensor.F32, copied.dtype)
	require.Equal(t, tensor.BF16, h.dtype)
	require.Same(t, input, tape.Float(input))
	last := tape.Conv2D(h, weight(2), nil, nil, nil, pixelwise)
	require.Same(t, last, tape.Float(last))
	require.Equal(t, tensor.F32, last.store.dtype)

	loss := tape.MSE(tape.Float(tape.Add(tape.SiLU(h), tape.SiLU(h))), input)
	tape.Keep(loss)
	for _, n := range tape.gradients() {
		for _, v := range n.out {
			if v == nil {
				continue
			}
			want := tensor.BF16
			if v.store.external {
				want = tensor.F32
			}
			require.Equal(t, want, v.dtype, n.String())
		}
	}
}

// word is a buffer without memory.
type word struct{}

func (word) DType() tensor.DType { return tensor.F32 }
func (word) Len() int            { return 0 }
