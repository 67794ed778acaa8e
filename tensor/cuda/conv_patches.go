//go:build cuda

package cuda

import (
	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/internal/cuda/cublaslt"
	"github.com/agrdist/agrdist/internal/cuda/cudnn"
	"github.com/agrdist/agrdist/tensor"
)

// maxPatches is the most memory for patches, in bytes; more images are taken in
// several batches.
const maxPatches = 256 << 20

// Where cuDNN has no deterministic algorithm, a convolution is a matrix product of
// the patches of pixels under the kernel, a row of taps x channels for each pixel
// of y, with the weight as it lies:
//
//	y = patches(x) w        dw = patches(x)' dy        dx = gather(dy w')
//
// It is slower and needs memory, and works on any device. asPatches returns the
// workspace of its products.
func (v *convolution) asPatches() (workspace uint64, ok bool) {
	g := &v.g
	v.ci, v.co, v.margin, v.height, v.width = g.ci, g.co, 0, g.ih, g.iw
	v.turn = min(g.n, max(1, v.be.libraries.maxPatches/(g.oh*g.ow*g.taps()*g.ci*v.patchType().Size())))
	for _, n := range [2]int{v.turn, g.n % v.turn} {
		if n == 0 {
			continue
		}
		plan, ok := v.planPatches(n)
		if !ok {
			return 0, false
		}
		workspace = max(workspace, plan.Workspace())
	}
	return workspace, true
}

// patchType is how patches are stored: as an operand, or as a product.
func (v *convolution) patchType() tensor.DType {
	if v.dir == cudnn.InputGrad {
		return tensor.F32
	}
	return operandType(v.product)
}

func (v *convolution) patchRoom(r *room) part {
	dt := v.patchType()
	n := v.turn * v.g.oh * v.g.ow * v.g.taps() * v.g.ci
	p := r.bytes(uint64(n) * uint64(dt.Size()))
	p.dtype, p.n = dt, n
	return p
}

// planPatches finds the product of a turn of n images.
func (v *convolution) planPatches(n int) (*cublaslt.Plan, bool) {
	g := &v.g
	p := cublaslt.Problem{Batch: 1, Compute: v.product}
	pixels, row := n*g.oh*g.ow, g.taps()*g.ci
	switch v.dir {
	case cudnn.Forward:
		p.M, p.N, p.K, p.Narrow = pixels, g.co, row, v.narrow()
	case cudnn.InputGrad:
		p.M, p.N, p.K, p.TransB = pixels, row, g.co, true
	case cudnn.WeightGrad:
		p.M, p.N, p.K, p.TransA = row, g.co, pixels, true
	}
	return v.be.productPlan(p)
}

// from is the part from image first on, each of size elements.
func (p *part) from(first, size int) *part {
	q := *p
	q.ptr += cu.DevicePtr(first * size * p.dtype.Size())
	return &q
}

// runPatches takes the images in several batches; the weight gradient adds up over them in
// their order.
func (v *convolution) runPatches() {
	g := &v.g
	for first := 0; first < g.n; first += v.turn {
		n := min(v.turn, g.n-first)
		plan, ok := v.planPatches(n)
		if !ok {
			return
		}
		y := v.py.from(first, g.oh*g.ow*g.co)
		switch v.dir {
		case cudnn.Forward:
			v.takePatches(first, n)
			v.be.product(plan, 1, 0, &v.patches, &v.pw, y, &v.scratch)
		case cudnn.InputGrad:
			v.be.product(plan, 1, 0, y, &v.pw, &v.patches, &v.scratch)
			v.gatherPatches(first, n)
		case cudnn.WeightGrad:
			v.takePatches(first, n)
			beta := float32(0)
			if first > 0 {
				beta = 1
			}
			v.be.product(plan, 1, beta, &v.patches, y, &v.pw, &v.scratch)
		}
	}
}

// takePatches fills the patches of n images of x.
func (v *convolution) takePatches(first, n int) {
	g := &v.g
	x := v.px.from(first, g.ih*g.iw*g.ci)
	blocks := grid{ceil(g.oh*g.ow*g.taps()*g.ci, convThreads*windowEach), min(n, maxGridY)}
	v.be.launch(v.be.kernels.patches.of(x.dtype), blocks, convThreads, v.patchArgs(v.patches.ptr, x.ptr, n)...)
}

// gatherPatches adds the patches up to n images of dx.
func (v *convolution) gatherPatches(first, n int) {
	g := &v.g
	x := part{ptr: v.x.ptr, dtype: v.x.dtype}
	blocks := grid{ceil(g.ih*g.iw*g.ci, convThreads*windowEach), min(n, maxGridY)}
	v.be.launch(v.be.kernels.gather.of(x.dtype), blocks, convThreads,
		v.patchArgs(x.from(first, g.ih*g.iw*g.ci).ptr, v.patches.ptr, n)...)
}

func (v *convolution) patchArgs(dst, src cu.DevicePtr, n int) []uint64 {
	g := &v.g
	return []uint64{
		at(dst), at(src), intArg(n), intArg(g.ih), intArg(g.iw), intArg(g.ci), intArg(g.oh), intArg(g.ow),
		intArg(g.Kernel), intArg(g.Stride), intArg(g.PadLo),
	}
}
