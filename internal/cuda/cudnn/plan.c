// go:build cuda

#include "plan.h"

#include <string.h>

const char* agr_cudnn_symbol(int i) {
#define AGR_NAME(result, name, parameters) #name,
  static const char* const names[] = {AGR_CUDNN_FUNCTIONS(AGR_NAME)};
#undef AGR_NAME
  return i < (int)(sizeof names / sizeof *names) ? names[i] : NULL;
}

void agr_cudnn_set(agr_cudnn* lib, int i, void* f) { memcpy((char*)lib + i * sizeof f, &f, sizeof f); }

size_t agr_cudnn_version(const agr_cudnn* lib) { return lib->cudnnGetVersion(); }

const char* agr_cudnn_string(const agr_cudnn* lib, cudnnStatus_t s) { return lib->cudnnGetErrorString(s); }

void agr_cudnn_last(const agr_cudnn* lib, char* text, size_t size) { lib->cudnnGetLastErrorString(text, size); }

#define TRY(call)                                              \
  do {                                                         \
    cudnnStatus_t try_status = (call);                         \
    if (try_status != CUDNN_STATUS_SUCCESS) return try_status; \
  } while (0)

cudnnStatus_t agr_cudnn_create(const agr_cudnn* lib, cudnnHandle_t* handle, uintptr_t stream) {
  TRY(lib->cudnnCreate(handle));
  return lib->cudnnSetStream(*handle, (cudaStream_t)stream);
}

cudnnStatus_t agr_cudnn_destroy(const agr_cudnn* lib, cudnnHandle_t handle) { return lib->cudnnDestroy(handle); }

static cudnnStatus_t describe(const agr_cudnn* lib, const agr_conv* p, agr_plan* plan) {
  TRY(lib->cudnnCreateTensorDescriptor(&plan->x));
  TRY(lib->cudnnSetTensor4dDescriptor(plan->x, CUDNN_TENSOR_NHWC, p->type, p->n, p->c, p->h, p->w));
  TRY(lib->cudnnCreateTensorDescriptor(&plan->y));
  TRY(lib->cudnnSetTensor4dDescriptor(plan->y, CUDNN_TENSOR_NHWC, p->type, p->n, p->k, p->oh, p->ow));
  TRY(lib->cudnnCreateFilterDescriptor(&plan->f));
  TRY(lib->cudnnSetFilter4dDescriptor(plan->f, p->type, CUDNN_TENSOR_NHWC, p->k, p->c, p->kernel, p->kernel));
  TRY(lib->cudnnCreateConvolutionDescriptor(&plan->conv));
  TRY(lib->cudnnSetConvolution2dDescriptor(plan->conv, p->pad, p->pad, p->stride, p->stride, 1, 1,
                                           CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT));
  return lib->cudnnSetConvolutionMathType(plan->conv, p->math);
}

enum { MOST = 16 };  // more than there are algorithms

static cudnnStatus_t rank(const agr_cudnn* lib, cudnnHandle_t h, const agr_plan* plan, agr_perf* perf, int* n) {
  switch (plan->direction) {
    case AGR_FORWARD:
      return lib->cudnnGetConvolutionForwardAlgorithm_v7(h, plan->x, plan->f, plan->conv, plan->y, MOST, n, perf);
    case AGR_INPUT_GRAD:
      return lib->cudnnGetConvolutionBackwardDataAlgorithm_v7(h, plan->f, plan->y, plan->conv, plan->x, MOST, n, perf);
    default:
      return lib->cudnnGetConvolutionBackwardFilterAlgorithm_v7(h, plan->x, plan->y, plan->conv, plan->f, MOST, n,
                                                                perf);
  }
}

static cudnnStatus_t measure(const agr_cudnn* lib, cudnnHandle_t h, agr_plan* plan) {
  switch (plan->direction) {
    case AGR_FORWARD:
      return lib->cudnnGetConvolutionForwardWorkspaceSize(h, plan->x, plan->f, plan->conv, plan->y, plan->algo,
                                                          &plan->workspace);
    case AGR_INPUT_GRAD:
      return lib->cudnnGetConvolutionBackwardDataWorkspaceSize(h, plan->f, plan->y, plan->conv, plan->x, plan->algo,
                                                               &plan->workspace);
    default:
      return lib->cudnnGetConvolutionBackwardFilterWorkspaceSize(h, plan->x, plan->y, plan->conv, plan->f, plan->algo,
                                                                 &plan->workspace);
  }
}

cudnnStatus_t agr_cudnn_plan_init(const agr_cudnn* lib, cudnnHandle_t handle, const agr_conv* p, agr_plan* plan,
                                  int* found) {
  memset(plan, 0, sizeof *plan);
  plan->direction = p->direction;
  *found = 0;
  TRY(describe(lib, p, plan));
  agr_perf perf[MOST];
  memset(perf, 0, sizeof perf);
  int n = 0;
  cudnnStatus_t ranked = rank(lib, handle, plan, perf, &n);
  // 3000 to 3999 are the reasons why something is not supported.
  if (ranked / 1000 * 1000 == CUDNN_STATUS_NOT_SUPPORTED) return CUDNN_STATUS_SUCCESS;
  TRY(ranked);
  int skip = p->skip;
  for (int i = 0; i < n && !*found; i++) {
    if (perf[i].status != CUDNN_STATUS_SUCCESS || perf[i].determinism != CUDNN_DETERMINISTIC) continue;
    // An algorithm comes with a math type. FMA stays FMA: the library would
    // otherwise be free to round to TF32.
    if (p->math != CUDNN_FMA_MATH) TRY(lib->cudnnSetConvolutionMathType(plan->conv, perf[i].mathType));
    plan->algo = perf[i].algo;
    cudnnStatus_t s = measure(lib, handle, plan);
    if (s == CUDNN_STATUS_SUCCESS && plan->workspace <= p->workspace) *found = skip-- == 0;
  }
  return CUDNN_STATUS_SUCCESS;
}

void agr_cudnn_plan_destroy(const agr_cudnn* lib, agr_plan* plan) {
  if (plan->x) lib->cudnnDestroyTensorDescriptor(plan->x);
  if (plan->y) lib->cudnnDestroyTensorDescriptor(plan->y);
  if (plan->f) lib->cudnnDestroyFilterDescriptor(plan->f);
  if (plan->conv) lib->cudnnDestroyConvolutionDescriptor(plan->conv);
  memset(plan, 0, sizeof *plan);
}

cudnnStatus_t agr_cudnn_plan_run(const agr_cudnn* lib, cudnnHandle_t handle, const agr_plan* plan, uintptr_t x,
                                 uintptr_t f, uintptr_t y, uintptr_t workspace) {
  const float one = 1, zero = 0;
  void *px = (void*)x, *pf = (void*)f, *py = (void*)y, *ws = (void*)workspace;
  switch (plan->direction) {
    case AGR_FORWARD:
      return lib->cudnnConvolutionForward(handle, &one, plan->x, px, plan->f, pf, plan->conv, plan->algo, ws,
                                          plan->workspace, &zero, plan->y, py);
    case AGR_INPUT_GRAD:
      return lib->cudnnConvolutionBackwardData(handle, &one, plan->f, pf, plan->y, py, plan->conv, plan->algo, ws,
                                               plan->workspace, &zero, plan->x, px);
    default:
      return lib->cudnnConvolutionBackwardFilter(handle, &one, plan->x, px, plan->y, py, plan->conv, plan->algo, ws,
                                                 plan->workspace, &zero, plan->f, pf);
  }
}
