// Sums. A column sum goes in two steps: blocks of rows, then the blocks' sums,
// both in a fixed tree.

constexpr int sumThreads = 256;

// sumColumns is out[part, block, c] = the sum of x[part, row, c] over the rows
// of a block. The grid is parts x blocks of rows x tiles of columns. A thread has V
// columns and every lanes-th row; the lanes are added as a tree.
template <class S, class D, int V>
__device__ inline void sumColumnsOf(D* out, const S* x, i64 rows, int c, int block, int tile, float* room) {
  int vectors = tile / V, lanes = sumThreads / vectors;
  int column = threadIdx.x % vectors, lane = threadIdx.x / vectors;
  int tiles = (c + tile - 1) / tile, blocks = (int)((rows + block - 1) / block);
  int at = blockIdx.x % tiles * tile + column * V;
  i64 b = blockIdx.x / tiles % blocks, part = blockIdx.x / tiles / blocks;
  i64 lo = b * block, hi = lo + block < rows ? lo + block : rows;
  x += part * rows * c;
  float sum[V];
#pragma unroll
  for (int k = 0; k < V; k++) sum[k] = 0;
  if (lane < lanes && at < c) {
#pragma unroll 4
    for (i64 r = lo + lane; r < hi; r += lanes) {
      float v[V];
      load(x + r * c + at, v);
#pragma unroll
      for (int k = 0; k < V; k++) sum[k] += v[k];
    }
  }
#pragma unroll
  for (int k = 0; k < V; k++) room[threadIdx.x * V + k] = sum[k];
  int top = 1;
  while (top < lanes) top *= 2;
  for (int d = top / 2; d > 0; d /= 2) {
    __syncthreads();
    if (lane < d && lane + d < lanes) {
#pragma unroll
      for (int k = 0; k < V; k++) room[threadIdx.x * V + k] += room[(threadIdx.x + d * vectors) * V + k];
    }
  }
  if (lane == 0 && at < c) {
#pragma unroll
    for (int k = 0; k < V; k++) set(out[(part * blocks + b) * c + at + k], room[threadIdx.x * V + k]);
  }
}

// sumColumns takes a tile that is a multiple of the vector where vectors are
// possible: the caller's affair but for the addresses.
template <class S, class D>
__device__ inline void sumColumns(D* out, const S* x, i64 rows, int c, int block, int tile) {
  constexpr int V = wide<S>;
  __shared__ float room[sumThreads * V];
  if (tile % V == 0 && c % V == 0 && aligned(x)) {
    sumColumnsOf<S, D, V>(out, x, rows, c, block, tile, room);
  } else {
    sumColumnsOf<S, D, 1>(out, x, rows, c, block, tile, room);
  }
}

// mse is loss[n] = the sum of (pred - target)^2 over sample n, in float64, and
// dpred = 2 scale (pred - target) unless dpred is null. One block a sample.
template <class T>
__device__ inline void mse(float* loss, T* dpred, const T* pred, const T* target, i64 per, float scale) {
  __shared__ double room[sumThreads / 32];
  i64 first = (i64)blockIdx.x * per;
  double sum = 0;
  for (i64 j = first + threadIdx.x; j < first + per; j += sumThreads) {
    float e = toFloat(pred[j]) - toFloat(target[j]);
    sum += (double)e * (double)e;
    if (dpred) set(dpred[j], 2 * scale * e);
  }
  sum = blockSum(sum, room);
  if (threadIdx.x == 0) loss[blockIdx.x] = (float)sum;
}

extern "C" __global__ void sum_columns_f32_f32(float* out, const float* x, i64 rows, int c, int block, int tile) {
  sumColumns(out, x, rows, c, block, tile);
}
extern "C" __global__ void sum_columns_bf16_f32(float* out, const bf16* x, i64 rows, int c, int block, int tile) {
  sumColumns(out, x, rows, c, block, tile);
}
extern "C" __global__ void sum_columns_f32_bf16(bf16* out, const float* x, i64 rows, int c, int block, int tile) {
  sumColumns(out, x, rows, c, block, tile);
}

extern "C" __global__ void mse_f32(float* loss, float* dpred, const float* pred, const float* target, i64 per,
                                   float scale) {
  mse(loss, dpred, pred, target, per, scale);
}
extern "C" __global__ void mse_bf16(float* loss, bf16* dpred, const bf16* pred, const bf16* target, i64 per,
                                    float scale) {
  mse(loss, dpred, pred, target, per, scale);
}
