// The interface between the double of libcuda and a kernel module that the double of
// NVRTC compiled. Included by both sides; the module side includes nothing else, as
// NVRTC has no standard headers either.
#pragma once

struct agr_dim {
  unsigned x, y, z;
};

// Operations among the lanes of a warp.
enum agr_warp_op { AGR_SYNCWARP, AGR_SHFL, AGR_BALLOT };

// What a kernel calls while it runs.
struct agr_runtime {
  // barrier waits for all threads of the block. count is the number of threads that
  // gave a predicate that is not 0.
  int (*barrier)(int predicate);
  // warp waits for the lanes of mask. SHFL returns the value of lane arg, BALLOT the
  // lanes that gave a value that is not 0.
  unsigned long long (*warp)(enum agr_warp_op op, unsigned mask, unsigned long long value, int arg);
  // trap ends the launch as an illegal instruction does; text says why.
  void (*trap)(const char *text);
  // access tells of n bytes that are about to be read or written; only modules that
  // were compiled to look for data races call it (kernel_races.h).
  void (*access)(const void *p, unsigned n, int write);
};

struct agr_kernel {
  const char *name;
  void (*call)(void **params);  // calls the kernel, parameter i being at params[i]
  int params;
  const int *sizes;  // of the parameters, in bytes
  int max_threads;   // __launch_bounds__, 0 without
};

// A module exports one of these under the name agr_module.
struct agr_module {
  struct agr_dim *thread, *block, *block_dim, *grid_dim;  // its threadIdx and so on
  const struct agr_runtime **runtime;
  unsigned char *dynamic_shared;
  int dynamic_capacity;
  const struct agr_kernel *kernels;
  int kernel_count;
};

// A compiled image is this header and then the shared object.
struct agr_image {
  char magic[8];
  unsigned arch;  // 90 for sm_90
  unsigned reserved;
  unsigned long long size;  // of the shared object
};
#define AGR_IMAGE_MAGIC "AGRSIMT1"
