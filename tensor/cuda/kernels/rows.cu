// Loops over elements that need their place in a shape: rows of channels,
// samples, images. Tensors have less than 2^32 elements here, so that places
// are 32-bit divisions.

constexpr int elementThreads = 256, unroll = 4;

template <int N>
struct Int {
  static constexpr int value = N;
};

// span calls f(width, i) for the first element of each vector of [0, n): of 16
// bytes of T where wideToo holds, which includes n being a multiple, or of one
// element.
template <class T, class F>
__device__ inline void span(i64 n, bool wideToo, F f) {
  constexpr int V = wide<T>;
  i64 first = (i64)blockIdx.x * (elementThreads * unroll * V);
  if (wideToo) {
#pragma unroll
    for (int u = 0; u < unroll; u++) {
      i64 i = first + (u * elementThreads + threadIdx.x) * V;
      if (i < n) f(Int<V>{}, (u32)i);
    }
  } else {
    for (int u = 0; u < unroll * V; u++) {
      i64 i = first + u * elementThreads + threadIdx.x;
      if (i < n) f(Int<1>{}, (u32)i);
    }
  }
}

template <class T>
__device__ inline bool fits(u32 size) {
  return size % wide<T> == 0;
}

// addChannels is dst[n,..,c] = x[n,..,c] + e[n,c]; per is the elements of x for
// each row of e.
template <class T, class E>
__device__ inline void addChannels(T* dst, const T* x, const E* e, i64 n, u32 per, u32 c) {
  bool ok = fits<T>(c) && aligned(dst) && aligned(x) && aligned(e, sizeof(E) * wide<T> < 16 ? 8 : 16);
  span<T>(n, ok, [=](auto width, u32 i) {
    constexpr int V = decltype(width)::value;
    float a[V], b[V];
    load(x + i, a);
    load(e + i / per * c + i % c, b);
#pragma unroll
    for (int k = 0; k < V; k++) a[k] += b[k];
    store(dst + i, a);
  });
}

// join is whole = [a, b] by rows of ca + cb, or the reverse.
template <class T, bool Split>
__device__ inline void join(T* whole, T* a, T* b, i64 n, u32 ca, u32 cb) {
  bool ok = fits<T>(ca) && fits<T>(cb) && aligned(whole) && aligned(a) && aligned(b);
  span<T>(n, ok, [=](auto width, u32 i) {
    constexpr int V = decltype(width)::value;
    u32 row = i / (ca + cb), col = i % (ca + cb);
    T* part = col < ca ? a + row * ca + col : b + row * cb + (col - ca);
    float v[V];
    if (Split) {
      load(whole + i, v);
      store(part, v);
    } else {
      load(part, v);
      store(whole + i, v);
    }
  });
}

// qSample is dst[n,..] = ca[n] x0[n,..] + cb[n] eps[n,..] (DDPM, equation 4).
template <class T>
__device__ inline void qSample(T* dst, const T* x0, const T* eps, const float* ca, const float* cb, i64 n, u32 per) {
  bool ok = fits<T>(per) && aligned(dst) && aligned(x0) && aligned(eps);
  span<T>(n, ok, [=](auto width, u32 i) {
    constexpr int V = decltype(width)::value;
    float x[V], z[V], signal = ca[i / per], noise = cb[i / per];
    load(x0 + i, x);
    load(eps + i, z);
#pragma unroll
    for (int k = 0; k < V; k++) x[k] = fmaf(signal, x[k], noise * z[k]);
    store(dst + i, x);
  });
}

// corner is the first of the four elements of the map of twice the size that
// belong to element i of a map [rows, w, c], rows counting the images' too.
__device__ inline i64 corner(u32 i, u32 w, u32 c) {
  u32 channel = i % c, pixel = i / c;
  u32 row = pixel / w, column = pixel % w;
  return ((i64)row * 4 * w + 2 * column) * c + channel;
}

// upsample is nearest-neighbour enlargement by 2; n is the elements of x.
template <class T>
__device__ inline void upsample(T* y, const T* x, i64 n, u32 w, u32 c) {
  span<T>(n, fits<T>(c) && aligned(y) && aligned(x), [=](auto width, u32 i) {
    constexpr int V = decltype(width)::value;
    float v[V];
    load(x + i, v);
    T* q = y + corner(i, w, c);
    store(q, v);
    store(q + c, v);
    store(q + 2 * (i64)w * c, v);
    store(q + (2 * (i64)w + 1) * c, v);
  });
}

template <class T>
__device__ inline void upsampleGrad(T* dx, const T* dy, i64 n, u32 w, u32 c) {
  span<T>(n, fits<T>(c) && aligned(dx) && aligned(dy), [=](auto width, u32 i) {
    constexpr int V = decltype(width)::value;
    float v[4][V];
    const T* q = dy + corner(i, w, c);
    load(q, v[0]);
    load(q + c, v[1]);
    load(q + 2 * (i64)w * c, v[2]);
    load(q + (2 * (i64)w + 1) * c, v[3]);
#pragma unroll
    for (int k = 0; k < V; k++) v[0][k] = ((v[0][k] + v[1][k]) + v[2][k]) + v[3][k];
    store(dx + i, v[0]);
  });
}

// embed writes the sinusoidal embedding of steps t, [n, dim], sine and cosine
// of frequency k; an odd last column is zero.
template <class T>
__device__ inline void embed(T* dst, const i64* t, int n, int dim, int shift, int sinAt, int cosAt) {
  int half = dim / 2, columns = half + dim % 2;
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n * columns) return;
  int sample = i / columns, k = i % columns;
  T* row = dst + (i64)sample * dim;
  if (k == half) {
    set(row[dim - 1], 0.0f);
    return;
  }
  double angle = (double)t[sample] * pow(10000.0, -(double)k / (double)(half - shift));
  set(row[sinAt + k], (float)sin(angle));
  set(row[cosAt + k], (float)cos(angle));
}

#define KERNELS(S, T)                                                                                            \
  extern "C" __global__ void add_channels_##S(T* dst, const T* x, const float* e, i64 n, u32 per, u32 c) {       \
    addChannels(dst, x, e, n, per, c);                                                                           \
  }                                                                                                              \
  extern "C" __global__ void concat_##S(T* dst, T* a, T* b, i64 n, u32 ca, u32 cb) {                             \
    join<T, false>(dst, a, b, n, ca, cb);                                                                        \
  }                                                                                                              \
  extern "C" __global__ void split_##S(T* src, T* a, T* b, i64 n, u32 ca, u32 cb) {                              \
    join<T, true>(src, a, b, n, ca, cb);                                                                         \
  }                                                                                                              \
  extern "C" __global__ void q_sample_##S(T* dst, const T* x0, const T* eps, const float* ca, const float* cb,   \
                                          i64 n, u32 per) {                                                      \
    qSample(dst, x0, eps, ca, cb, n, per);                                                                       \
  }                                                                                                              \
  extern "C" __global__ void upsample_##S(T* y, const T* x, i64 n, u32 w, u32 c) { upsample(y, x, n, w, c); }    \
  extern "C" __global__ void upsample_grad_##S(T* dx, const T* dy, i64 n, u32 w, u32 c) {                        \
    upsampleGrad(dx, dy, n, w, c);                                                                               \
  }                                                                                                              \
  extern "C" __global__ void embed_##S(T* dst, const i64* t, int n, int dim, int shift, int sinAt, int cosAt) {  \
    embed(dst, t, n, dim, shift, sinAt, cosAt);                                                                  \
  }

KERNELS(f32, float)
KERNELS(bf16, bf16)

extern "C" __global__ void add_channels_bf16_bf16(bf16* dst, const bf16* x, const bf16* e, i64 n, u32 per, u32 c) {
  addChannels(dst, x, e, n, per, c);
}
