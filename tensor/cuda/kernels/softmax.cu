// Softmax over rows. A warp has a row, 32 columns at a time; softmaxWarps rows a
// block.

constexpr int softmaxWarps = 4;

__device__ inline float warpMax(float v) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, d));
  return v;
}

// softmax is y = softmax(scale x). Each element is read and written by one
// thread: y may be x.
template <class T>
__device__ inline void softmax(T* y, const T* x, i64 rows, int width, float scale) {
  i64 row = (i64)blockIdx.x * softmaxWarps + threadIdx.x / 32;
  if (row >= rows) return;
  int lane = threadIdx.x % 32;
  x += row * width;
  y += row * width;
  float top = -__int_as_float(0x7f800000);
  for (int j = lane; j < width; j += 32) top = fmaxf(top, scale * toFloat(x[j]));
  top = warpMax(top);
  float sum = 0;
  for (int j = lane; j < width; j += 32) sum += expf(scale * toFloat(x[j]) - top);
  float inverse = 1.0f / warpSum(sum);
  for (int j = lane; j < width; j += 32) set(y[j], expf(scale * toFloat(x[j]) - top) * inverse);
}

// softmaxGrad is dx = scale y (dy - sum(dy y)); dx may be dy.
template <class T>
__device__ inline void softmaxGrad(T* dx, const T* dy, const T* y, i64 rows, int width, float scale) {
  i64 row = (i64)blockIdx.x * softmaxWarps + threadIdx.x / 32;
  if (row >= rows) return;
  int lane = threadIdx.x % 32;
  dx += row * width;
  dy += row * width;
  y += row * width;
  float dot = 0;
  for (int j = lane; j < width; j += 32) dot = fmaf(toFloat(dy[j]), toFloat(y[j]), dot);
  dot = warpSum(dot);
  for (int j = lane; j < width; j += 32) set(dx[j], scale * toFloat(y[j]) * (toFloat(dy[j]) - dot));
}

#define KERNELS(S, T)                                                                                       \
  extern "C" __global__ void softmax_##S(T* y, const T* x, i64 rows, int width, float scale) {              \
    softmax(y, x, rows, width, scale);                                                                      \
  }                                                                                                         \
  extern "C" __global__ void softmax_grad_##S(T* dx, const T* dy, const T* y, i64 rows, int width, float scale) { \
    softmaxGrad(dx, dy, y, rows, width, scale);                                                             \
  }

KERNELS(f32, float)
KERNELS(bf16, bf16)
