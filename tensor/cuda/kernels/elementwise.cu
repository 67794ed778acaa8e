// Loops over elements. A block is elementThreads threads and covers a span of
// unroll vectors each.

constexpr int elementThreads = 256, unroll = 4;

// each is dst[i] = f(a[i], b[i]).
template <class T, bool Two, class F>
__device__ inline void each(T* dst, const T* a, const T* b, i64 n, F f) {
  constexpr int V = wide<T>;
  i64 first = (i64)blockIdx.x * (elementThreads * unroll * V);
  if (aligned(dst) && aligned(a) && (!Two || aligned(b))) {
    float x[unroll][V], y[unroll][V];
    first += threadIdx.x * V;
#pragma unroll
    for (int u = 0; u < unroll; u++) {
      i64 i = first + u * elementThreads * V;
      if (i + V > n) continue;
      load(a + i, x[u]);
      if (Two) load(b + i, y[u]);
    }
#pragma unroll
    for (int u = 0; u < unroll; u++) {
      i64 i = first + u * elementThreads * V;
      if (i + V <= n) {
#pragma unroll
        for (int k = 0; k < V; k++) x[u][k] = f(x[u][k], Two ? y[u][k] : 0.0f);
        store(dst + i, x[u]);
      } else {
        for (; i < n; i++) set(dst[i], f(toFloat(a[i]), Two ? toFloat(b[i]) : 0.0f));
      }
    }
    return;
  }
  for (int u = 0; u < unroll * V; u++) {
    i64 i = first + u * elementThreads + threadIdx.x;
    if (i < n) set(dst[i], f(toFloat(a[i]), Two ? toFloat(b[i]) : 0.0f));
  }
}

template <class T>
__device__ inline void fill(T* dst, i64 n, float v) {
  constexpr int V = wide<T>;
  i64 first = (i64)blockIdx.x * (elementThreads * unroll * V);
  for (int u = 0; u < unroll * V; u++) {
    i64 i = first + u * elementThreads + threadIdx.x;
    if (i < n) set(dst[i], v);
  }
}

// cast converts between the two types; a block covers as many elements as a
// block of each over bf16.
template <class D, class S>
__device__ inline void cast(D* dst, const S* src, i64 n) {
  i64 first = (i64)blockIdx.x * (elementThreads * unroll * 8);
  if (aligned(dst) && aligned(src)) {
    for (int u = 0; u < unroll; u++) {
      i64 i = first + (u * elementThreads + threadIdx.x) * 8;
      float v[8];
      if (i + 8 <= n) {
        load(src + i, v);
        store(dst + i, v);
      } else {
        for (; i < n; i++) set(dst[i], toFloat(src[i]));
      }
    }
    return;
  }
  for (int u = 0; u < unroll * 8; u++) {
    i64 i = first + u * elementThreads + threadIdx.x;
    if (i < n) set(dst[i], toFloat(src[i]));
  }
}

#define KERNELS(S, T)                                                                             \
  extern "C" __global__ void fill_##S(T* dst, i64 n, float v) { fill(dst, n, v); }                \
  extern "C" __global__ void add_##S(T* dst, const T* a, const T* b, i64 n) {                     \
    each<T, true>(dst, a, b, n, [](float x, float y) { return x + y; });                          \
  }                                                                                               \
  extern "C" __global__ void add_scaled_##S(T* dst, const T* a, i64 n, float alpha) {             \
    each<T, true>(dst, dst, a, n, [alpha](float x, float y) { return fmaf(alpha, y, x); });       \
  }                                                                                               \
  extern "C" __global__ void scale_##S(T* dst, const T* a, i64 n, float alpha) {                  \
    each<T, false>(dst, a, a, n, [alpha](float x, float) { return alpha * x; });                  \
  }                                                                                               \
  extern "C" __global__ void silu_##S(T* dst, const T* x, i64 n) {                                \
    each<T, false>(dst, x, x, n, [](float v, float) { return siluOf<T>(v); });                       \
  }                                                                                               \
  extern "C" __global__ void silu_grad_##S(T* dx, const T* dy, const T* x, i64 n) {               \
    each<T, true>(dx, dy, x, n, [](float d, float v) { return d * siluSlope<T>(v); });               \
  }

KERNELS(f32, float)
KERNELS(bf16, bf16)

extern "C" __global__ void widen(float* dst, const bf16* src, i64 n) { cast(dst, src, n); }
extern "C" __global__ void narrow(bf16* dst, const float* src, i64 n) { cast(dst, src, n); }
