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

// sampler_step is package diffusion's step for elements of images x [n,per], given the
// network's output, in float64 as there. With none, the output is guided by scale away
// from that. a and b are kept between steps, 0 where the sampler keeps nothing. An output
// that is not finite leaves NaN, which stays.
extern "C" __global__ void sampler_step(float* x, const float* out, const float* none, float* a, float* b, const i64* ids,
                                        i64 n, u32 per, u64 seed, u32 stream, double scale, double xx, double xo,
                                        double kx0, double kxt, double kout, double sigma, double ka, double kb,
                                        double bx, double b0, int keeps, int clip) {
  u32 sample, j;
  if (!place(n, per, sample, j)) return;
  float z[4] = {0, 0, 0, 0};
  if (sigma > 0) {
    Words w = philox(seed, stream, (u64)ids[sample], j / 4);
    normal2(w.w[0], w.w[1], z[0], z[1]);
    normal2(w.w[2], w.w[3], z[2], z[3]);
  }
  i64 at = (i64)sample * per + j;
  for (int k = 0; k < 4 && j + k < per; k++) {
    float guided = out[at + k];
    if (none) guided = (float)((double)none[at + k] + scale * ((double)guided - (double)none[at + k]));
    double xt = x[at + k], o = guided;
    double x0 = xx * xt + xo * o;
    if (clip) x0 = x0 < -1 ? -1 : x0 > 1 ? 1 : x0;
    double next = kx0 * x0 + kxt * xt;
    if (a) {
      next += ka * (double)a[at + k] + kb * (double)b[at + k];
    } else {
      next += kout * o + sigma * (double)z[k];
    }
    if (a && keeps) {
      a[at + k] = (float)xt;
      b[at + k] = (float)(bx * xt + b0 * x0);
    }
    if (!(o - o == 0)) next = o - o;
    x[at + k] = (float)next;
  }
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
