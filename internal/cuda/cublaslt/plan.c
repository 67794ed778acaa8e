// go:build cuda

#include "plan.h"

#include <string.h>

const char* agr_cublaslt_symbol(int i) {
#define AGR_NAME(result, name, parameters) #name,
  static const char* const names[] = {AGR_CUBLASLT_FUNCTIONS(AGR_NAME)};
#undef AGR_NAME
  return i < (int)(sizeof names / sizeof *names) ? names[i] : NULL;
}

void agr_cublaslt_set(agr_cublaslt* lib, int i, void* f) { memcpy((char*)lib + i * sizeof f, &f, sizeof f); }

size_t agr_cublaslt_version(const agr_cublaslt* lib) { return lib->cublasLtGetVersion(); }

const char* agr_cublaslt_name(const agr_cublaslt* lib, cublasStatus_t s) { return lib->cublasLtGetStatusName(s); }

const char* agr_cublaslt_string(const agr_cublaslt* lib, cublasStatus_t s) { return lib->cublasLtGetStatusString(s); }

cublasStatus_t agr_cublaslt_create(const agr_cublaslt* lib, cublasLtHandle_t* handle) {
  return lib->cublasLtCreate(handle);
}

cublasStatus_t agr_cublaslt_destroy(const agr_cublaslt* lib, cublasLtHandle_t handle) {
  return lib->cublasLtDestroy(handle);
}

#define TRY(call)                                               \
  do {                                                          \
    cublasStatus_t try_status = (call);                         \
    if (try_status != CUBLAS_STATUS_SUCCESS) return try_status; \
  } while (0)

static cublasStatus_t layout(const agr_cublaslt* lib, const agr_matrix* m, int32_t batch, cublasLtMatrixLayout_t* out) {
  TRY(lib->cublasLtMatrixLayoutCreate(out, m->type, m->rows, m->cols, (int64_t)m->rows));
  if (batch == 1) return CUBLAS_STATUS_SUCCESS;
  int64_t stride = (int64_t)(m->rows * m->cols);
  TRY(lib->cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch));
  return lib->cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                                               sizeof stride);
}

static cublasStatus_t preferences(const agr_cublaslt* lib, const agr_problem* p, cublasLtMatmulPreference_t pref) {
  // Split sums go through the workspace and are added in their order.
  uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  const struct {
    cublasLtMatmulPreferenceAttributes_t attribute;
    const void* value;
    size_t size;
  } list[] = {
      {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &p->workspace, sizeof p->workspace},
      {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &scheme, sizeof scheme},
      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &p->a.alignment, sizeof p->a.alignment},
      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &p->b.alignment, sizeof p->b.alignment},
      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &p->c.alignment, sizeof p->c.alignment},
      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &p->c.alignment, sizeof p->c.alignment},
  };
  for (size_t i = 0; i < sizeof list / sizeof *list; i++)
    TRY(lib->cublasLtMatmulPreferenceSetAttribute(pref, list[i].attribute, list[i].value, list[i].size));
  return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t choose(const agr_cublaslt* lib, cublasLtHandle_t handle, const agr_problem* p, agr_plan* plan,
                             cublasLtMatmulPreference_t pref, int* found) {
  TRY(preferences(lib, p, pref));
  // The first that the library says it can run: the best by its heuristic need not be.
  enum { candidates = 8 };
  cublasLtMatmulHeuristicResult_t results[candidates];
  memset(results, 0, sizeof results);
  int n = 0;
  cublasStatus_t s = lib->cublasLtMatmulAlgoGetHeuristic(handle, plan->desc, plan->a, plan->b, plan->c, plan->c, pref,
                                                         candidates, results, &n);
  *found = 0;
  if (s == CUBLAS_STATUS_NOT_SUPPORTED) return CUBLAS_STATUS_SUCCESS;
  TRY(s);
  for (int i = 0; i < n && !*found; i++) {
    if (results[i].state != CUBLAS_STATUS_SUCCESS) continue;
    plan->algo = results[i].algo;
    plan->workspace = results[i].workspaceSize;
    *found = 1;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t agr_cublaslt_plan_init(const agr_cublaslt* lib, cublasLtHandle_t handle, const agr_problem* p,
                                      agr_plan* plan, int* found) {
  memset(plan, 0, sizeof *plan);
  *found = 0;
  TRY(lib->cublasLtMatmulDescCreate(&plan->desc, p->compute, CUDA_R_32F));
  int32_t ta = p->a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N, tb = p->b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
  TRY(lib->cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta));
  TRY(lib->cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb));
  TRY(layout(lib, &p->a, p->batch, &plan->a));
  TRY(layout(lib, &p->b, p->batch, &plan->b));
  TRY(layout(lib, &p->c, p->batch, &plan->c));
  cublasLtMatmulPreference_t pref;
  TRY(lib->cublasLtMatmulPreferenceCreate(&pref));
  cublasStatus_t s = choose(lib, handle, p, plan, pref, found);
  lib->cublasLtMatmulPreferenceDestroy(pref);
  return s;
}

void agr_cublaslt_plan_destroy(const agr_cublaslt* lib, agr_plan* plan) {
  if (plan->desc) lib->cublasLtMatmulDescDestroy(plan->desc);
  if (plan->a) lib->cublasLtMatrixLayoutDestroy(plan->a);
  if (plan->b) lib->cublasLtMatrixLayoutDestroy(plan->b);
  if (plan->c) lib->cublasLtMatrixLayoutDestroy(plan->c);
  memset(plan, 0, sizeof *plan);
}

cublasStatus_t agr_cublaslt_plan_run(const agr_cublaslt* lib, cublasLtHandle_t handle, const agr_plan* plan,
                                     float alpha, float beta, uintptr_t a, uintptr_t b, uintptr_t c,
                                     uintptr_t workspace, uint64_t size, uintptr_t stream) {
  return lib->cublasLtMatmul(handle, plan->desc, &alpha, (const void*)a, plan->a, (const void*)b, plan->b, &beta,
                             (const void*)c, plan->c, (void*)c, plan->c, &plan->algo, (void*)workspace, size,
                             (cudaStream_t)stream);
}
