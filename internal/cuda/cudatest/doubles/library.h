// What the doubles of cuDNN and cuBLASLt share: they are clients of the double of
// the driver, as the real libraries are of the real driver.
#pragma once

#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "fakecuda.h"

namespace {

template <class F>
F driver(const char *name) {
  static void *lib = dlopen(getenv("AGRDIST_LIBCUDA"), RTLD_NOW | RTLD_NOLOAD);
  void *f = lib ? dlsym(lib, name) : nullptr;
  if (!f) {
    fprintf(stderr, "double: the driver's double lacks %s\n", name);
    abort();
  }
  return reinterpret_cast<F>(f);
}

inline bool hasContext() { return driver<decltype(&fakecuDevice)>("fakecuDevice")() >= 0; }

// onDevice says whether [p, p+n) lies in one allocation of the device.
inline bool onDevice(const void *p, size_t n) {
  static auto range = driver<decltype(&fakecuRange)>("fakecuRange");
  return p && range(p, n);
}

inline bool alignedTo(const void *p, size_t n) { return reinterpret_cast<uint64_t>(p) % n == 0; }

inline bool overlap(const void *a, size_t na, const void *b, size_t nb) {
  auto x = static_cast<const char *>(a), y = static_cast<const char *>(b);
  return na && nb && x < y + nb && y < x + na;
}

// enqueue puts f on the stream, once or, while the stream captures, for each
// replay. What f returns is the fate of the context.
inline bool enqueue(void *stream, const char *name, std::function<CUresult()> f) {
  using Work = std::function<CUresult()>;
  static auto put = driver<decltype(&fakecuEnqueue)>("fakecuEnqueue");
  return put(static_cast<CUstream>(stream), name, [](void *f) { return (*static_cast<Work *>(f))(); },
             new Work(std::move(f)), [](void *f) { delete static_cast<Work *>(f); }) == 0;
}

// scribble is what an algorithm leaves in its workspace.
inline void scribble(void *p, size_t n) { memset(p, 0xab, n); }

// jitter makes the result of a sum whose order is not fixed: other bits each time.
inline float jitter(float v) {
  static thread_local std::mt19937 random(std::random_device{}());
  return v * (1 + 1e-6f * (static_cast<float>(random() % 2001) / 1000 - 1));
}

inline float fromBF16(uint16_t h) {
  uint32_t u = static_cast<uint32_t>(h) << 16;
  float v;
  memcpy(&v, &u, 4);
  return v;
}

// rounded keeps the upper bits of a float, to nearest even; a NaN stays one.
inline uint32_t rounded(float v, int dropped) {
  uint32_t u;
  memcpy(&u, &v, 4);
  if (v != v) return u | 0x400000;
  u += (1u << (dropped - 1)) - 1 + (u >> dropped & 1);
  return u >> dropped << dropped;
}

inline uint16_t toBF16(float v) { return static_cast<uint16_t>(rounded(v, 16) >> 16); }

// toTF32 keeps 10 bits of the mantissa, as the tensor cores do.
inline float toTF32(float v) {
  uint32_t u = rounded(v, 13);
  memcpy(&v, &u, 4);
  return v;
}

// operand reads n elements as the multipliers see them.
inline std::vector<float> operand(const void *p, size_t n, bool bf16, bool tf32) {
  std::vector<float> v(n);
  for (size_t i = 0; i < n; i++) {
    v[i] = bf16 ? fromBF16(static_cast<const uint16_t *>(p)[i]) : static_cast<const float *>(p)[i];
    if (tf32) v[i] = toTF32(v[i]);
  }
  return v;
}

}  // namespace

