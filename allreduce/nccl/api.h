// The part of nccl.h that this package calls. Types, values and functions have
// NVIDIA's names; the lists let TestHeaders compare each of them with the real
// header (which then defines the types: AGR_REAL_HEADER).
#ifndef AGRDIST_NCCL_API_H
#define AGRDIST_NCCL_API_H

#include <limits.h>
#include <stddef.h>

#define AGR_NCCL_VALUES(X) \
  X(ncclSuccess, 0) \
  X(ncclUnhandledCudaError, 1) \
  X(ncclSystemError, 2) \
  X(ncclInternalError, 3) \
  X(ncclInvalidArgument, 4) \
  X(ncclInvalidUsage, 5) \
  X(ncclRemoteError, 6) \
  X(ncclInProgress, 7) \
  X(ncclFloat32, 7) \
  X(ncclBfloat16, 9) \
  X(ncclSum, 0) \
  X(NCCL_UNIQUE_ID_BYTES, 128)

#ifndef AGR_REAL_HEADER

#define AGR_VALUE(name, value) name = value,
enum { AGR_NCCL_VALUES(AGR_VALUE) };
#undef AGR_VALUE

typedef unsigned int ncclResult_t;
typedef unsigned int ncclDataType_t;
typedef unsigned int ncclRedOp_t;
typedef struct ncclComm *ncclComm_t;
typedef struct CUstream_st *cudaStream_t;

typedef struct {
  char internal[NCCL_UNIQUE_ID_BYTES];
} ncclUniqueId;

// ncclConfig_t grows with each version; the library reads as much as size says, and
// takes its own defaults for what is newer than version.
typedef struct {
  size_t size;
  unsigned int magic;
  unsigned int version;
  int blocking;
  int cgaClusterSize;
} ncclConfig_t;

#endif  // AGR_REAL_HEADER

// The first members of ncclConfig_t, as of 2.14, where they began.
#define AGR_NCCL_MAGIC 0xcafebeefu
#define AGR_NCCL_CONFIG_VERSION 21400

// X(result, name, parameters).
#define AGR_NCCL_FUNCTIONS(X) \
  X(ncclResult_t, ncclGetVersion, (int *)) \
  X(ncclResult_t, ncclGetUniqueId, (ncclUniqueId *)) \
  X(ncclResult_t, ncclCommInitRankConfig, (ncclComm_t *, int, ncclUniqueId, int, ncclConfig_t *)) \
  X(ncclResult_t, ncclCommGetAsyncError, (ncclComm_t, ncclResult_t *)) \
  X(ncclResult_t, ncclCommFinalize, (ncclComm_t)) \
  X(ncclResult_t, ncclCommDestroy, (ncclComm_t)) \
  X(ncclResult_t, ncclCommAbort, (ncclComm_t)) \
  X(const char *, ncclGetErrorString, (ncclResult_t)) \
  X(const char *, ncclGetLastError, (ncclComm_t)) \
  X(ncclResult_t, ncclGroupStart, (void)) \
  X(ncclResult_t, ncclGroupEnd, (void)) \
  X(ncclResult_t, ncclSend, (const void *, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t)) \
  X(ncclResult_t, ncclRecv, (void *, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t)) \
  X(ncclResult_t, ncclAllReduce, \
    (const void *, void *, size_t, ncclDataType_t, ncclRedOp_t, ncclComm_t, cudaStream_t)) \
  X(ncclResult_t, ncclBroadcast, (const void *, void *, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t))

#endif
