// What the double of libcuda runs: one launch of a kernel.
#pragma once
#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include "fakecuda.h"
#include "simt.h"

struct Launch {
  const agr_module *module;
  const agr_kernel *kernel;
  agr_dim grid, blockDim;
  unsigned dynamic;  // bytes of dynamic shared memory
  void **params;
  std::vector<std::pair<void *, size_t>> shared;  // the module's __shared__ variables
};

// runKernel runs all blocks and returns 0, or the error that breaks the context; what
// happened is on stderr.
CUresult runKernel(const Launch &launch, std::mt19937_64 &random);

// describeFault says what an address is, with respect to the allocations (memory.cc).
// It takes no lock: the thread that faulted may hold one.
void describeFault(const void *p, char *text, size_t n);
