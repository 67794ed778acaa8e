//go:build cuda

package cuda

import (
	"errors"

	"github.com/agrdist/agrdist/internal/cuda/cublaslt"
	"github.com/agrdist/agrdist/internal/cuda/cudnn"
	"github.com/agrdist/agrdist/tensor"
)

// convolution is one call as the library is asked for it: the operands in the
// precision of the products; the image with its margin where the padding is not
// the same on all sides; channels in the multiples that the tensor cores want.
type convolution struct {
	be      *Backend
	g       geometry
	dir     cudnn.Direction
	x, w, y *buffer // the caller's
	terms   bool    // something is added to the result
	adds    bool    // the result is added to what is there: of a pointwise convolution

	product       cublaslt.Compute
	ci, co        int // channels, padded
	margin        int // zero rows above and columns left that the image has
	height, width int // of the image with its margins

	px      part // x, [n,height,width,ci]
	pw      part // w, [co,kernel,kernel,ci], or as it lies for a pointwise convolution
	py      part // y, [n,oh,ow,co]
	scratch part // the library's workspace

	problem cudnn.Problem // as cuDNN is asked for it

	conv *cudnn.Plan    // cuDNN's; or
	gemm *cublaslt.Plan // of a pointwise convolution; or
	turn int            // the images whose patches are multiplied at a time
	// patches is [turn,oh,ow,kernel,kernel,ci].
	patches part
}

// maxConvWorkspace is the most that cuDNN may use, whatever memory is free: the
// choice of an algorithm must not depend on that.
const maxConvWorkspace = 256 << 20

// convCompute is a precision as package cudnn names it.
var convCompute = [...]cudnn.Compute{cublaslt.F32: cudnn.F32, cublaslt.TF32: cudnn.TF32, cublaslt.BF16: cudnn.BF16}

// channelMultiple is what the tensor cores want of NHWC operands: 16 bytes.
func channelMultiple(c cublaslt.Compute) int {
	switch c {
	case cublaslt.TF32:
		return 4
	case cublaslt.BF16:
		return 8
	case cublaslt.F32:
	}
	return 1
}

func (b *Backend) newConvolution(op string, dir cudnn.Direction, g geometry, x, w, y tensor.Tensor) *convolution {
	v := &b.libraries.call
	*v = convolution{
		be: b, g: g, dir: dir, ci: g.ci, co: g.co, height: g.ih, width: g.iw,
		x: b.operand(op, x, tensor.F32, tensor.BF16),
		w: b.operand(op, w, tensor.F32, tensor.BF16),
		y: b.operand(op, y, tensor.F32, tensor.BF16),
	}
	switch dir {
	case cudnn.Forward:
		v.product = b.precision(v.x, v.w)
	case cudnn.InputGrad:
		v.product = b.precision(v.y, v.w)
	case cudnn.WeightGrad:
		v.product = b.precision(v.x, v.y)
	}
	if g.pointwise() {
		return v
	}
	m := channelMultiple(v.product)
	v.ci, v.co = ceil(g.ci, m)*m, ceil(g.co, m)*m
	if g.PadLo != g.PadHi {
		v.margin, v.height, v.width = g.PadLo, g.ih+g.PadLo+g.PadHi, g.iw+g.PadLo+g.PadHi
	}
	return v
}

// compute brings in the operands and runs the algorithm, the next one where cuDNN
// refuses what it offered. Where it returns false, the failure sticks.
func (v *convolution) compute(apart bool) bool {
	for v.begin(apart) {
		err := v.run()
		if !errors.Is(err, cudnn.ErrRefused) {
			v.be.check("convolution", err)
			return err == nil
		}
		v.be.refused(v.problem, err)
	}
	return false
}

// begin finds the library's algorithm and memory, and brings the operands to the
// library's form. apart says that the result must not be written in place. Where
// it returns false, the failure sticks.
func (v *convolution) begin(apart bool) bool {
	workspace, ok := v.plan()
	if !ok {
		return false
	}
	g, dt := &v.g, operandType(v.product)
	types := [3]tensor.DType{operandX: dt, operandW: dt, operandY: dt}
	fit := [3]bool{operandX: v.ci == g.ci && v.height == g.ih, operandW: v.conv == nil, operandY: v.co == g.co}
	out := v.output()
	if v.conv == nil && !v.narrow() {
		types[out] = tensor.F32 // what cuBLASLt writes then
	}
	fit[out] = fit[out] && !apart
	var r room
	if v.turn > 0 {
		v.patches = v.patchRoom(&r)
	}
	if v.turn > 0 && out == operandX { // gathered from the patches
		v.px = part{ptr: v.x.ptr, dtype: v.x.dtype, direct: true}
	} else {
		v.px = r.operand(v.x, types[operandX], g.n*v.height*v.width*v.ci, fit[operandX])
	}
	v.pw = r.operand(v.w, types[operandW], g.taps()*v.ci*v.co, fit[operandW])
	v.py = r.operand(v.y, types[operandY], g.n*g.oh*g.ow*v.co, fit[operandY])
	v.scratch = r.bytes(workspace)
	base, ok := v.be.scratch(r.size)
	if !ok {
		return false
	}
	for _, p := range []*part{&v.px, &v.pw, &v.py, &v.scratch, &v.patches} {
		p.place(base)
	}
	if out != operandX || v.adds {
		v.loadImage()
	}
	if out != operandW {
		v.loadFilter()
	}
	if out != operandY {
		v.loadGrad()
	}
	return true
}

// The three operands of a convolution.
const (
	operandX = iota
	operandW
	operandY
)

// output is the operand that is computed.
func (v *convolution) output() int {
	switch v.dir {
	case cudnn.InputGrad:
		return operandX
	case cudnn.WeightGrad:
		return operandW
	case cudnn.Forward:
	}
	return operandY
}

// result is the caller's memory for it.
func (v *convolution) result() *buffer {
	return [3]*buffer{operandX: v.x, operandW: v.w, operandY: v.y}[v.output()]
}

// narrow says that cuBLASLt writes the result as BF16. Where something is added, the
// sum is rounded, once.
func (v *convolution) narrow() bool { return !v.terms && narrow(v.product, v.result()) }

// plan finds the algorithm and the workspace that it needs.
func (v *convolution) plan() (workspace uint64, ok bool) {
	g := &v.g
	if !g.pointwise() {
		v.problem = cudnn.Problem{
			Direction: v.dir, N: g.n, H: v.height, W: v.width, C: v.ci, K: v.co,
			Kernel: g.Kernel, Stride: g.Stride, Compute: convCompute[v.product], MaxWorkspace: maxConvWorkspace,
		}
		if g.PadLo == g.PadHi {
			v.problem.Pad = g.PadLo
		}
		if v.conv, ok = v.be.convPlan(v.problem); !ok {
			return 0, false
		}
		if v.conv != nil {
			return v.conv.Workspace(), true
		}
		return v.asPatches()
	}
	p := cublaslt.Problem{Batch: 1, Compute: v.product, Narrow: v.narrow()}
	pixels := g.n * g.oh * g.ow
	switch v.dir {
	case cudnn.Forward: // y = x w
		p.M, p.N, p.K = pixels, v.co, v.ci
	case cudnn.InputGrad: // dx = dy w'
		p.M, p.N, p.K, p.TransB = pixels, v.ci, v.co, true
	case cudnn.WeightGrad: // dw = x' dy
		p.M, p.N, p.K, p.TransA = v.ci, v.co, pixels, true
	}
	if v.gemm, ok = v.be.productPlan(p); ok {
		workspace = v.gemm.Workspace()
	}
	return workspace, ok
}

// factors are the operands of a pointwise convolution in the order of a product
// c = a b.
func (v *convolution) factors() (a, b, c *part) {
	switch v.dir {
	case cudnn.InputGrad:
		return &v.py, &v.pw, &v.px
	case cudnn.WeightGrad:
		return &v.px, &v.py, &v.pw
	case cudnn.Forward:
	}
	return &v.px, &v.pw, &v.py
}

func (v *convolution) run() error {
	switch {
	case v.conv != nil:
		v.be.countCall("cuDNN", v.dir.String(), &v.px, &v.pw, &v.py)
		return v.conv.Run(uintptr(v.px.ptr), uintptr(v.pw.ptr), uintptr(v.py.ptr), uintptr(v.scratch.ptr))
	case v.turn > 0:
		v.runPatches()
	default:
		a, b, c := v.factors()
		beta := float32(0)
		if v.adds {
			beta = 1
		}
		v.be.product(v.gemm, 1, beta, a, b, c, &v.scratch)
	}
	return nil
}
