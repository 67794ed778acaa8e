//go:build cuda

package cudnn

/*
#include "plan.h"
*/
import "C"

import "fmt"

// Direction is which of the three operands of a convolution is computed.
type Direction uint8

// Directions.
const (
	Forward    Direction = iota // y from x and the filter
	InputGrad                   // x from the filter and y
	WeightGrad                  // the filter from x and y
)

// String names the direction.
func (d Direction) String() string {
	switch d {
	case Forward:
		return "forward"
	case InputGrad:
		return "input gradient"
	case WeightGrad:
		return "weight gradient"
	}
	return fmt.Sprintf("Direction(%d)", uint8(d))
}

// Compute is the precision of the multiplications. Sums are FP32.
type Compute uint8

// Precisions of the multiplications.
const (
	F32  Compute = iota // FP32 operands, fused multiply-adds
	TF32                // FP32 operands, which the tensor cores may round to TF32
	BF16                // operands and result stored as BF16
)

// String names the precision.
func (c Compute) String() string {
	switch c {
	case F32:
		return "f32"
	case TF32:
		return "tf32"
	case BF16:
		return "bf16"
	}
	return fmt.Sprintf("Compute(%d)", uint8(c))
}

// Problem is a cross-correlation of x [N,H,W,C] with a filter [K,Kernel,Kernel,C]
// to y [N,OutSize(H),OutSize(W),K]. Problems are comparable with ==.
type Problem struct {
	Direction           Direction
	N, H, W, C, K       int
	Kernel, Stride, Pad int // Pad zeros on each side
	Compute             Compute
	// MaxWorkspace is the most bytes of workspace that the algorithm may want.
	MaxWorkspace uint64
	// Skip passes over the first so many algorithms that will do: those that Run has
	// refused although the library offers them.
	Skip int
}

// OutSize is the height or width of y for that of x.
func (p Problem) OutSize(n int) int { return (n+2*p.Pad-p.Kernel)/p.Stride + 1 }

func (p Problem) String() string {
	return fmt.Sprintf("%v of [%d %d %d %d] to %d channels, kernel %d, stride %d, padding %d, in %v",
		p.Direction, p.N, p.H, p.W, p.C, p.K, p.Kernel, p.Stride, p.Pad, p.Compute)
}

// Plan is a Problem with its algorithm.
type Plan struct {
	handle  *Handle
	problem Problem
	c       C.agr_plan
	ran     bool // once, without a refusal
}

// Plan chooses the algorithm (package doc). Errors wrap ErrNoAlgorithm or
// ErrStatus.
func (h *Handle) Plan(p Problem) (*Plan, error) {
	problem := C.agr_conv{
		direction: C.int(p.Direction),
		n:         C.int(p.N), h: C.int(p.H), w: C.int(p.W), c: C.int(p.C), k: C.int(p.K),
		oh: C.int(p.OutSize(p.H)), ow: C.int(p.OutSize(p.W)),
		kernel: C.int(p.Kernel), stride: C.int(p.Stride), pad: C.int(p.Pad),
		_type: C.CUDNN_DATA_FLOAT, math: C.CUDNN_FMA_MATH, workspace: C.size_t(p.MaxWorkspace),
		skip: C.int(p.Skip),
	}
	switch p.Compute {
	case F32:
	case TF32:
		problem.math = C.CUDNN_DEFAULT_MATH
	case BF16:
		problem._type, problem.math = C.CUDNN_DATA_BFLOAT16, C.CUDNN_TENSOR_OP_MATH
	}
	plan := &Plan{handle: h, problem: p}
	var found C.int
	s := C.agr_cudnn_plan_init(h.lib.api, h.h, &problem, &plan.c, &found)
	err := h.lib.err("algorithm for the "+p.String(), s)
	if err == nil && found == 0 {
		err = fmt.Errorf("%w for the %v within %d bytes of workspace", ErrNoAlgorithm, p, p.MaxWorkspace)
	}
	if err != nil {
		plan.Destroy()
		return nil, err
	}
	return plan, nil
}

// Workspace is how many bytes Run needs.
func (p *Plan) Workspace() uint64 { return uint64(p.c.workspace) }

// Run enqueues the convolution on the handle's stream: one of x, filter and y is
// written from the other two. All are addresses on the device, aligned to 16
// bytes, workspace to 256. Errors wrap ErrStatus, and ErrRefused where another
// algorithm may do.
func (p *Plan) Run(x, filter, y, workspace uintptr) error {
	s := C.agr_cudnn_plan_run(p.handle.lib.api, p.handle.h, &p.c,
		C.uintptr_t(x), C.uintptr_t(filter), C.uintptr_t(y), C.uintptr_t(workspace))
	if s == C.CUDNN_STATUS_SUCCESS {
		p.ran = true
		return nil
	}
	err := p.handle.lib.err(p.problem.String(), s)
	if !p.ran && refusal(s) {
		err = fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return err
}

// refusal says that a status means the algorithm, not the device or the call: "not
// supported" (3000 to 3999), or an internal error, such as a kernel that cannot be built
// (4000 to 4999).
func refusal(s C.cudnnStatus_t) bool {
	return s/1000*1000 == C.CUDNN_STATUS_NOT_SUPPORTED || s/1000*1000 == C.CUDNN_STATUS_INTERNAL_ERROR
}

// Destroy gives the plan's descriptors back. It is idempotent.
func (p *Plan) Destroy() { C.agr_cudnn_plan_destroy(p.handle.lib.api, &p.c) }
