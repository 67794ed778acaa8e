// The library's functions, reached through a table: cgo cannot call a pointer.
#ifndef AGRDIST_NCCL_CALLS_H
#define AGRDIST_NCCL_CALLS_H

#include <stdint.h>
#include <string.h>

#include "api.h"

typedef struct {
#define AGR_MEMBER(result, name, parameters) result(*name) parameters;
  AGR_NCCL_FUNCTIONS(AGR_MEMBER)
#undef AGR_MEMBER
} agr_nccl;

// agr_nccl_symbol names entry i of the table; NULL past the last.
static inline const char *agr_nccl_symbol(int i) {
#define AGR_NAME(result, name, parameters) #name,
  static const char *const names[] = {AGR_NCCL_FUNCTIONS(AGR_NAME)};
#undef AGR_NAME
  return i < (int)(sizeof names / sizeof *names) ? names[i] : NULL;
}

static inline void agr_nccl_set(agr_nccl *l, int i, void *f) { memcpy((char *)l + i * sizeof f, &f, sizeof f); }

static inline ncclResult_t agr_nccl_version(const agr_nccl *l, int *v) { return l->ncclGetVersion(v); }
static inline ncclResult_t agr_nccl_id(const agr_nccl *l, ncclUniqueId *id) { return l->ncclGetUniqueId(id); }

static inline ncclResult_t agr_nccl_init(const agr_nccl *l, ncclComm_t *c, int size, ncclUniqueId id, int rank) {
  ncclConfig_t config = {sizeof config, AGR_NCCL_MAGIC, AGR_NCCL_CONFIG_VERSION, 0, INT_MIN};
  return l->ncclCommInitRankConfig(c, size, id, rank, &config);
}

static inline ncclResult_t agr_nccl_async(const agr_nccl *l, ncclComm_t c, ncclResult_t *r) {
  return l->ncclCommGetAsyncError(c, r);
}

static inline ncclResult_t agr_nccl_finalize(const agr_nccl *l, ncclComm_t c) { return l->ncclCommFinalize(c); }
static inline ncclResult_t agr_nccl_destroy(const agr_nccl *l, ncclComm_t c) { return l->ncclCommDestroy(c); }
static inline ncclResult_t agr_nccl_abort(const agr_nccl *l, ncclComm_t c) { return l->ncclCommAbort(c); }
static inline const char *agr_nccl_text(const agr_nccl *l, ncclResult_t r) { return l->ncclGetErrorString(r); }
static inline const char *agr_nccl_last(const agr_nccl *l, ncclComm_t c) { return l->ncclGetLastError(c); }
static inline ncclResult_t agr_nccl_group_start(const agr_nccl *l) { return l->ncclGroupStart(); }
static inline ncclResult_t agr_nccl_group_end(const agr_nccl *l) { return l->ncclGroupEnd(); }

// Device addresses come as integers: they are no memory of Go's.
static inline ncclResult_t agr_nccl_send(const agr_nccl *l, uintptr_t p, size_t n, ncclDataType_t t, int peer,
                                         ncclComm_t c, uintptr_t stream) {
  return l->ncclSend((const void *)p, n, t, peer, c, (cudaStream_t)stream);
}

static inline ncclResult_t agr_nccl_recv(const agr_nccl *l, uintptr_t p, size_t n, ncclDataType_t t, int peer,
                                         ncclComm_t c, uintptr_t stream) {
  return l->ncclRecv((void *)p, n, t, peer, c, (cudaStream_t)stream);
}

static inline ncclResult_t agr_nccl_all_reduce(const agr_nccl *l, uintptr_t from, uintptr_t to, size_t n,
                                               ncclDataType_t t, ncclComm_t c, uintptr_t stream) {
  return l->ncclAllReduce((const void *)from, (void *)to, n, t, ncclSum, c, (cudaStream_t)stream);
}

static inline ncclResult_t agr_nccl_broadcast(const agr_nccl *l, uintptr_t from, uintptr_t to, size_t n,
                                              ncclDataType_t t, int root, ncclComm_t c, uintptr_t stream) {
  return l->ncclBroadcast((const void *)from, (void *)to, n, t, root, c, (cudaStream_t)stream);
}

#endif
