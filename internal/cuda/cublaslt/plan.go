//go:build cuda

package cublaslt

/*
#include "plan.h"
*/
import "C"

import "fmt"

// Compute is the precision of the multiplications. Sums are FP32.
type Compute uint8

// Precisions of the multiplications.
const (
	F32  Compute = iota // F32 operands as they are
	TF32                // F32 operands rounded to TF32 by the tensor cores
	BF16                // operands stored as BF16
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

// Problem is C = alpha op(A) op(B) + beta C for row-major matrices, or for each
// of Batch of them that lie one after the other. op(A) is [M,K], op(B) [K,N], C
// [M,N], and every row is contiguous. Problems are comparable with ==.
type Problem struct {
	M, N, K        int
	Batch          int // at least 1
	TransA, TransB bool
	Compute        Compute
	Narrow         bool // C is BF16, rounded once, instead of F32; only with BF16 operands
	// The alignments of the pointers that Run will get, in bytes.
	AlignA, AlignB, AlignC uint32
	// MaxWorkspace is the most bytes of workspace that the algorithm may want.
	MaxWorkspace uint64
}

func (p Problem) String() string {
	s := fmt.Sprintf("%dx%dx%dx%d (transposed %t, %t) in %v", p.Batch, p.M, p.N, p.K, p.TransA, p.TransB, p.Compute)
	if p.Narrow {
		s += " to bf16"
	}
	return s
}

// Precision is of the inputs, and of the result where it is narrow.
func (p *Plan) Precision() string {
	if p.problem.Narrow {
		return p.problem.Compute.String() + " to bf16"
	}
	return p.problem.Compute.String()
}

// Plan is a Problem with its algorithm.
type Plan struct {
	handle  *Handle
	problem Problem
	c       C.agr_plan
}

// Plan takes the first of the heuristic's eight best algorithms that the library says it
// can run. All sizes are at least 1. Errors wrap ErrStatus.
func (h *Handle) Plan(p Problem) (*Plan, error) {
	element, compute := C.cudaDataType_t(C.CUDA_R_32F), C.cublasComputeType_t(C.CUBLAS_COMPUTE_32F)
	switch p.Compute {
	case F32:
	case TF32:
		compute = C.CUBLAS_COMPUTE_32F_FAST_TF32
	case BF16:
		element = C.CUDA_R_16BF
	}
	stored := func(rows, cols int, transposed bool, align uint32) C.agr_matrix {
		if transposed {
			rows, cols = cols, rows
		}
		// Row-major [rows, cols] is column-major [cols, rows].
		m := C.agr_matrix{_type: element, rows: C.uint64_t(cols), cols: C.uint64_t(rows), alignment: C.uint32_t(align)}
		if transposed {
			m.transposed = 1
		}
		return m
	}
	// The library's matrices are column-major: it computes C' = op(B)' op(A)'.
	problem := C.agr_problem{
		a:       stored(p.K, p.N, p.TransB, p.AlignB),
		b:       stored(p.M, p.K, p.TransA, p.AlignA),
		c:       stored(p.M, p.N, false, p.AlignC),
		compute: compute, batch: C.int32_t(p.Batch), workspace: C.uint64_t(p.MaxWorkspace),
	}
	if !p.Narrow {
		problem.c._type = C.CUDA_R_32F
	}
	plan := &Plan{handle: h, problem: p}
	var found C.int
	s := C.agr_cublaslt_plan_init(h.lib.api, h.h, &problem, &plan.c, &found)
	err := h.lib.err("algorithm for "+p.String(), s)
	if err == nil && found == 0 {
		err = fmt.Errorf("%w: no algorithm for %v within %d bytes of workspace", ErrStatus, p, p.MaxWorkspace)
	}
	if err != nil {
		plan.Destroy()
		return nil, err
	}
	return plan, nil
}

// Workspace is how many bytes Run needs.
func (p *Plan) Workspace() uint64 { return uint64(p.c.workspace) }

// Run enqueues the product on a stream. a, b, c and workspace are addresses on
// the device, aligned as the Problem says, workspace to 256 bytes. beta = 0 does
// not read C.
func (p *Plan) Run(stream uintptr, alpha, beta float32, a, b, c, workspace uintptr) error {
	s := C.agr_cublaslt_plan_run(p.handle.lib.api, p.handle.h, &p.c, C.float(alpha), C.float(beta),
		C.uintptr_t(b), C.uintptr_t(a), C.uintptr_t(c), C.uintptr_t(workspace), p.c.workspace, C.uintptr_t(stream))
	if s == C.CUBLAS_STATUS_SUCCESS {
		return nil
	}
	return p.handle.lib.err("product "+p.problem.String(), s)
}

// Destroy gives the plan's descriptors back. It is idempotent.
func (p *Plan) Destroy() { C.agr_cublaslt_plan_destroy(p.handle.lib.api, &p.c) }
