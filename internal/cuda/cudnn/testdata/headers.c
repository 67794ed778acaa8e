// Compiled (never run) by TestHeaders: api.h against NVIDIA's header.
#define AGR_REAL_HEADER
#include <cudnn.h>

#include "../api.h"

#define VALUE(name, value) _Static_assert((int)(name) == (value), #name);
AGR_CUDNN_VALUES(VALUE)

#define FUNCTION(result, name, parameters) \
  _Static_assert(__builtin_types_compatible_p(__typeof__(&name), result(*) parameters), #name);
AGR_CUDNN_FUNCTIONS(FUNCTION)

#define SAME(type, member) _Static_assert(offsetof(type, member) == offsetof(agr_perf, member), #type "." #member);
#define PERF(type)                                                 \
  _Static_assert(sizeof(type) == sizeof(agr_perf), #type);         \
  SAME(type, algo) SAME(type, status) SAME(type, time) SAME(type, memory) SAME(type, determinism) SAME(type, mathType)
PERF(cudnnConvolutionFwdAlgoPerf_t)
PERF(cudnnConvolutionBwdDataAlgoPerf_t)
PERF(cudnnConvolutionBwdFilterAlgoPerf_t)
