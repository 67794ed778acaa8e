// The part of cudnn.h that this package calls. Types, values and functions have
// NVIDIA's names; the lists let TestHeaders compare each of them with the real
// header (which then defines the types: AGR_REAL_HEADER).
#ifndef AGRDIST_CUDNN_API_H
#define AGRDIST_CUDNN_API_H

#include <stddef.h>
#include <stdint.h>

#define AGR_CUDNN_VALUES(X) \
  X(CUDNN_STATUS_SUCCESS, 0) \
  X(CUDNN_STATUS_NOT_SUPPORTED, 3000) \
  X(CUDNN_STATUS_INTERNAL_ERROR, 4000) \
  X(CUDNN_DATA_FLOAT, 0) \
  X(CUDNN_DATA_BFLOAT16, 9) \
  X(CUDNN_DEFAULT_MATH, 0) \
  X(CUDNN_TENSOR_OP_MATH, 1) \
  X(CUDNN_FMA_MATH, 3) \
  X(CUDNN_TENSOR_NHWC, 1) \
  X(CUDNN_CROSS_CORRELATION, 1) \
  X(CUDNN_DETERMINISTIC, 1)

// One line of the heuristic's answer. The library has three structures of this
// one layout, one for each direction.
typedef struct {
  unsigned int algo;
  unsigned int status;
  float time;
  size_t memory;
  unsigned int determinism;
  unsigned int mathType;
  int reserved[3];
} agr_perf;

#ifndef AGR_REAL_HEADER

#define AGR_VALUE(name, value) name = value,
enum { AGR_CUDNN_VALUES(AGR_VALUE) };
#undef AGR_VALUE

typedef unsigned int cudnnStatus_t;
typedef unsigned int cudnnDataType_t;
typedef unsigned int cudnnMathType_t;
typedef unsigned int cudnnTensorFormat_t;
typedef unsigned int cudnnConvolutionMode_t;
typedef unsigned int cudnnDeterminism_t;
typedef unsigned int cudnnConvolutionFwdAlgo_t;
typedef unsigned int cudnnConvolutionBwdDataAlgo_t;
typedef unsigned int cudnnConvolutionBwdFilterAlgo_t;

typedef struct cudnnContext *cudnnHandle_t;
typedef struct cudnnTensorStruct *cudnnTensorDescriptor_t;
typedef struct cudnnFilterStruct *cudnnFilterDescriptor_t;
typedef struct cudnnConvolutionStruct *cudnnConvolutionDescriptor_t;
typedef struct CUstream_st *cudaStream_t;

typedef agr_perf cudnnConvolutionFwdAlgoPerf_t;
typedef agr_perf cudnnConvolutionBwdDataAlgoPerf_t;
typedef agr_perf cudnnConvolutionBwdFilterAlgoPerf_t;

#endif  // AGR_REAL_HEADER

// X(result, name, parameters).
#define AGR_CUDNN_FUNCTIONS(X) \
  X(size_t, cudnnGetVersion, (void)) \
  X(const char *, cudnnGetErrorString, (cudnnStatus_t)) \
  X(void, cudnnGetLastErrorString, (char *, size_t)) \
  X(cudnnStatus_t, cudnnCreate, (cudnnHandle_t *)) \
  X(cudnnStatus_t, cudnnDestroy, (cudnnHandle_t)) \
  X(cudnnStatus_t, cudnnSetStream, (cudnnHandle_t, cudaStream_t)) \
  X(cudnnStatus_t, cudnnCreateTensorDescriptor, (cudnnTensorDescriptor_t *)) \
  X(cudnnStatus_t, cudnnDestroyTensorDescriptor, (cudnnTensorDescriptor_t)) \
  X(cudnnStatus_t, cudnnSetTensor4dDescriptor, \
    (cudnnTensorDescriptor_t, cudnnTensorFormat_t, cudnnDataType_t, int, int, int, int)) \
  X(cudnnStatus_t, cudnnCreateFilterDescriptor, (cudnnFilterDescriptor_t *)) \
  X(cudnnStatus_t, cudnnDestroyFilterDescriptor, (cudnnFilterDescriptor_t)) \
  X(cudnnStatus_t, cudnnSetFilter4dDescriptor, \
    (cudnnFilterDescriptor_t, cudnnDataType_t, cudnnTensorFormat_t, int, int, int, int)) \
  X(cudnnStatus_t, cudnnCreateConvolutionDescriptor, (cudnnConvolutionDescriptor_t *)) \
  X(cudnnStatus_t, cudnnDestroyConvolutionDescriptor, (cudnnConvolutionDescriptor_t)) \
  X(cudnnStatus_t, cudnnSetConvolution2dDescriptor, \
    (cudnnConvolutionDescriptor_t, int, int, int, int, int, int, cudnnConvolutionMode_t, cudnnDataType_t)) \
  X(cudnnStatus_t, cudnnSetConvolutionMathType, (cudnnConvolutionDescriptor_t, cudnnMathType_t)) \
  X(cudnnStatus_t, cudnnGetConvolutionForwardAlgorithm_v7, \
    (cudnnHandle_t, cudnnTensorDescriptor_t, cudnnFilterDescriptor_t, cudnnConvolutionDescriptor_t, \
     cudnnTensorDescriptor_t, int, int *, cudnnConvolutionFwdAlgoPerf_t *)) \
  X(cudnnStatus_t, cudnnGetConvolutionForwardWorkspaceSize, \
    (cudnnHandle_t, cudnnTensorDescriptor_t, cudnnFilterDescriptor_t, cudnnConvolutionDescriptor_t, \
     cudnnTensorDescriptor_t, cudnnConvolutionFwdAlgo_t, size_t *)) \
  X(cudnnStatus_t, cudnnConvolutionForward, \
    (cudnnHandle_t, const void *, cudnnTensorDescriptor_t, const void *, cudnnFilterDescriptor_t, const void *, \
     cudnnConvolutionDescriptor_t, cudnnConvolutionFwdAlgo_t, void *, size_t, const void *, \
     cudnnTensorDescriptor_t, void *)) \
  X(cudnnStatus_t, cudnnGetConvolutionBackwardDataAlgorithm_v7, \
    (cudnnHandle_t, cudnnFilterDescriptor_t, cudnnTensorDescriptor_t, cudnnConvolutionDescriptor_t, \
     cudnnTensorDescriptor_t, int, int *, cudnnConvolutionBwdDataAlgoPerf_t *)) \
  X(cudnnStatus_t, cudnnGetConvolutionBackwardDataWorkspaceSize, \
    (cudnnHandle_t, cudnnFilterDescriptor_t, cudnnTensorDescriptor_t, cudnnConvolutionDescriptor_t, \
     cudnnTensorDescriptor_t, cudnnConvolutionBwdDataAlgo_t, size_t *)) \
  X(cudnnStatus_t, cudnnConvolutionBackwardData, \
    (cudnnHandle_t, const void *, cudnnFilterDescriptor_t, const void *, cudnnTensorDescriptor_t, const void *, \
     cudnnConvolutionDescriptor_t, cudnnConvolutionBwdDataAlgo_t, void *, size_t, const void *, \
     cudnnTensorDescriptor_t, void *)) \
  X(cudnnStatus_t, cudnnGetConvolutionBackwardFilterAlgorithm_v7, \
    (cudnnHandle_t, cudnnTensorDescriptor_t, cudnnTensorDescriptor_t, cudnnConvolutionDescriptor_t, \
     cudnnFilterDescriptor_t, int, int *, cudnnConvolutionBwdFilterAlgoPerf_t *)) \
  X(cudnnStatus_t, cudnnGetConvolutionBackwardFilterWorkspaceSize, \
    (cudnnHandle_t, cudnnTensorDescriptor_t, cudnnTensorDescriptor_t, cudnnConvolutionDescriptor_t, \
     cudnnFilterDescriptor_t, cudnnConvolutionBwdFilterAlgo_t, size_t *)) \
  X(cudnnStatus_t, cudnnConvolutionBackwardFilter, \
    (cudnnHandle_t, const void *, cudnnTensorDescriptor_t, const void *, cudnnTensorDescriptor_t, const void *, \
     cudnnConvolutionDescriptor_t, cudnnConvolutionBwdFilterAlgo_t, void *, size_t, const void *, \
     cudnnFilterDescriptor_t, void *))

#endif
