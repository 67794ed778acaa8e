// The sequences of calls that plan.go makes as one.
#ifndef AGRDIST_CUDNN_PLAN_H
#define AGRDIST_CUDNN_PLAN_H

#include "api.h"

// agr_cudnn is the library: its functions by their names.
typedef struct {
#define AGR_MEMBER(result, name, parameters) result(*name) parameters;
  AGR_CUDNN_FUNCTIONS(AGR_MEMBER)
#undef AGR_MEMBER
} agr_cudnn;

// agr_cudnn_symbol names entry i of the table; NULL past the last.
const char* agr_cudnn_symbol(int i);
// agr_cudnn_set fills entry i.
void agr_cudnn_set(agr_cudnn* lib, int i, void* f);

size_t agr_cudnn_version(const agr_cudnn* lib);
const char* agr_cudnn_string(const agr_cudnn* lib, cudnnStatus_t s);
void agr_cudnn_last(const agr_cudnn* lib, char* text, size_t size);
cudnnStatus_t agr_cudnn_create(const agr_cudnn* lib, cudnnHandle_t* handle, uintptr_t stream);
cudnnStatus_t agr_cudnn_destroy(const agr_cudnn* lib, cudnnHandle_t handle);

enum { AGR_FORWARD, AGR_INPUT_GRAD, AGR_WEIGHT_GRAD };

// x [n,h,w,c], filter [k,kernel,kernel,c], y [n,oh,ow,k].
typedef struct {
  int direction;
  int n, h, w, c, k, oh, ow, kernel, stride, pad;
  cudnnDataType_t type;
  cudnnMathType_t math;
  size_t workspace;  // the most that an algorithm may ask for, bytes
  int skip;          // pass over so many of the algorithms that will do
} agr_conv;

typedef struct {
  int direction;
  cudnnTensorDescriptor_t x, y;
  cudnnFilterDescriptor_t f;
  cudnnConvolutionDescriptor_t conv;
  unsigned int algo;
  size_t workspace;
} agr_plan;

// agr_cudnn_plan_init fills *plan; found is 0 where the library has no algorithm that
// will do. The caller destroys the plan, after a failure too.
cudnnStatus_t agr_cudnn_plan_init(const agr_cudnn* lib, cudnnHandle_t handle, const agr_conv* problem, agr_plan* plan,
                                  int* found);
void agr_cudnn_plan_destroy(const agr_cudnn* lib, agr_plan* plan);
// agr_cudnn_plan_run writes y, x or f from the other two.
cudnnStatus_t agr_cudnn_plan_run(const agr_cudnn* lib, cudnnHandle_t handle, const agr_plan* plan, uintptr_t x,
                                 uintptr_t f, uintptr_t y, uintptr_t workspace);

#endif
