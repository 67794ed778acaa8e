// Counter-based random values, package rng's streams. A thread makes one Philox
// block: four elements of one sample.

// normal2 maps two words to two standard normal values (Box and Muller), in
// float64 as package rng does.
__device__ inline void normal2(u32 a, u32 b, float& x, float& y) {
  double u = ((double)a + 0.5) * (1.0 / 4294967296.0);
  double r = sqrt(-2.0 * log(u));
  double angle = 2.0 * 3.14159265358979323846 * ((double)b * (1.0 / 4294967296.0));
  x = (float)(r * cos(angle));
  y = (float)(r * sin(angle));
}

// place finds the sample and the first element of this thread's four.
__device__ inline bool place(i64 n, u32 per, u32& sample, u32& j) {
  u32 blocks = (per + 3) / 4;
  i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n * blocks) return false;
  sample = (u32)i / blocks;  // there are less than 2^32
  j = (u32)i % blocks * 4;
  return true;
}

template <class T>
__device__ inline void normal(T* dst, const i64* draws, i64 n, u32 per, u64 seed, u32 stream) {
  u32 sample, j;
  if (!place(n, per, sample, j)) return;
  Words w = philox(seed, stream, (u64)draws[sample], j / 4);
  float z[4];
  normal2(w.w[0], w.w[1], z[0], z[1]);
  normal2(w.w[2], w.w[3], z[2], z[3]);
  T* p = dst + (i64)sample * per + j;
  if (per % 4 == 0 && aligned(dst, 4 * sizeof(T))) {
    store(p, z);
  } else {
    for (int k = 0; k < 4 && j + k < per; k++) set(p[k], z[k]);
  }
}

template <class T>
__device__ inline void dropout(T* dst, const T* x, const i64* draws, i64 n, u32 per, u64 seed, u32 stream, u32 limit,
                               float keep) {
  u32 sample, j;
  if (!place(n, per, sample, j)) return;
  Mask mask = {true, seed, stream, limit, keep};
  i64 at = (i64)sample * per + j;
  u64 draw = (u64)draws[sample];
  if (per % 4 == 0 && aligned(dst, 4 * sizeof(T)) && aligned(x, 4 * sizeof(T))) {
    float v[4];
    load(x + at, v);
    mask.apply(v, draw, j);
    store(dst + at, v);
    return;
  }
  Words w = philox(seed, stream, draw, j / 4);
  for (int k = 0; k < 4 && j + k < per; k++) set(dst[at + k], toFloat(x[at + k]) * mask.factor(w.w[k]));
}

#define KERNELS(S, T)                                                                                           \
  extern "C" __global__ void normal_##S(T* dst, const i64* draws, i64 n, u32 per, u64 seed, u32 stream) {       \
    normal(dst, draws, n, per, seed, stream);                                                                   \
  }                                                                                                             \
  extern "C" __global__ void dropout_##S(T* dst, const T* x, const i64* draws, i64 n, u32 per, u64 seed,        \
                                         u32 stream, u32 limit, float keep) {                                   \
    dropout(dst, x, draws, n, per, seed, stream, limit, keep);                                                  \
  }

KERNELS(f32, float)
KERNELS(bf16, bf16)
