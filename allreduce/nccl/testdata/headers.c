// Compiled (never run) by TestHeaders: api.h against NVIDIA's header.
#define AGR_REAL_HEADER
// The kinds of half are device code, of no use here.
#define __CUDA_FP16_H__
#define __CUDA_BF16_H__
#include <nccl.h>

#include "../api.h"

#define VALUE(name, value) _Static_assert((int)(name) == (value), #name);
AGR_NCCL_VALUES(VALUE)

#define FUNCTION(result, name, parameters) \
  _Static_assert(__builtin_types_compatible_p(__typeof__(&name), result(*) parameters), #name);
AGR_NCCL_FUNCTIONS(FUNCTION)

// The layout in api.h of what the library reads.
_Static_assert(sizeof(ncclUniqueId) == 128, "ncclUniqueId");
_Static_assert(offsetof(ncclConfig_t, size) == 0, "size");
_Static_assert(offsetof(ncclConfig_t, magic) == 8, "magic");
_Static_assert(offsetof(ncclConfig_t, version) == 12, "version");
_Static_assert(offsetof(ncclConfig_t, blocking) == 16, "blocking");
_Static_assert(offsetof(ncclConfig_t, cgaClusterSize) == 20, "cgaClusterSize");
_Static_assert(NCCL_API_MAGIC == AGR_NCCL_MAGIC, "magic");
_Static_assert(NCCL_VERSION(2, 14, 0) == AGR_NCCL_CONFIG_VERSION, "version");
