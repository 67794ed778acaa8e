// Package nn holds the layers of a network and its parameters.
//
// The one idea: all parameters of a model live in one flat buffer, and all
// gradients in another of the same layout. What comes after the backward pass
// (all-reduce, clipping, the optimizer, the moving average, a checkpoint) then
// works on ranges of two arrays and needs to know no layer.
//
//	values  [ time_embedding.linear_1.weight | .bias | ... | conv_out.bias ]
//	grads   [            the same offsets, in registration order           ]
//
// Registration order is forward order; backward finishes gradients in the
// reverse order, so that the tail of the gradient buffer is final first.
//
// A layer registers its parameters when it is made and records its operations on
// an autograd.Tape when it is applied. Parameters are named by their diffusers
// keys and leave the package in PyTorch's layouts (Tensor).
//
// The package knows no whole network, does no training, and reads no files.
package nn
