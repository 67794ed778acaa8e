// Group normalisation, alone or with SiLU and dropout behind it. A block has one
// sample and a slab of whole groups over all pixels: at least 64 bytes of each
// pixel's channels, so that reads are whole sectors. A thread has V channels
// (a column) of every lanes-th pixel. Where a slab fits the registers, memory
// is read and written once.

constexpr int keepThreads = 512, wideThreads = 1024;
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
  __device__ inline i64 element(int pixel) const { return at + (i64)pixel * c; }
  // place is the element's number in its sample, where dropout counts.
  __device__ inline u32 place(int pixel) const { return (u32)pixel * c + base + column; }
};

// columnSum adds v over the lanes as a tree and leaves the sum of channel j of
// the slab in room[j].
template <int V>
__device__ inline void columnSum(const Slab& s, const float (&v)[V], float* room) {
  __syncthreads();
#pragma unroll
  for (int k = 0; k < V; k++) room[threadIdx.x * V + k] = v[k];
  int top = 1;
  while (top < s.lanes) top *= 2;
  for (int d = top / 2; d > 0; d /= 2) {
    __syncthreads();
    if (s.lane < d && s.lane + d < s.lanes) {
#pragma unroll
      for (int k = 0; k < V; k++) room[threadIdx.x * V + k] += room[(threadIdx.x + d * s.vectors) * V + k];
    }
  }
  __syncthreads();
}

// groupSum is the sum of room over the channels of group g of the slab, times
// weight where it is given.
__device__ inline double groupSum(const Slab& s, int g, const float* room, const float* weight) {
  double sum = 0;
  for (int j = g * s.size; j < (g + 1) * s.size; j++) sum += weight ? (double)weight[s.base + j] * room[j] : (double)room[j];
  return sum;
}

template <class T, int V, int Keep, bool Silu>
__device__ inline void forward(T* y, float* mean, float* rstd, const T* x, const float* gamma, const float* beta,
                               const Shape& shape, float eps, const Mask& mask, const i64* draws, float* room) {
  __shared__ float shift[maxSlabGroups], scale[maxSlabGroups];
  Slab s(shape, V);
  gamma += (i64)s.n * shape.affine;
  beta += (i64)s.n * shape.affine;
  float kept[Keep ? Keep : 1][V];
  if (Keep) {
#pragma unroll
    for (int i = 0; i < Keep; i++) {
      int p = s.lane + i * s.lanes;
      if (s.active() && p < s.pixels) load(x + s.element(p), kept[i]);
    }
  }
  // visit calls f for each of this thread's vectors.
  auto visit = [&](auto f) {
    if (!s.active()) return;
    if (Keep) {
#pragma unroll
      for (int i = 0; i < Keep; i++) {
        int p = s.lane + i * s.lanes;
        if (p < s.pixels) f(p, kept[i]);
      }
    } else {
      for (int p = s.lane; p < s.pixels; p += s.lanes) {
        float v[V];
        load(x + s.element(p), v);
        f(p, v);
      }
    }
  };
  double count = (double)s.pixels * s.size;
  int group[V];
  float sum[V], square[V], m[V];
#pragma unroll
  for (int k = 0; k < V; k++) {
    group[k] = (s.column + k) / s.size;
    sum[k] = square[k] = 0;
  }
  visit([&](int, float (&v)[V]) {
#pragma unroll
    for (int k = 0; k < V; k++) sum[k] += v[k];
  });
  columnSum(s, sum, room);
  for (int g = threadIdx.x; g < s.groups; g += blockDim.x) shift[g] = (float)(groupSum(s, g, room, nullptr) / count);
  __syncthreads();
  // The second look corrects the rounding of the first mean.
#pragma unroll
  for (int k = 0; k < V; k++) {
    m[k] = shift[group[k]];
    sum[k] = 0;
  }
  visit([&](int, float (&v)[V]) {
#pragma unroll
    for (int k = 0; k < V; k++) {
      float d = v[k] - m[k];
      sum[k] += d;
      square[k] = fmaf(d, d, square[k]);
    }
  });
  columnSum(s, sum, room);
  double delta = 0;
  if ((int)threadIdx.x < s.groups) delta = groupSum(s, threadIdx.x, room, nullptr) / count;
  columnSum(s, square, room);
  if ((int)threadIdx.x < s.groups) {
    int g = threadIdx.x;
    double variance = groupSum(s, g, room, nullptr) / count - delta * delta;
    if (variance < 0) variance = 0;  // a NaN stays
    shift[g] = (float)((double)shift[g] + delta);
    scale[g] = (float)(1.0 / sqrt(variance + (double)eps));
    int at = s.n * shape.groups + s.first + g;
    mean[at] = shift[g];
    rstd[at] = scale[g];
  }
  __syncthreads();
  float a[V], b[V];
#pragma unroll
  for (int k = 0; k < V; k++) {
    m[k] = shift[group[k]];
    a[k] = scale[group[k]] * gamma[s.base + s.column + k];
    b[k] = beta[s.base + s.column + k];
  }
  u64 draw = mask.on ? (u64)draws[s.n] : 0;
  visit([&](int p, float (&v)[V]) {
#pragma unroll
    for (int k = 0; k < V; k++) {
      v[k] = fmaf(v[k] - m[k], a[k], b[k]);
      if (Silu) v[k] = siluOf(v[k]);
    }
    if (Silu) mask.apply(v, draw, s.place(p));
    store(y + s.element(p), v);
  });
}

// backward: with u = gamma dy and the normalised value h,
// dx = rstd (u - mean(u) - h mean(u h)). partial, [2, N, C], receives each
// sample's sums of dy h and of dy.
template <class T, int V, int Keep, bool Silu>
__device__ inline void backward(T* dx, float* partial, const T* dy, const T* x, const float* gamma, const float* beta,
                                const float* mean, const float* rstd, const Shape& shape, int samples,
                                const Mask& mask, const i64* draws, float* room) {
  __shared__ float mu[maxSlabGroups], muh[maxSlabGroups];
  Slab s(shape, V);
  gamma += (i64)s.n * shape.affine;
  if (Silu) beta += (i64)s.n * shape.affine;
  float m[V], r[V], ga[V], be[V];
#pragma unroll
  for (int k = 0; k < V; k++) {
    int channel = s.base + s.column + k, at = s.n * shape.groups + channel / s.size;
    m[k] = mean[at];
    r[k] = rstd[at];
    ga[k] = gamma[channel];
    be[k] = Silu ? beta[channel] : 0.0f;
  }
  u64 draw = mask.on ? (u64)draws[s.n] : 0;
  // fetch reads x, as its distance from the mean, and the gradient at the norm's
  // output.
  auto fetch = [&](int p, float (&d)[V], float (&g)[V]) {
    load(x + s.element(p), d);
    load(dy + s.element(p), g);
    if (Silu) mask.apply(g, draw, s.place(p));
#pragma unroll
    for (int k = 0; k < V; k++) {
      d[k] -= m[k];
      if (Silu) g[k] *= siluSlope(fmaf(d[k], r[k] * ga[k], be[k]));
    }
  };
  float kept[Keep ? Keep : 1][2][V];
  if (Keep) {
#pragma unroll
    for (int i = 0; i < Keep; i++) {
      int p = s.lane + i * s.lanes;
      if (s.active() && p < s.pixels) fetch(p, kept[i][0], kept[i][1]);
    }
  }
  auto visit = [&](auto f) {
    if (!s.active()) return;
    if (Keep) {
#pragma unroll
      for (int i = 0; i < Keep; i++) {
        int p = s.lane + i * s.lanes;
        if (p < s.pixels) f(p, kept[i][0], kept[i][1]);
      }
    } else {
      for (int p = s.lane; p < s.pixels; p += s.lanes) {
        float d[V], g[V];
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
  for (int k = 0; k < V; k++) product[k] *= r[k];
  double count = (double)s.pixels * s.size;
  i64 at = (i64)s.n * s.c + s.base;
  columnSum(s, product, room);
  for (int g = threadIdx.x; g < s.groups; g += blockDim.x) muh[g] = (float)(groupSum(s, g, room, gamma) / count);
  for (int j = threadIdx.x; j < s.width; j += blockDim.x) partial[at + j] = room[j];
  columnSum(s, sum, room);
  for (int g = threadIdx.x; g < s.groups; g += blockDim.x) mu[g] = (float)(groupSum(s, g, room, gamma) / count);
  for (int j = threadIdx.x; j < s.width; j += blockDim.x) partial[(i64)samples * s.c + at + j] = room[j];
  __syncthreads();
  float a[V], b[V], c[V];
#pragma unroll
  for (int k = 0; k < V; k++) {
    int g = (s.column + k) / s.size;
    a[k] = r[k] * ga[k];
    b[k] = r[k] * r[k] * muh[g];
    c[k] = r[k] * mu[g];
  }
  visit([&](int p, float (&d)[V], float (&g)[V]) {
#pragma unroll
    for (int k = 0; k < V; k++) g[k] = fmaf(a[k], g[k], -fmaf(d[k], b[k], c[k]));
    store(dx + s.element(p), g);
  });
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

template <class T, bool Silu, bool Keep>
__device__ inline void backwardAny(T* dx, float* partial, const T* dy, const T* x, const float* gamma,
                                   const float* beta, const float* mean, const float* rstd, const Shape& s, int samples,
                                   const Mask& mask, const i64* draws, bool vector) {
  constexpr int V = wide<T>;
  __shared__ float room[(Keep ? keepThreads : wideThreads) * V];
  if constexpr (Keep) {
    backward<T, V, keepValues / V, Silu>(dx, partial, dy, x, gamma, beta, mean, rstd, s, samples, mask, draws, room);
  } else {
    if (vector)
      backward<T, V, 0, Silu>(dx, partial, dy, x, gamma, beta, mean, rstd, s, samples, mask, draws, room);
    else
      backward<T, 1, 0, Silu>(dx, partial, dy, x, gamma, beta, mean, rstd, s, samples, mask, draws, room);
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
  extern "C" __global__ void __launch_bounds__(BOUND) group_norm_##NAME##_grad_##S(                                 \
      T* dx, float* partial, const T* dy, const T* x, const float* gamma, const float* beta, const float* mean,     \
      const float* rstd, int samples, int pixels, int c, int groups, int slab, int vector, int drop, u64 seed,      \
      u32 stream, u32 limit, float keep, const i64* draws, int affine) {                                            \
    Shape s = {pixels, c, groups, c / groups, slab, affine};                                                        \
    Mask mask = {drop != 0, seed, stream, limit, keep};                                                             \
    backwardAny<T, SILU, KEEP>(dx, partial, dy, x, gamma, beta, mean, rstd, s, samples, mask, draws, vector != 0);  \
  }

KERNELS(kept, f32, float, false, true, keepThreads, 2)
KERNELS(kept, bf16, bf16, false, true, keepThreads, 2)
KERNELS(wide, f32, float, false, false, wideThreads, 1)
KERNELS(wide, bf16, bf16, false, false, wideThreads, 1)
KERNELS(silu_kept, f32, float, true, true, keepThreads, 2)
KERNELS(silu_kept, bf16, bf16, true, true, keepThreads, 2)
KERNELS(silu_wide, f32, float, true, false, wideThreads, 1)
KERNELS(silu_wide, bf16, bf16, true, false, wideThreads, 1)
