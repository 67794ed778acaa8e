// Put in front of every kernel source by the double of NVRTC: CUDA C++ as C++17.
// A thread of a block is a coroutine (see simt.cc); block-shared variables are
// statics, since one block of a module runs at a time.
#include "simt.h"

typedef __SIZE_TYPE__ size_t;
#ifndef NULL
#define NULL 0
#endif
#define __CUDACC__ 1
#define __CUDACC_RTC__ 1
#define __CUDA_ARCH__ (AGR_ARCH * 10)
#define warpSize 32

static agr_dim agr_thread, agr_block, agr_block_dim, agr_grid_dim;
static const agr_runtime *agr_rt;
struct dim3 {
  unsigned x, y, z;
};
typedef agr_dim uint3;
#define threadIdx (*(const agr_dim *)&agr_thread)
#define blockIdx (*(const agr_dim *)&agr_block)
#define blockDim (*(const agr_dim *)&agr_block_dim)
#define gridDim (*(const agr_dim *)&agr_grid_dim)

#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __restrict__ __restrict
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__

// Vector types, aligned as CUDA's are.
#define AGR_VECTORS(T, name, a2, a4)                                                    \
  struct __attribute__((aligned(sizeof(T)))) name##1 { T x; };                          \
  struct __attribute__((aligned(a2))) name##2 { T x, y; };                              \
  struct name##3 { T x, y, z; };                                                        \
  struct __attribute__((aligned(a4))) name##4 { T x, y, z, w; };                        \
  static inline name##2 make_##name##2(T x, T y) { return {x, y}; }                     \
  static inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }             \
  static inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
#define AGR_VECTORS3(T, name, a2, a4)                                                   \
  struct __attribute__((aligned(a2))) name##2 { T x, y; };                              \
  struct __attribute__((aligned(a4))) name##4 { T x, y, z, w; };                        \
  static inline name##2 make_##name##2(T x, T y) { return {x, y}; }                     \
  static inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
AGR_VECTORS(float, float, 8, 16)
AGR_VECTORS(int, int, 8, 16)
AGR_VECTORS3(unsigned, uint, 8, 16)
AGR_VECTORS(short, short, 4, 8)
AGR_VECTORS(unsigned short, ushort, 4, 8)
AGR_VECTORS(signed char, char, 2, 4)
AGR_VECTORS(unsigned char, uchar, 2, 4)
AGR_VECTORS3(long long, longlong, 16, 16)
AGR_VECTORS3(unsigned long long, ulonglong, 16, 16)
AGR_VECTORS3(double, double, 16, 16)

// Barriers and the exchange between lanes.
static inline void __syncthreads() { agr_rt->barrier(0); }
static inline int __syncthreads_count(int p) { return agr_rt->barrier(p); }
static inline int __syncthreads_or(int p) { return agr_rt->barrier(p) != 0; }
static inline int __syncthreads_and(int p) { return agr_rt->barrier(!p) == 0; }
static inline void __syncwarp(unsigned mask = 0xffffffffu) { agr_rt->warp(AGR_SYNCWARP, mask, 0, 0); }
static inline unsigned __ballot_sync(unsigned mask, int p) { return (unsigned)agr_rt->warp(AGR_BALLOT, mask, p != 0, 0); }
static inline int __any_sync(unsigned mask, int p) { return __ballot_sync(mask, p) != 0; }
static inline int __all_sync(unsigned mask, int p) { return __ballot_sync(mask, !p) == 0; }

static inline int agr_lane() {
  return (agr_thread.x + agr_block_dim.x * (agr_thread.y + agr_block_dim.y * agr_thread.z)) % 32;
}
template <class T>
static inline T agr_shuffle(unsigned mask, T v, int from) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
  unsigned long long bits = 0;
  __builtin_memcpy(&bits, &v, sizeof v);
  bits = agr_rt->warp(AGR_SHFL, mask, bits, from);
  __builtin_memcpy(&v, &bits, sizeof v);
  return v;
}
template <class T>
static inline T __shfl_sync(unsigned mask, T v, int from, int width = 32) {
  return agr_shuffle(mask, v, (agr_lane() & ~(width - 1)) | (from & (width - 1)));
}
template <class T>
static inline T __shfl_xor_sync(unsigned mask, T v, int lanes, int width = 32) {
  int from = agr_lane() ^ lanes;
  return agr_shuffle(mask, v, from >= (agr_lane() & ~(width - 1)) + width ? agr_lane() : from);
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32) {
  int in = agr_lane() & (width - 1);
  return agr_shuffle(mask, v, in + (int)by >= width ? agr_lane() : agr_lane() + (int)by);
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32) {
  int in = agr_lane() & (width - 1);
  return agr_shuffle(mask, v, in < (int)by ? agr_lane() : agr_lane() - (int)by);
}

#include "kernel_math.h"

// How a launch reaches a kernel: its parameters unpacked by their types.
template <class T>
struct agr_plain {
  typedef T type;
};
template <class T>
struct agr_plain<const T> {
  typedef T type;
};
template <int... I>
struct agr_indices {};
template <int N, int... I>
struct agr_count : agr_count<N - 1, N - 1, I...> {};
template <int... I>
struct agr_count<0, I...> {
  typedef agr_indices<I...> type;
};
template <class... A, int... I>
static inline void agr_unpack(void (*f)(A...), void **p, agr_indices<I...>) {
  f(*(typename agr_plain<A>::type *)p[I]...);
}
template <class... A>
static inline void agr_call(void (*f)(A...), void **p) {
  agr_unpack(f, p, typename agr_count<sizeof...(A)>::type());
}
template <class... A>
struct agr_sizes {
  static const int list[sizeof...(A) + 1];
};
template <class... A>
const int agr_sizes<A...>::list[sizeof...(A) + 1] = {(int)sizeof(A)..., 0};
template <class... A>
static constexpr int agr_arity(void (*)(A...)) {
  return sizeof...(A);
}
template <class... A>
static const int *agr_sizes_of(void (*)(A...)) {
  return agr_sizes<A...>::list;
}
alignas(128) static unsigned char agr_dynamic_shared[232448];
