package unet

import (
	"errors"
	"fmt"

	"github.com/agrdist/agrdist/tensor"
)

// ErrBatch is wrapped by the errors about a batch that does not fit the model.
var ErrBatch = errors.New("unet: batch does not fit the model")

// Batch is the input of a training pass, on the model's device.
type Batch struct {
	// XT and Target are [n,H,W,C]: the noisy images and what to predict.
	XT, Target tensor.Tensor
	// T and Draws are I64 [n]: the timesteps, and which samples of the run these
	// are. Draws is needed only where dropout acts.
	T, Draws tensor.Tensor
	// Classes is F32 [n,NumClassEmbeds] of a conditional model: each row 1 at the
	// sample's class and 0 elsewhere.
	Classes tensor.Tensor
	// Roots, where present, weights the samples: F32 [n], half the square roots of
	// the weights of their squared errors. Target must be scaled by the roots
	// already.
	Roots tensor.Tensor
	// GradScale is d(total loss)/d(sum of squared errors): for the mean over a
	// global batch, 1 / its number of elements, whatever part of it this is.
	GradScale float32
	Seed      uint64 // of the dropout masks
	Train     bool   // dropout acts
	// Losses, where present, is F32 [n] and receives each sample's sum of squared
	// errors. LossAndGrad then does not wait for the device and returns 0.
	Losses tensor.Tensor
}

// NewBatch allocates the tensors of a training batch of images [n,H,W,C], zeroed:
// XT, Target, T and Draws. GradScale is that of the mean over the batch.
func NewBatch(m tensor.Memory, images tensor.Shape) (Batch, error) {
	b := Batch{GradScale: 1 / float32(images.Len()), Train: true}
	each := tensor.Of(images.Dim(0))
	for _, a := range []struct {
		t     *tensor.Tensor
		dtype tensor.DType
		shape tensor.Shape
	}{{&b.XT, tensor.F32, images}, {&b.Target, tensor.F32, images}, {&b.T, tensor.I64, each}, {&b.Draws, tensor.I64, each}} {
		var err error
		if *a.t, err = tensor.New(m, a.dtype, a.shape); err != nil {
			return b, fmt.Errorf("unet: batch of %v: %w", images, err)
		}
	}
	return b, nil
}
