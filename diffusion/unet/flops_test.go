package unet_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/tensor"
)

// counting is a backend that counts the operations of the products it is asked
// for, and does not compute them. Embedding the interface hides what the CPU's
// backend has beyond it, so that attention too comes as products.
type counting struct {
	tensor.Backend
	flops int64
}

func (b *counting) conv(out, w tensor.Shape) {
	pixels := out.Dim(0) * out.Dim(1) * out.Dim(2)
	b.flops += 2 * int64(pixels) * int64(w.Len())
}

func (b *counting) Conv2D(y, _, w, _, _, _ tensor.Tensor, _ tensor.Conv) { b.conv(y.Shape, w.Shape) }

func (b *counting) Conv2DInputGrad(_, dy, w tensor.Tensor, _ tensor.Conv) {
	b.conv(dy.Shape, w.Shape)
}

func (b *counting) Conv2DWeightGrad(dw, _, _, dy tensor.Tensor, _ tensor.Conv) {
	b.conv(dy.Shape, dw.Shape)
}

func (b *counting) MatMul(dst, a, _ tensor.Tensor, args tensor.MatMulArgs) {
	inner := a.Shape.Dim(-1)
	if args.TransA {
		inner = a.Shape.Dim(-2)
	}
	b.flops += 2 * int64(dst.Shape.Len()) * int64(inner)
}

// The count from the layers is what the backend is asked for, exactly. A step asks
// for three times that but for two gradients nobody needs: those of the image and
// of the timesteps.
func TestFLOPs(t *testing.T) {
	noMid := oddConfig()
	noMid.NoMidAttention, noMid.AttentionLevels = true, []int{0}
	for name, c := range map[string]unet.Config{
		"cifar10": unet.CIFAR10(), "digits": unet.Digits(), "odd": oddConfig(), "no attention in the middle": noMid,
		"scale shift": scaleShiftConfig(),
	} {
		t.Run(name, func(t *testing.T) {
			forward, err := c.ForwardFLOPs()
			require.NoError(t, err)
			training, err := c.TrainingFLOPs()
			require.NoError(t, err)
			require.Equal(t, 3*forward, training)

			be := &counting{Backend: newCPU(t, 1)}
			m := newModel(t, be, c)
			const n = 2
			batch := deviceBatch(t, be, c, hostBatch(n, c, false))
			_, err = m.Forward(batch)
			require.NoError(t, err)
			require.Equal(t, n*forward, be.flops)

			be.flops = 0
			_, err = m.LossAndGrad(batch, nil)
			require.NoError(t, err)
			first := c.BlockOutChannels[0]
			unneeded := 2 * int64(9*c.InChannels*first*c.SampleSize*c.SampleSize+first*4*first)
			require.Equal(t, n*(training-unneeded), be.flops)
		})
	}
	forward, err := unet.CIFAR10().ForwardFLOPs()
	require.NoError(t, err)
	require.InDelta(t, 12.44e9, forward, 0.005e9)
	_, err = unet.Config{}.ForwardFLOPs()
	require.ErrorIs(t, err, unet.ErrConfig)
	_, err = unet.Config{}.TrainingFLOPs()
	require.ErrorIs(t, err, unet.ErrConfig)
}
