// The sequences of calls that plan.go makes as one.
#ifndef AGRDIST_CUBLASLT_PLAN_H
#define AGRDIST_CUBLASLT_PLAN_H

#include "api.h"

// agr_cublaslt is the library: its functions by their names.
typedef struct {
#define AGR_MEMBER(result, name, parameters) result(*name) parameters;
  AGR_CUBLASLT_FUNCTIONS(AGR_MEMBER)
#undef AGR_MEMBER
} agr_cublaslt;

// agr_cublaslt_symbol names entry i of the table; NULL past the last.
const char* agr_cublaslt_symbol(int i);
// agr_cublaslt_set fills entry i.
void agr_cublaslt_set(agr_cublaslt* lib, int i, void* f);

size_t agr_cublaslt_version(const agr_cublaslt* lib);
const char* agr_cublaslt_name(const agr_cublaslt* lib, cublasStatus_t s);
const char* agr_cublaslt_string(const agr_cublaslt* lib, cublasStatus_t s);
cublasStatus_t agr_cublaslt_create(const agr_cublaslt* lib, cublasLtHandle_t* handle);
cublasStatus_t agr_cublaslt_destroy(const agr_cublaslt* lib, cublasLtHandle_t handle);

// A matrix in column-major order.
typedef struct {
  cudaDataType_t type;
  uint64_t rows, cols;  // as stored: each column is contiguous
  uint32_t transposed;
  uint32_t alignment;  // of its pointer, bytes
} agr_matrix;

// C = alpha op(A) op(B) + beta C for each of batch matrices, one after the other
// in memory.
typedef struct {
  agr_matrix a, b, c;
  cublasComputeType_t compute;
  int32_t batch;
  uint64_t workspace;  // the most that an algorithm may ask for, bytes
} agr_problem;

typedef struct {
  cublasLtMatmulDesc_t desc;
  cublasLtMatrixLayout_t a, b, c;
  cublasLtMatmulAlgo_t algo;
  uint64_t workspace;
} agr_plan;

// agr_cublaslt_plan_init fills *plan; found is 0 where the library has no algorithm. The
// caller destroys the plan, after a failure too.
cublasStatus_t agr_cublaslt_plan_init(const agr_cublaslt* lib, cublasLtHandle_t handle, const agr_problem* problem,
                                      agr_plan* plan, int* found);
void agr_cublaslt_plan_destroy(const agr_cublaslt* lib, agr_plan* plan);
cublasStatus_t agr_cublaslt_plan_run(const agr_cublaslt* lib, cublasLtHandle_t handle, const agr_plan* plan,
                                     float alpha, float beta, uintptr_t a, uintptr_t b, uintptr_t c,
                                     uintptr_t workspace, uint64_t size, uintptr_t stream);

#endif
