// Attention, softmax(scale q k') v for each sample and head. q, k, v, y are
// [N, L, C]; a head is dim adjacent channels; lse [N, heads, L] is the logarithm
// of the sum of exp(scale q k').
//
// Narrow heads run as flash attention (Dao et al., arXiv 2205.14135): a thread
// has a row, the rows of the other side pass by in shared memory, and no score
// is ever stored. Wide heads run as three products with the scores in scratch
// memory.

constexpr int flashRows = 64, flashTile = 32, flashStep = 8;

// Head is a block's sample and head, and a thread's row of it.
struct Head {
  int l, c, dim, row, index;  // index: of the head among N x heads
  i64 base;                   // first channel of row 0

  __device__ inline Head(int l, int c, int heads, int dim) : l(l), c(c), dim(dim) {
    int tiles = (l + flashRows - 1) / flashRows;
    index = blockIdx.x / tiles;
    row = blockIdx.x % tiles * flashRows + threadIdx.x;
    base = (i64)(index / heads) * l * c + index % heads * dim;
  }

  // get reads a row, zero beyond the head's channels and the last row.
  template <class T, int D>
  __device__ inline void get(const T* x, float (&v)[D]) const {
#pragma unroll
    for (int d = 0; d < D; d++) v[d] = row < l && d < dim ? toFloat(x[base + (i64)row * c + d]) : 0.0f;
  }
  template <class T, int D>
  __device__ inline void put(T* x, const float (&v)[D], float factor) const {
    if (row >= l) return;
#pragma unroll
    for (int d = 0; d < D; d++)
      if (d < dim) set(x[base + (i64)row * c + d], v[d] * factor);
  }
  // tile copies rows from first on to shared memory.
  template <class T, int D>
  __device__ inline void tile(const T* x, int first, float* room) const {
    for (int i = threadIdx.x; i < flashTile * D; i += flashRows) {
      int r = first + i / D, d = i % D;
      room[i] = r < l && d < dim ? toFloat(x[base + (i64)r * c + d]) : 0.0f;
    }
  }
};

template <int D>
__device__ inline float dot(const float (&a)[D], const float* b) {
  float s = 0;
#pragma unroll
  for (int d = 0; d < D; d += 4) {
    float v[4];
    load(b + d, v);
#pragma unroll
    for (int k = 0; k < 4; k++) s = fmaf(a[d + k], v[k], s);
  }
  return s;
}

template <int D>
__device__ inline void addScaled(float (&sum)[D], float w, const float* b) {
#pragma unroll
  for (int d = 0; d < D; d += 4) {
    float v[4];
    load(b + d, v);
#pragma unroll
    for (int k = 0; k < 4; k++) sum[d + k] = fmaf(w, v[k], sum[d + k]);
  }
}

template <class T, int D>
__device__ inline void flash(T* y, float* lse, const T* q, const T* k, const T* v, int l, int c, int heads, int dim,
                             float scale) {
  __shared__ Pack keyRoom[flashTile * D / 4], valueRoom[flashTile * D / 4];
  float *keys = (float*)keyRoom, *vals = (float*)valueRoom;
  Head h(l, c, heads, dim);
  float mine[D], out[D], top = -__int_as_float(0x7f800000), sum = 0;
  h.get(q, mine);
#pragma unroll
  for (int d = 0; d < D; d++) out[d] = 0;
  for (int first = 0; first < l; first += flashTile) {
    __syncthreads();
    h.tile<T, D>(k, first, keys);
    h.tile<T, D>(v, first, vals);
    __syncthreads();
    int count = l - first < flashTile ? l - first : flashTile;
    for (int j = 0; j < count; j += flashStep) {
      float s[flashStep], high = top;
#pragma unroll
      for (int i = 0; i < flashStep; i++) {
        s[i] = j + i < count ? scale * dot(mine, keys + (j + i) * D) : -__int_as_float(0x7f800000);
        high = fmaxf(high, s[i]);
      }
      float shrink = expf(top - high);
      top = high;
      sum *= shrink;
#pragma unroll
      for (int d = 0; d < D; d++) out[d] *= shrink;
#pragma unroll
      for (int i = 0; i < flashStep; i++) {
        float p = expf(s[i] - top);
        sum += p;
        addScaled(out, p, vals + (j + i) * D);
      }
    }
  }
  h.put(y, out, 1.0f / sum);
  if (h.row < l) lse[(i64)h.index * l + h.row] = top + logf(sum);
}

// flashGradQ: a thread has a row of q. With p the probabilities, dp = dy v' and
// delta = sum(dy y): ds = p (dp - delta) scale, dq = ds k.
template <class T, int D>
__device__ inline void flashGradQ(T* dq, const T* dy, const T* y, const float* lse, const T* q, const T* k, const T* v,
                                  int l, int c, int heads, int dim, float scale) {
  __shared__ Pack keyRoom[flashTile * D / 4], valueRoom[flashTile * D / 4];
  float *keys = (float*)keyRoom, *vals = (float*)valueRoom;
  Head h(l, c, heads, dim);
  float mine[D], grad[D], out[D];
  h.get(dy, grad);
  h.get(y, out);
  float delta = 0, high = h.row < l ? lse[(i64)h.index * l + h.row] : 0.0f;
#pragma unroll
  for (int d = 0; d < D; d++) {
    delta = fmaf(grad[d], out[d], delta);
    out[d] = 0;
  }
  h.get(q, mine);
  for (int first = 0; first < l; first += flashTile) {
    __syncthreads();
    h.tile<T, D>(k, first, keys);
    h.tile<T, D>(v, first, vals);
    __syncthreads();
    int count = l - first < flashTile ? l - first : flashTile;
    for (int j = 0; j < count; j++) {
      float p = expf(scale * dot(mine, keys + j * D) - high);
      addScaled(out, p * (dot(grad, vals + j * D) - delta), keys + j * D);
    }
  }
  h.put(dq, out, scale);
}

// flashGradKV: a thread has a row of k and v: dk = ds' q, dv = p' dy.
template <class T, int D>
__device__ inline void flashGradKV(T* dk, T* dv, const T* dy, const T* y, const float* lse, const T* q, const T* k,
                                   const T* v, int l, int c, int heads, int dim, float scale) {
  __shared__ Pack queryRoom[flashTile * D / 4], gradRoom[flashTile * D / 4];
  __shared__ float delta[flashTile], high[flashTile];
  float *queries = (float*)queryRoom, *grads = (float*)gradRoom;
  Head h(l, c, heads, dim);
  float key[D], val[D], sumK[D], sumV[D];
  h.get(k, key);
  h.get(v, val);
#pragma unroll
  for (int d = 0; d < D; d++) sumK[d] = sumV[d] = 0;
  for (int first = 0; first < l; first += flashTile) {
    __syncthreads();
    h.tile<T, D>(q, first, queries);
    h.tile<T, D>(dy, first, grads);
    __syncthreads();
    int count = l - first < flashTile ? l - first : flashTile;
    if ((int)threadIdx.x < count) {
      int row = first + threadIdx.x;
      float s = 0;
      for (int d = 0; d < dim; d++) s = fmaf(grads[threadIdx.x * D + d], toFloat(y[h.base + (i64)row * c + d]), s);
      delta[threadIdx.x] = s;
      high[threadIdx.x] = lse[(i64)h.index * l + row];
    }
    __syncthreads();
    for (int j = 0; j < count; j++) {
      float p = expf(scale * dot(key, queries + j * D) - high[j]);
      addScaled(sumV, p, grads + j * D);
      addScaled(sumK, p * (dot(val, grads + j * D) - delta[j]), queries + j * D);
    }
  }
  h.put(dk, sumK, scale);
  h.put(dv, sumV, 1.0f);
}

// Products of wide heads. A matrix of a head lies at base + sample * perSample +
// head * perHead with rows of stride elements.
constexpr int productTile = 64, productDepth = 16, productThreads = 256;

template <class T>
struct Operand {
  T* base;
  i64 perSample, perHead;
  int stride;

  __device__ inline T* head(int index, int heads) const {
    return base + index / heads * perSample + index % heads * perHead;
  }
};

// fetch reads a tile of op(x), productTile wide and productDepth deep, x being
// [wide, deep], or [deep, wide] where Deep is set: deep is the outer dimension.
template <bool Deep, class T>
__device__ inline void fetch(float (*room)[productTile + 4], const T* x, int stride, int wideAt, int wideEnd, int deepAt,
                             int deepEnd) {
  for (int i = threadIdx.x; i < productTile * productDepth; i += productThreads) {
    int w = Deep ? i % productTile : i / productDepth, d = Deep ? i / productTile : i % productDepth;
    bool in = wideAt + w < wideEnd && deepAt + d < deepEnd;
    i64 at = Deep ? (i64)(deepAt + d) * stride + wideAt + w : (i64)(wideAt + w) * stride + deepAt + d;
    room[d][w] = in ? toFloat(x[at]) : 0.0f;
  }
}

// product is c = alpha op(a) op(b) for each head: [m, n] from a depth of k. The
// grid is (tiles, N x heads). A thread has 4 x 4 elements.
template <bool TransA, bool TransB, class A, class B, class C>
__device__ inline void product(Operand<C> c, Operand<const A> a, Operand<const B> b, int heads, int m, int n, int k,
                               float alpha) {
  __shared__ float left[productDepth][productTile + 4], right[productDepth][productTile + 4];
  int columns = (n + productTile - 1) / productTile;
  int row = blockIdx.x / columns * productTile, column = blockIdx.x % columns * productTile;
  const A* pa = a.head(blockIdx.y, heads);
  const B* pb = b.head(blockIdx.y, heads);
  int r = threadIdx.x / 16 * 4, q = threadIdx.x % 16 * 4;
  float sum[4][4];
#pragma unroll
  for (int i = 0; i < 16; i++) sum[i / 4][i % 4] = 0;
  for (int p = 0; p < k; p += productDepth) {
    __syncthreads();
    fetch<TransA>(left, pa, a.stride, row, m, p, k);
    fetch<!TransB>(right, pb, b.stride, column, n, p, k);
    __syncthreads();
#pragma unroll
    for (int d = 0; d < productDepth; d++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) sum[i][j] = fmaf(left[d][r + i], right[d][q + j], sum[i][j]);
      }
    }
  }
  C* pc = c.head(blockIdx.y, heads);
#pragma unroll
  for (int i = 0; i < 4; i++) {
#pragma unroll
    for (int j = 0; j < 4; j++) {
      if (row + r + i < m && column + q + j < n) set(pc[(i64)(row + r + i) * c.stride + column + q + j], alpha * sum[i][j]);
    }
  }
}

// Rows of scores, a warp each.
constexpr int scoreWarps = 4;

// softmaxRows is p = softmax(s), with the lse of each row. p may be s.
template <class T>
__device__ inline void softmaxRows(T* p, const float* s, float* lse, i64 rows, int l) {
  i64 row = (i64)blockIdx.x * scoreWarps + threadIdx.x / 32;
  if (row >= rows) return;
  int lane = threadIdx.x % 32;
  s += row * l;
  p += row * l;
  float top = -__int_as_float(0x7f800000), sum = 0;
  for (int j = lane; j < l; j += 32) top = fmaxf(top, s[j]);
#pragma unroll
  for (int d = 16; d > 0; d /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, d));
  for (int j = lane; j < l; j += 32) sum += expf(s[j] - top);
  sum = warpSum(sum);
  float inverse = 1.0f / sum;
  for (int j = lane; j < l; j += 32) set(p[j], expf(s[j] - top) * inverse);
  if (lane == 0) lse[row] = top + logf(sum);
}

// softmaxRowsGrad is p = exp(s - lse) and ds = scale p (dp - sum(dp p)). p may be
// s, ds may be dp.
template <class T>
__device__ inline void softmaxRowsGrad(T* p, T* ds, const float* s, const float* dp, const float* lse, i64 rows, int l,
                                       float scale) {
  i64 row = (i64)blockIdx.x * scoreWarps + threadIdx.x / 32;
  if (row >= rows) return;
  int lane = threadIdx.x % 32;
  s += row * l;
  p += row * l;
  dp += row * l;
  ds += row * l;
  float high = lse[row], sum = 0;
  for (int j = lane; j < l; j += 32) sum = fmaf(dp[j], expf(s[j] - high), sum);
  sum = warpSum(sum);
  for (int j = lane; j < l; j += 32) {
    float w = expf(s[j] - high);
    set(ds[j], scale * w * (dp[j] - sum));
    set(p[j], w);
  }
}

#define FLASH(S, T, D)                                                                                              \
  extern "C" __global__ void __launch_bounds__(flashRows, 1) flash_##D##_##S(                                       \
      T* y, float* lse, const T* q, const T* k, const T* v, int l, int c, int heads, int dim, float scale) {        \
    flash<T, D>(y, lse, q, k, v, l, c, heads, dim, scale);                                                          \
  }                                                                                                                 \
  extern "C" __global__ void __launch_bounds__(flashRows) flash_grad_q_##D##_##S(                                   \
      T* dq, const T* dy, const T* y, const float* lse, const T* q, const T* k, const T* v, int l, int c, int heads, \
      int dim, float scale) {                                                                                       \
    flashGradQ<T, D>(dq, dy, y, lse, q, k, v, l, c, heads, dim, scale);                                             \
  }                                                                                                                 \
  extern "C" __global__ void __launch_bounds__(flashRows) flash_grad_kv_##D##_##S(                                  \
      T* dk, T* dv, const T* dy, const T* y, const float* lse, const T* q, const T* k, const T* v, int l, int c,    \
      int heads, int dim, float scale) {                                                                            \
    flashGradKV<T, D>(dk, dv, dy, y, lse, q, k, v, l, c, heads, dim, scale);                                        \
  }

// scores is s = alpha a b', weigh is y = p v, weigh_t is y = p' v.
#define PRODUCTS(S, T)                                                                                               \
  extern "C" __global__ void attention_scores_##S(float* s, const T* a, const T* b, int heads, int l, int c, int dim,  \
                                                  float alpha) {                                                     \
    i64 square = (i64)l * l, rows = (i64)l * c;                                                                      \
    Operand<float> out = {s, heads * square, square, l};                                                             \
    Operand<const T> left = {a, rows, dim, c}, right = {b, rows, dim, c};                                            \
    product<false, true>(out, left, right, heads, l, l, dim, alpha);                                                 \
  }                                                                                                                  \
  extern "C" __global__ void attention_weigh_##S(T* y, const T* p, const T* v, int heads, int l, int c, int dim,       \
                                                 float alpha) {                                                      \
    i64 square = (i64)l * l, rows = (i64)l * c;                                                                      \
    Operand<T> out = {y, rows, dim, c};                                                                              \
    Operand<const T> left = {p, heads * square, square, l}, right = {v, rows, dim, c};                               \
    product<false, false>(out, left, right, heads, l, dim, l, alpha);                                                \
  }                                                                                                                  \
  extern "C" __global__ void attention_weigh_t_##S(T* y, const T* p, const T* v, int heads, int l, int c, int dim,     \
                                                   float alpha) {                                                    \
    i64 square = (i64)l * l, rows = (i64)l * c;                                                                      \
    Operand<T> out = {y, rows, dim, c};                                                                              \
    Operand<const T> left = {p, heads * square, square, l}, right = {v, rows, dim, c};                               \
    product<true, false>(out, left, right, heads, l, dim, l, alpha);                                                 \
  }                                                                                                                  \
  extern "C" __global__ void attention_softmax_##S(T* p, const float* s, float* lse, i64 rows, int l) {               \
    softmaxRows(p, s, lse, rows, l);                                                                                 \
  }                                                                                                                  \
  extern "C" __global__ void attention_softmax_grad_##S(T* p, T* ds, const float* s, const float* dp,                \
                                                        const float* lse, i64 rows, int l, float scale) {            \
    softmaxRowsGrad(p, ds, s, dp, lse, rows, l, scale);                                                              \
  }

FLASH(f32, float, 8)
FLASH(f32, float, 16)
FLASH(f32, float, 32)
FLASH(bf16, bf16, 8)
FLASH(bf16, bf16, 16)
FLASH(bf16, bf16, 32)
PRODUCTS(f32, float)
PRODUCTS(bf16, bf16)
