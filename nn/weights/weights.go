// Package weights has the one type in which parameters travel between a model, its
// files and whoever looks at them.
//
// Its one idea: a tensor outside the model has PyTorch's name, shape and order, as
// diffusers stores it; only package nn knows the layout inside. The package has no
// operations and imports nothing.
package weights

// Tensor is a named float32 array on the host in PyTorch's layout: row-major, a
// convolution's kernel as [out, in, height, width].
type Tensor struct {
	Name  string // a diffusers key; in optimizer state SLOT.KEY
	Shape []int
	Data  []float32 // as many elements as Shape says
}
