// What the double of libcuda runs: one launch of a kernel.
#pragma once
#include <stdint.h>

#include <utility>
#include <vector>

#include "fakecuda.h"
#include "simt.h"

// Random is xorshift64*: the shuffling is most of what a thread costs.
struct Random {
  unsigned long long state = 1;
  unsigned next() {
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return (unsigned)(state * 0x2545f4914f6cdd1dull >> 32);
  }
  unsigned below(unsigned n) { return (unsigned)((unsigned long long)next() * n >> 32); }
  template <class T>
  void shuffle(std::vector<T> &v) {
    for (size_t i = v.size(); i > 1; i--) std::swap(v[i - 1], v[below((unsigned)i)]);
  }
};

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
CUresult runKernel(const Launch &launch, Random &random);

// deviceRange is the allocation of device memory that an address lies in (memory.cc);
// false where it is other memory.
bool deviceRange(const void *p, uintptr_t *from, uintptr_t *to);

// describeFault says what an address is, with respect to the allocations (memory.cc).
// It takes no lock: the thread that faulted may hold one.
void describeFault(const void *p, char *text, size_t n);
