// What convolutions need around cuDNN: images under another padding, channel
// count or type, filters in its layout, and what is added to its results. S names
// the type that is read, D or Y the one that is written.

constexpr int windowThreads = 256, windowEach = 4;

// window is dst[y,x,k] = src[y+shift, x+shift, k] for each of n images, and zero
// where src [h,w,c] has no such element. dst is [height,width,channels]. Blocks
// run over the elements of an image and over images.
template <class D, class S>
__device__ inline void window(D* dst, const S* src, int n, u32 height, u32 width, u32 channels, int h, int w, int c,
                              int shift) {
  u32 size = height * width * channels;
  for (int image = blockIdx.y; image < n; image += gridDim.y) {
    D* to = dst + (i64)image * size;
    const S* from = src + (i64)image * h * w * c;
    for (int u = 0; u < windowEach; u++) {
      u32 i = (blockIdx.x * windowEach + u) * windowThreads + threadIdx.x;
      if (i >= size) break;
      int k = (int)(i % channels), x = (int)(i / channels % width) + shift, y = (int)(i / channels / width) + shift;
      bool inside = y >= 0 && y < h && x >= 0 && x < w && k < c;
      set(to[i], inside ? toFloat(from[((i64)y * w + x) * c + k]) : 0.0f);
    }
  }
}

constexpr int tile = 32, tileRows = 8;

// transpose is dst[i][j] = src[j][i] for each tap, and zero where src has no such
// element. Within a tap rows are dstRow and srcRow elements apart; dst has rows x
// columns of which src fills the first filledRows x filledColumns. Blocks run over
// the tiles of a tap and over taps.
template <class D, class S>
__device__ inline void transpose(D* dst, i64 dstTap, i64 dstRow, int rows, int columns, const S* src, i64 srcTap,
                                 i64 srcRow, int filledRows, int filledColumns) {
  __shared__ float part[tile][tile + 1];  // one more: no two lanes on one bank
  int across = (columns + tile - 1) / tile;
  int row = (int)blockIdx.x / across * tile, column = (int)blockIdx.x % across * tile;
  int lane = threadIdx.x % tile, first = threadIdx.x / tile;
  src += blockIdx.y * srcTap;
  dst += blockIdx.y * dstTap;
  for (int r = first; r < tile; r += tileRows) {
    int i = row + lane, j = column + r;
    part[r][lane] = i < filledRows && j < filledColumns ? toFloat(src[j * srcRow + i]) : 0.0f;
  }
  __syncthreads();
  for (int r = first; r < tile; r += tileRows) {
    int i = row + r, j = column + lane;
    if (i < rows && j < columns) set(dst[i * dstRow + j], part[lane][r]);
  }
}

constexpr int epilogueThreads = 256, epilogueEach = 8;

// finish is y[n,p,k] = ((src[n,p,k] + bias[k]) + each[n,k]) + residual[n,p,k]; the
// last three may be null. A pixel of src is stride elements. A thread keeps to its
// V channels and goes through epilogueEach pixels.
template <int V, class Y, class S>
__device__ inline void finish(Y* y, const S* src, const float* bias, const float* each, const Y* residual, int n,
                              int pixels, int channels, int stride) {
  int vectors = channels / V;
  int across = vectors < epilogueThreads ? vectors : epilogueThreads;  // vectors of a pixel at a time
  int down = epilogueThreads / across;                                  // pixels at a time
  if ((int)threadIdx.x >= across * down) return;
  int first = blockIdx.x * down * epilogueEach + threadIdx.x / across;
  for (int sample = blockIdx.y; sample < n; sample += gridDim.y) {
    for (int k = threadIdx.x % across * V; k < channels; k += across * V) {
      float a[V] = {}, b[V] = {};
      if (bias) load<V>(bias + k, a);
      if (each) load<V>(each + (i64)sample * channels + k, b);
      for (int u = 0; u < epilogueEach; u++) {
        int p = first + u * down;
        if (p >= pixels) break;
        i64 pixel = (i64)sample * pixels + p;
        float v[V], r[V] = {};
        load<V>(src + pixel * stride + k, v);
        if (residual) load<V>(residual + pixel * channels + k, r);
#pragma unroll
        for (int i = 0; i < V; i++) v[i] = v[i] + a[i] + b[i] + r[i];
        store<V>(y + pixel * channels + k, v);
      }
    }
  }
}

// patches is dst[p][tap][k] = x at pixel p of y under the tap, and zero outside, for
// n images of x [h,w,c] and y [oh,ow].
template <class T>
__device__ inline void patches(T* dst, const T* x, int n, int h, int w, int c, int oh, int ow, int kernel, int stride,
                               int pad) {
  u32 row = (u32)(kernel * kernel * c), size = (u32)(oh * ow) * row;
  for (int image = blockIdx.y; image < n; image += gridDim.y) {
    T* to = dst + (i64)image * size;
    const T* from = x + (i64)image * h * w * c;
    for (int u = 0; u < windowEach; u++) {
      u32 i = (blockIdx.x * windowEach + u) * windowThreads + threadIdx.x;
      if (i >= size) break;
      int p = (int)(i / row), tap = (int)(i % row) / c, k = (int)(i % row) % c;
      int iy = p / ow * stride + tap / kernel - pad, ix = p % ow * stride + tap % kernel - pad;
      bool inside = iy >= 0 && iy < h && ix >= 0 && ix < w;
      set(to[i], inside ? toFloat(from[((i64)iy * w + ix) * c + k]) : 0.0f);
    }
  }
}

// gather is dx[y,x,k] = the sum of the patches' elements that patches made from
// x[y,x,k], in the order of the taps.
template <class T>
__device__ inline void gather(T* dx, const float* src, int n, int h, int w, int c, int oh, int ow, int kernel,
                              int stride, int pad) {
  u32 size = (u32)(h * w * c);
  i64 row = (i64)kernel * kernel * c;
  for (int image = blockIdx.y; image < n; image += gridDim.y) {
    T* to = dx + (i64)image * size;
    const float* from = src + (i64)image * oh * ow * row;
    for (int u = 0; u < windowEach; u++) {
      u32 i = (blockIdx.x * windowEach + u) * windowThreads + threadIdx.x;
      if (i >= size) break;
      int k = (int)(i % c), x = (int)(i / c % w), y = (int)(i / c / w);
      float sum = 0;
      for (int tap = 0; tap < kernel * kernel; tap++) {
        int oy = y + pad - tap / kernel, ox = x + pad - tap % kernel;
        if (oy < 0 || ox < 0 || oy % stride || ox % stride) continue;
        oy /= stride;
        ox /= stride;
        if (oy < oh && ox < ow) sum += from[((i64)oy * ow + ox) * row + (i64)tap * c + k];
      }
      set(to[i], sum);
    }
  }
}

#define PATCHES(S, T)                                                                                             \
  extern "C" __global__ void patches_##S(T* dst, const T* x, int n, int h, int w, int c, int oh, int ow, int kernel, \
                                         int stride, int pad) {                                                   \
    patches(dst, x, n, h, w, c, oh, ow, kernel, stride, pad);                                                     \
  }                                                                                                               \
  extern "C" __global__ void gather_##S(T* dx, const float* src, int n, int h, int w, int c, int oh, int ow,      \
                                        int kernel, int stride, int pad) {                                        \
    gather(dx, src, n, h, w, c, oh, ow, kernel, stride, pad);                                                     \
  }

PATCHES(f32, float)
PATCHES(bf16, bf16)

#define KERNELS(TO, D, FROM, S)                                                                                      \
  extern "C" __global__ void window_##TO##_##FROM(D* dst, const S* src, int n, int height, int width, int channels,   \
                                                  int h, int w, int c, int shift) {                                  \
    window(dst, src, n, height, width, channels, h, w, c, shift);                                                    \
  }                                                                                                                  \
  extern "C" __global__ void transpose_##TO##_##FROM(D* dst, i64 dstTap, i64 dstRow, int rows, int columns,           \
                                                     const S* src, i64 srcTap, i64 srcRow, int filledRows,           \
                                                     int filledColumns) {                                            \
    transpose(dst, dstTap, dstRow, rows, columns, src, srcTap, srcRow, filledRows, filledColumns);                    \
  }                                                                                                                  \
  extern "C" __global__ void finish_##TO##_##FROM(D* y, const S* src, const float* bias, const float* each,           \
                                                  const D* residual, int n, int pixels, int channels, int stride,    \
                                                  int vector) {                                                      \
    if (vector)                                                                                                      \
      finish<4>(y, src, bias, each, residual, n, pixels, channels, stride);                                          \
    else                                                                                                             \
      finish<1>(y, src, bias, each, residual, n, pixels, channels, stride);                                          \
  }

KERNELS(f32, float, f32, float)
KERNELS(f32, float, bf16, bf16)
KERNELS(bf16, bf16, f32, float)
KERNELS(bf16, bf16, bf16, bf16)
