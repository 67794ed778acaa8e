// Compiled (never run) by TestHeaders: api.h against NVIDIA's header.
#define AGR_REAL_HEADER
// The kinds of half are device code, of no use here.
#define __CUDA_FP16_H__
#define __CUDA_BF16_H__
#include <cublasLt.h>

#include "../api.h"

#define VALUE(name, value) _Static_assert((int)(name) == (value), #name);
AGR_CUBLASLT_VALUES(VALUE)

#define FUNCTION(result, name, parameters) \
  _Static_assert(__builtin_types_compatible_p(__typeof__(&name), result(*) parameters), #name);
AGR_CUBLASLT_FUNCTIONS(FUNCTION)

// The layout in api.h of what the library fills.
_Static_assert(sizeof(cublasLtMatmulAlgo_t) == 64, "cublasLtMatmulAlgo_t");
_Static_assert(sizeof(cublasLtMatmulHeuristicResult_t) == 96, "cublasLtMatmulHeuristicResult_t");
_Static_assert(offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize) == 64, "workspaceSize");
_Static_assert(offsetof(cublasLtMatmulHeuristicResult_t, state) == 72, "state");
_Static_assert(offsetof(cublasLtMatmulHeuristicResult_t, wavesCount) == 76, "wavesCount");
