package shapes

import (
	"fmt"

	"github.com/agrdist/agrdist/tensor"
)

// Geometry is a convolution's sizes: x [N,IH,IW,CI], y [N,OH,OW,CO] and the
// weight [Kernel,Kernel,CI,CO].
type Geometry struct {
	N, IH, IW, CI, OH, OW, CO int
	tensor.Conv
}

// Conv panics unless the operands of a convolution, or of one of its gradients,
// fit, and returns the sizes.
func (c Checks) Conv(op string, x, weight, y tensor.Tensor, conv tensor.Conv) Geometry {
	c.Rank(op, "x", x, 4)
	c.Rank(op, "y", y, 4)
	c.Rank(op, "w", weight, 4)
	if (conv.Kernel != 1 && conv.Kernel != 3) || (conv.Stride != 1 && conv.Stride != 2) || conv.PadLo < 0 || conv.PadHi < 0 {
		panic(fmt.Sprintf("%s: %s: unsupported convolution %+v", string(c), op, conv))
	}
	g := Geometry{
		N: x.Shape.Dim(0), IH: x.Shape.Dim(1), IW: x.Shape.Dim(2), CI: x.Shape.Dim(3),
		CO: y.Shape.Dim(3), Conv: conv,
	}
	if min(g.IH, g.IW)+conv.PadLo+conv.PadHi < conv.Kernel {
		panic(fmt.Sprintf("%s: %s: x %v is smaller than the kernel of %+v", string(c), op, x.Shape, conv))
	}
	g.OH, g.OW = conv.OutSize(g.IH), conv.OutSize(g.IW)
	c.Want(op, "y", y, tensor.Of(g.N, g.OH, g.OW, g.CO))
	c.Want(op, "w", weight, tensor.Of(conv.Kernel, conv.Kernel, g.CI, g.CO))
	return g
}
