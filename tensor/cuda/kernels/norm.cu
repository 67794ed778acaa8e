// Group normalisation, alone or with SiLU and dropout behind it. A block has one
// sample and a slab of whole groups over all pixels: at least 64 bytes of each
// pixel's channels, so that reads are whole sectors. A thread has V channels
// (a column) of every lanes-th pixel. Where a slab fits the registers, memory
// is read and written once.

constexpr int keepThreads = 512, wideThreads = 768;
constexpr int keepValues = 32;  // values of each operand that a thread keeps
constexpr int maxSlabGroups = 64;

// Shape is what the host passes: slab is in groups, size is the channels of a
// group, affine is the distance from one sample's gamma and beta to the next.
struct Shape {
  int pixels, c, groups, size, slab, affine;
};

// Slab is this block's part and this thread's place in it.
struct Slab {
  int n, first, groups, size, c, pixels;  // first: number of the first group
  int base, width;                        // channels
  int column, lane, vectors, lanes;
  i64 at;  // element of the first channel of pixel 0

  __device__ inline Slab(const Shape& s, int V) {
    int slabs = (s.groups + s.slab - 1) / s.slab;
    n = blockIdx.x / slabs;
    first = blockIdx.x % slabs * s.slab;
    groups = s.groups - first < s.slab ? s.groups - first : s.slab;
    size = s.size;
    c = s.c;
    pixels = s.pixels;
    base = first * size;
    width = groups * size;
    vectors = width / V;
    lanes = blockDim.x / vectors;
    column = threadIdx.x % vectors * V;
    lane = threadIdx.x / vectors;
    at = (i64)n * pixels * c + base + column;
  }
  __device__ inline bool active() const { return lane < lanes; }
  // element is the offset from at; a sample has less than 2^32 elements.
  __device__ inline u32 element(int pixel) const { return (u32)pixel * (u32)c; }
  // count is the elements of a group, channel the place of the slab's first in [N, C].
  __device__ inline double count() const { return (double)pixels * size; }
  __device__ inline i64 channel() const { return (i64)n * c + base; }
  // place is the element's number in its sample, where dropout counts.
  __device__ inline u32 place(int pixel) const { return (u32)pixel * c + base + column; }
};

// columnSum adds v over the lanes as a tree and leaves the sum of channel j of
// the slab in room[j]. Where a warp has whole pixels, its lanes are added by shuffles.
template <int V>
__device__ inline void columnSum(const Slab& s, float (&v)[V], float* room) {
  int rows = s.lanes, row = s.lane;
  bool writes = true;
  if (32 % s.vectors == 0) {
    for (int d = 16; d >= s.vectors; d /= 2) {
#pragma unroll
      for (int k = 0; k < V; k++) v[k] += __shfl_xor_sync(0xffffffffu, v[k], d);
    }
    rows = blockDim.x / 32;
    row = threadIdx.x / 32;
    writes = (int)threadIdx.x % 32 < s.vectors;
  }
  float* mine = room + (row * s.vectors + (int)threadIdx.x % s.vectors) * V;
  __syncthreads();
  if (writes) {
#pragma unroll
    for (int k = 0; k < V; k++) mine[k] = v[k];
  }
  int top = 1;
  while (top < rows) top *= 2;
#pragma unroll 1
  for (int d = top / 2; d > 0; d /= 2) {
    __syncthreads();
    if (writes && row < d && row + d < rows) {
#pragma unroll
      for (int k = 0; k < V; k++) mine[k] += mine[d * s.vectors * V + k];
    }
  }
  __syncthreads();
}

// groupSum is the sum of room over the channels of group g of the slab, times
// weight where it is given.
__device__ inline double groupSum(const Slab& s, int g, const float* room, const float* weight) {
  double sum = 0;
#pragma unroll 1
  for (int j = g * s.size; j < (g + 1) * s.size; j++) sum += weight ? (double)weight[s.base + j] * room[j] : (double)room[j];
  return sum;
}

// perChannel gives a thread its channels' values of one value a group: through room, so
// that it need not keep its groups.
template <int V>
__device__ inline void perChannel(const Slab& s, const float* of, float* room, float (&v)[V]) {
#pragma unroll 1
  for (int j = threadIdx.x; j < s.width; j += blockDim.x) room[j] = of[j / s.size];
  __syncthreads();
#pragma unroll
  for (int k = 0; k < V; k++) v[k] = room[s.column + k];
}

template <class T, int V, int Keep, bool Silu>
__device__ inline void forward(T* y, float* mean, float* rstd, const T* x, const float* gamma, const float* beta,
                               const Shape& shape, float eps, const Mask& mask, const i64* draws, float* room) {
  __shared__ float shift[maxSlabGroups], scale[maxSlabGroups];
  __shared__ double delta[maxSlabGroups];
  Slab s(shape, V);
  gamma += (i64)s.n * shape.affine;
  beta += (i64)s.n * shape.affine;
  x += s.at;
  y += s.at;
  Pack kept[Keep ? Keep : 1];
  if constexpr (Keep > 0) {
#pragma unroll
    for (int i = 0; i < Keep; i++) {
      int p = s.lane + i * s.lanes;
      if (s.active() && p < s.pixels) kept[i] = *(const Pack*)(x + s.element(p));
    }
  }
  // visit calls f for each of this thread's vectors.
  auto visit = [&](auto f) {
    if (!s.active()) return;
    if constexpr (Keep > 0) {
#pragma unroll
      for (int i = 0; i < Keep; i++) {
        int p = s.lane + i * s.lanes;
        if (p >= s.pixels) continue;
        float v[V];
        spread<T>(kept[i], v);
        f(p, v);
      }
    } else {
      for (int p = s.lane; p < s.pixels; p += s.lanes) {
        float v[V];
        load(x + s.element(p), v);
        f(p, v);
      }
    }
  };
  float sum[V], square[V], m[V];
#pragma unroll
  for (int k = 0; k < V; k++) sum[k] = square[k] = 0;
  visit([&](int, float (&v)[V]) {
#pragma unroll
    for (int k = 0; k < V; k++) sum[k] += v[k];
  });
  columnSum(s, sum, room);
#pragma unroll 1
  for (int g = threadIdx.x; g < s.groups; g += blockDim.x) shift[g] = (float)(groupSum(s, g, room, nullptr) / s.count());
  __syncthreads();
  perChannel(s, shift, room, m);
  // The second look corrects the rounding of the first mean.
#pragma unroll
  for (int k = 0; k < V; k++) sum[k] = 0;
  visit([&](int, float (&v)[V]) {
#pragma unroll
    for (int k = 0; k < V; k++) {
      float d = v[k] - m[k];
      sum[k] += d;
      square[k] = fmaf(d, d, square[k]);
    }
  });
  columnSum(s, sum, room);
  if ((int)threadIdx.x < s.groups) delta[threadIdx.x] = groupSum(s, threadIdx.x, room, nullptr) / s.count();
  columnSum(s, square, room);
  if ((int)threadIdx.x < s.groups) {
    int g = threadIdx.x;
    double variance = groupSum(s, g, room, nullptr) / s.count() - delta[g] * delta[g];
    if (variance < 0) variance = 0;  // a NaN stays
    shift[g] = (float)((double)shift[g] + delta[g]);
    scale[g] = (float)(1.0 / sqrt(variance + (double)eps));
    int at = s.n * shape.groups + s.first + g;
    mean[at] = shift[g];
    rstd[at] = scale[g];
  }
  __syncthreads();
  float a[V], b[V];
  perChannel(s, shift, room, m);
  __syncthreads();  // room is read
  perChannel(s, scale, room, a);
#pragma unroll
  for (int k = 0; k < V; k++) {
    a[k] *= gamma[s.base + s.column + k];
    b[k] = beta[s.base + s.column + k];
  }
  u64 draw = mask.on ? (u64)draws[s.n] : 0;
  visit([&](int p, float (&v)[V]) {
#pragma unroll
    for (int k = 0; k < V; k++) {
      v[k] = fmaf(v[k] - m[k], a[k], b[k]);
      if (Silu) v[k] = siluOf<T>(v[k]);
    }
    if (Silu) mask.apply(v, draw, s.place(p));
    store(y + s.element(p), v);
  });
}

// addTo adds the vector at an element of p.
template <class T, int V>
__device__ inline void addTo(float (&d)[V], const T* p, u32 element) {
  float v[V];
  load(p + element, v);
#pragma unroll
  for (int k = 0; k < V; k++) d[k] += v[k];
}

// More is what else the gradient writes and reads: others' gradients of x, which are
// added to dx, and for each sample and channel the sum of dx over the pixels. Each may
// be null.
template <class T>
struct More {
  const T *first, *second;
  float* sums;
};

// backward: with u = gamma dy and the normalised value h,
// dx = rstd (u - mean(u) - h mean(u h)). partial, [2, N, C], receives each
// sample's sums of dy h and of dy. Where a slab is kept, x stays packed, or as its distance
// from the mean in F32.
template <class T, int V, int Keep, bool Silu>
__device__ inline void backward(T* dx, float* partial, const T* dy, const T* x, const float* gamma, const float* beta,
                                const float* mean, const float* rstd, const Shape& shape, int samples,
                                const Mask& mask, const i64* draws, const More<T>& more, float* room) {
  __shared__ float mu[maxSlabGroups], muh[maxSlabGroups];
  Slab s(shape, V);
  gamma += (i64)s.n * shape.affine;
  if (Silu) beta += (i64)s.n * shape.affine;
  x += s.at;
  dy += s.at;
  dx += s.at;
  // rstd is read again where it is needed: it need not be kept.
  auto r = [&](int k) { return rstd[s.n * shape.groups + (s.base + s.column + k) / s.size]; };
  float m[V], a[V], be[V];
#pragma unroll
  for (int k = 0; k < V; k++) {
    int channel = s.base + s.column + k;
    m[k] = mean[s.n * shape.groups + channel / s.size];
    if (Silu) {
      a[k] = r(k) * gamma[channel];
      be[k] = beta[channel];
    }
  }
  u64 draw = mask.on ? (u64)draws[s.n] : 0;
  // fetch reads the gradient at the norm's output, where x lies d from the mean.
  auto fetch = [&](int p, const float (&d)[V], float (&g)[V]) {
    load(dy + s.element(p), g);
    if (Silu) mask.apply(g, draw, s.place(p));
#pragma unroll
    for (int k = 0; k < V; k++) {
      if (Silu) g[k] *= siluSlope<T>(fmaf(d[k], a[k], be[k]));
    }
  };
  Pack kept[Keep ? Keep : 1];
  float grads[Keep ? Keep : 1][V];
  if constexpr (Keep > 0) {
#pragma unroll
    for (int i = 0; i < Keep; i++) {
      int p = s.lane + i * s.lanes;
      if (!s.active() || p >= s.pixels) continue;
      kept[i] = *(const Pack*)(x + s.element(p));
      float d[V];
      spread<T>(kept[i], d);
#pragma unroll
      for (int k = 0; k < V; k++) d[k] -= m[k];
      if constexpr (sizeof(T) == 4) store((float*)&kept[i], d);  // as wide as x: no use for the mean later
      fetch(p, d, grads[i]);
    }
  }
  auto visit = [&](auto f) {
    if (!s.active()) return;
    float d[V];
    if constexpr (Keep > 0) {
#pragma unroll
      for (int i = 0; i < Keep; i++) {
        int p = s.lane + i * s.lanes;
        if (p >= s.pixels) continue;
        spread<T>(kept[i], d);
        if constexpr (sizeof(T) == 2) {
#pragma unroll
          for (int k = 0; k < V; k++) d[k] -= m[k];
        }
        f(p, d, grads[i]);
      }
    } else {
#pragma unroll 1  // for the registers
      for (int p = s.lane; p < s.pixels; p += s.lanes) {
        float g[V];
        load(x + s.element(p), d);
#pragma unroll
        for (int k = 0; k < V; k++) d[k] -= m[k];
        fetch(p, d, g);
        f(p, d, g);
      }
    }
  };
  float sum[V], product[V];
#pragma unroll
  for (int k = 0; k < V; k++) sum[k] = product[k] = 0;
  visit([&](int, float (&d)[V], float (&g)[V]) {
#pragma unroll
    for (int k = 0; k < V; k++) {
      sum[k] += g[k];
      product[k] = fmaf(g[k], d[k], product[k]);
    }
  });
#pragma unroll
  for (int k = 0; k < V; k++) product[k] *= r(k);
  columnSum(s, product, room);
#pragma unroll 1
  for (int g = threadIdx.x; g < s.groups; g += blockDim.x) muh[g] = (float)(groupSum(s, g, room, gamma) / s.count());
#pragma unroll 1
  for (int j = threadIdx.x; j < s.width; j += blockDim.x) partial[s.channel() + j] = room[j];
  columnSum(s, sum, room);
#pragma unroll 1
  for (int g = threadIdx.x; g < s.groups; g += blockDim.x) mu[g] = (float)(groupSum(s, g, room, gamma) / s.count());
#pragma unroll 1
  for (int j = threadIdx.x; j < s.width; j += blockDim.x) partial[(i64)samples * s.c + s.channel() + j] = room[j];
  __syncthreads();
  float b[V], c[V], total[V];
#pragma unroll
  for (int k = 0; k < V; k++) {
    int g = (s.column + k) / s.size;
    float rk = r(k);
    a[k] = rk * gamma[s.base + s.column + k];
    b[k] = rk * rk * muh[g];
    c[k] = rk * mu[g];
    total[k] = 0;
  }
  visit([&](int p, float (&d)[V], float (&g)[V]) {
    u32 element = s.element(p);
#pragma unroll
    for (int k = 0; k < V; k++) d[k] = fmaf(a[k], g[k], -fmaf(d[k], b[k], c[k]));
    if (more.first) addTo(d, more.first + s.at, element);
    if (more.second) addTo(d, more.second + s.at, element);
#pragma unroll
    for (int k = 0; k < V; k++) total[k] += d[k];
    store(dx + element, d);
  });
  if (!more.sums) return;
  columnSum(s, total, room);
#pragma unroll 1
  for (int j = threadIdx.x; j < s.width; j += blockDim.x) more.sums[s.channel() + j] = room[j];
}

// affine is dgamma[c] and dbeta[c] = the sums of partial [2, N, C] over N. A
// block has 32 channels of one of the two.
extern "C" __global__ void norm_affine(float* dgamma, float* dbeta, const float* partial, int samples, int c) {
  __shared__ float room[256];
  int channel = blockIdx.x * 32 + threadIdx.x % 32, lane = threadIdx.x / 32;
  const float* x = partial + (i64)blockIdx.y * samples * c;
  float sum = 0;
  if (channel < c) {
#pragma unroll 4
    for (int n = lane; n < samples; n += 8) sum += x[(i64)n * c + channel];
  }
  room[threadIdx.x] = sum;
  for (int d = 128; d >= 32; d /= 2) {
    __syncthreads();
    if ((int)threadIdx.x < d) room[threadIdx.x] += room[threadIdx.x + d];
  }
  if (lane == 0 && channel < c) (blockIdx.y == 0 ? dgamma : dbeta)[channel] = room[threadIdx.x];
}

template <class T, bool Silu, bool Keep>
__device__ inline void forwardAny(T* y, float* mean, float* rstd, const T* x, const float* gamma, const float* beta,
                                  const Shape& s, float eps, const Mask& mask, const i64* draws, bool vector) {
  constexpr int V = wide<T>;
  __shared__ float room[(Keep ? keepThreads : wideThreads) * V];
  if constexpr (Keep) {
    forward<T, V, keepValues / V, Silu>(y, mean, rstd, x, gamma, beta, s, eps, mask, draws, room);
  } else {
    if (vector)
      forward<T, V, 0, Silu>(y, mean, rstd, x, gamma, beta, s, eps, mask, draws, room);
    else
      forward<T, 1, 0, Silu>(y, mean, rstd, x, gamma, beta, s, eps, mask, draws, room);
  }
}

// A wide gradient has vectors of 4, for the registers.
template <class T, bool Silu, bool Keep>
__device__ inline void backwardAny(T* dx, float* partial, const T* dy, const T* x, const float* gamma,
                                   const float* beta, const float* mean, const float* rstd, const Shape& s, int samples,
                                   const Mask& mask, const i64* draws, const More<T>& more, bool vector) {
  constexpr int V = wide<T>;
  __shared__ float room[Keep ? keepThreads * V : wideThreads * 4];
  if constexpr (Keep) {
    backward<T, V, keepValues / V, Silu>(dx, partial, dy, x, gamma, beta, mean, rstd, s, samples, mask, draws, more, room);
  } else {
    if (vector)
      backward<T, 4, 0, Silu>(dx, partial, dy, x, gamma, beta, mean, rstd, s, samples, mask, draws, more, room);
    else
      backward<T, 1, 0, Silu>(dx, partial, dy, x, gamma, beta, mean, rstd, s, samples, mask, draws, more, room);
  }
}

#define KERNELS(NAME, S, T, SILU, KEEP, BOUND, BLOCKS)                                                                     \
  extern "C" __global__ void __launch_bounds__(BOUND, BLOCKS) group_norm_##NAME##_##S(                              \
      T* y, float* mean, float* rstd, const T* x, const float* gamma, const float* beta, int pixels, int c,         \
      int groups, int slab, float eps, int vector, int drop, u64 seed, u32 stream, u32 limit, float keep,           \
      const i64* draws, int affine) {                                                                               \
    Shape s = {pixels, c, groups, c / groups, slab, affine};                                                        \
    Mask mask = {drop != 0, seed, stream, limit, keep};                                                             \
    forwardAny<T, SILU, KEEP>(y, mean, rstd, x, gamma, beta, s, eps, mask, draws, vector != 0);                     \
  }                                                                                                                 \
  extern "C" __global__ void __launch_bounds__(BOUND, 1) group_norm_##NAME##_grad_##S(                              \
      T* dx, float* partial, const T* dy, const T* x, const float* gamma, const float* beta, const float* mean,     \
      const float* rstd, int samples, int pixels, int c, int groups, int slab, int vector, int drop, u64 seed,      \
      u32 stream, u32 limit, float keep, const i64* draws, int affine, const T* first, const T* second,             \
      float* sums) {                                                                                                \
    Shape s = {pixels, c, groups, c / groups, slab, affine};                                                        \
    Mask mask = {drop != 0, seed, stream, limit, keep};                                                             \
    More<T> more = {first, second, sums};                                                                           \
    backwardAny<T, SILU, KEEP>(dx, partial, dy, x, gamma, beta, mean, rstd, s, samples, mask, draws, more,          \
                               vector != 0);                                                                        \
  }

// F32 has twice the registers to keep: one block of the largest size at a time.
KERNELS(kept, f32, float, false, true, keepThreads, 1)
KERNELS(kept, bf16, bf16, false, true, keepThreads, 2)
KERNELS(wide, f32, float, false, false, wideThreads, 1)
KERNELS(wide, bf16, bf16, false, false, wideThreads, 1)
KERNELS(silu_kept, f32, float, true, true, keepThreads, 1)
KERNELS(silu_kept, bf16, bf16, true, true, keepThreads, 2)
KERNELS(silu_wide, f32, float, true, false, wideThreads, 1)
KERNELS(silu_wide, bf16, bf16, true, false, wideThreads, 1)
