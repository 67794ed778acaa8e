// The part of cublasLt.h that this package calls. Types, values and functions
// have NVIDIA's names; the lists let TestHeaders compare each of them with the
// real header (which then defines the types: AGR_REAL_HEADER).
#ifndef AGRDIST_CUBLASLT_API_H
#define AGRDIST_CUBLASLT_API_H

#include <stddef.h>
#include <stdint.h>

#define AGR_CUBLASLT_VALUES(X) \
  X(CUBLAS_STATUS_SUCCESS, 0) \
  X(CUBLAS_STATUS_NOT_SUPPORTED, 15) \
  X(CUBLAS_OP_N, 0) \
  X(CUBLAS_OP_T, 1) \
  X(CUBLAS_COMPUTE_32F, 68) \
  X(CUBLAS_COMPUTE_32F_FAST_TF32, 77) \
  X(CUDA_R_32F, 0) \
  X(CUDA_R_16BF, 14) \
  X(CUBLASLT_MATMUL_DESC_TRANSA, 3) \
  X(CUBLASLT_MATMUL_DESC_TRANSB, 4) \
  X(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, 5) \
  X(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, 6) \
  X(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, 1) \
  X(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, 3) \
  X(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, 5) \
  X(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, 6) \
  X(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, 7) \
  X(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, 8) \
  X(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, 2)

#ifndef AGR_REAL_HEADER

#define AGR_VALUE(name, value) name = value,
enum { AGR_CUBLASLT_VALUES(AGR_VALUE) };
#undef AGR_VALUE

typedef unsigned int cublasStatus_t;
typedef unsigned int cublasComputeType_t;
typedef unsigned int cudaDataType_t;
typedef unsigned int cublasLtMatmulDescAttributes_t;
typedef unsigned int cublasLtMatrixLayoutAttribute_t;
typedef unsigned int cublasLtMatmulPreferenceAttributes_t;

typedef struct cublasLtContext *cublasLtHandle_t;
typedef struct agr_cublaslt_desc *cublasLtMatmulDesc_t;
typedef struct agr_cublaslt_layout *cublasLtMatrixLayout_t;
typedef struct agr_cublaslt_preference *cublasLtMatmulPreference_t;
typedef struct CUstream_st *cudaStream_t;

typedef struct {
  uint64_t data[8];
} cublasLtMatmulAlgo_t;

typedef struct {
  cublasLtMatmulAlgo_t algo;
  size_t workspaceSize;
  cublasStatus_t state;
  float wavesCount;
  int reserved[4];
} cublasLtMatmulHeuristicResult_t;

#endif  // AGR_REAL_HEADER

// X(result, name, parameters).
#define AGR_CUBLASLT_FUNCTIONS(X) \
  X(size_t, cublasLtGetVersion, (void)) \
  X(const char *, cublasLtGetStatusName, (cublasStatus_t)) \
  X(const char *, cublasLtGetStatusString, (cublasStatus_t)) \
  X(cublasStatus_t, cublasLtCreate, (cublasLtHandle_t *)) \
  X(cublasStatus_t, cublasLtDestroy, (cublasLtHandle_t)) \
  X(cublasStatus_t, cublasLtMatmulDescCreate, (cublasLtMatmulDesc_t *, cublasComputeType_t, cudaDataType_t)) \
  X(cublasStatus_t, cublasLtMatmulDescDestroy, (cublasLtMatmulDesc_t)) \
  X(cublasStatus_t, cublasLtMatmulDescSetAttribute, \
    (cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t, const void *, size_t)) \
  X(cublasStatus_t, cublasLtMatrixLayoutCreate, \
    (cublasLtMatrixLayout_t *, cudaDataType_t, uint64_t, uint64_t, int64_t)) \
  X(cublasStatus_t, cublasLtMatrixLayoutDestroy, (cublasLtMatrixLayout_t)) \
  X(cublasStatus_t, cublasLtMatrixLayoutSetAttribute, \
    (cublasLtMatrixLayout_t, cublasLtMatrixLayoutAttribute_t, const void *, size_t)) \
  X(cublasStatus_t, cublasLtMatmulPreferenceCreate, (cublasLtMatmulPreference_t *)) \
  X(cublasStatus_t, cublasLtMatmulPreferenceDestroy, (cublasLtMatmulPreference_t)) \
  X(cublasStatus_t, cublasLtMatmulPreferenceSetAttribute, \
    (cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t, const void *, size_t)) \
  X(cublasStatus_t, cublasLtMatmulAlgoGetHeuristic, \
    (cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, \
     cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatmulPreference_t, int, \
     cublasLtMatmulHeuristicResult_t[], int *)) \
  X(cublasStatus_t, cublasLtMatmul, \
    (cublasLtHandle_t, cublasLtMatmulDesc_t, const void *, const void *, cublasLtMatrixLayout_t, \
     const void *, cublasLtMatrixLayout_t, const void *, const void *, cublasLtMatrixLayout_t, \
     void *, cublasLtMatrixLayout_t, const cublasLtMatmulAlgo_t *, void *, size_t, cudaStream_t))

#endif
