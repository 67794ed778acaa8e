// The update pass over flat buffers: norms, verdict, and then clip, AGR,
// optimizer and moving average in one reading. Every operation rounds as package
// optim's and package agr's do, in the same order: the results have the same
// bits as theirs.

// Block is optim.Block: count elements of a segment from lo on.
struct Block {
  i64 lo;
  int segment, count;
};

constexpr int lanes = 16;  // optim.Lanes
constexpr int normThreads = 64;

// pass_norms is l1[b] and sq[b], optim.Norms of each block: 16 interleaved sums,
// added pairwise. Half a warp has a block.
extern "C" __global__ void pass_norms(double* l1, double* sq, const float* g, const Block* blocks, int n) {
  int b = blockIdx.x * (normThreads / lanes) + threadIdx.x / lanes, lane = threadIdx.x % lanes;
  Block block = {0, 0, 0};
  if (b < n) block = blocks[b];
  const float* x = g + block.lo;
  double sum = 0, square = 0;
#pragma unroll 16
  for (int i = lane; i < block.count; i += lanes) {
    double v = (double)x[i];
    sum += fabs(v);
    square += v * v;
  }
#pragma unroll
  for (int d = lanes / 2; d > 0; d /= 2) {
    sum += __shfl_xor_sync(0xffffffffu, sum, d);
    square += __shfl_xor_sync(0xffffffffu, square, d);
  }
  if (b < n && lane == 0) {
    l1[b] = sum;
    sq[b] = square;
  }
}

// Verdict is what the norms lead to; the host reads it as optim.Stats, and moved as
// optim.Movement.
struct Verdict {
  double norm, clip;
  float scale;  // clip, rounded
  int finite;
  double coefficient;  // of AGR
  double moved[3];     // squares: of the update, of the parameters, of their distance to the average
};

constexpr int verdictThreads = 256, verdictChunk = 2048;

// How a segment's denominator comes about: from its own norm, or from all; 0 is
// without AGR.
constexpr int agrTensor = 1, agrGroup = 2;

// sumOf adds a segment's blocks in order.
__device__ inline double sumOf(const double* blocks, const int* firstBlock, int segment) {
  double sum = 0;
  for (int b = firstBlock[segment]; b < firstBlock[segment + 1]; b++) sum += blocks[b];
  return sum;
}

// clipTo brings a norm to at most max: min(1, max/(norm + eps)), 1 where max is 0.
__device__ inline double clipTo(double norm, double max, double eps) {
  double clip = max / (norm + eps);
  return max == 0 || clip > 1 ? 1 : clip;
}

// pass_verdict sums the blocks in order, decides on the clipping factor (the update's,
// and what the optimizer's own clipping makes of the norm after it) and writes the
// denominator of each segment; with AGR also the gradient's L1 norm after it over that
// before it, sum|g| - sum g^2/den over a tensor. One block of threads. A segment whose
// length is negative is one that AGR leaves alone.
extern "C" __global__ void pass_verdict(Verdict* out, float* den, const double* l1, const double* sq,
                                        const int* firstBlock, const int* lengths, int segments, int blocks, int agr,
                                        int keepScalars, double maxNorm, double ownNorm, double ownEps) {
  __shared__ double room[verdictChunk];
  __shared__ double group;
  double total = 0;
  for (int first = 0; first < blocks; first += verdictChunk) {
    int count = blocks - first < verdictChunk ? blocks - first : verdictChunk;
    __syncthreads();
    for (int i = threadIdx.x; i < count; i += verdictThreads) room[i] = sq[first + i];
    __syncthreads();
    if (threadIdx.x == 0) {
#pragma unroll 8
      for (int i = 0; i < count; i++) total += room[i];
    }
  }
  if (threadIdx.x == 0) {
    Verdict v;
    v.norm = sqrt(total);
    v.finite = total - total == 0;
    v.clip = 0;
    if (v.finite) {
      v.clip = clipTo(v.norm, maxNorm, 1e-6);
      v.clip *= clipTo(v.norm * v.clip, ownNorm, ownEps);
    }
    v.scale = (float)v.clip;
    v.coefficient = v.moved[0] = v.moved[1] = v.moved[2] = 0;
    *out = v;
    group = 0;
    if (agr == agrGroup) {
      double sum = 0;
      for (int s = 0; s < segments; s++) {
        if (lengths[s] >= 0) sum += sumOf(l1, firstBlock, s);
      }
      group = sum + 1e-12;
    }
  }
  __syncthreads();
  const float infinite = __int_as_float(0x7f800000);
  double all = 0, lost = 0;  // of thread 0
  for (int first = 0; first < segments; first += verdictThreads) {
    int s = first + threadIdx.x;
    if (s < segments) {
      float d = infinite;
      double sum = agr == 0 ? 0 : sumOf(l1, firstBlock, s);
      if (agr == agrGroup) d = (float)group;
      if (agr == agrTensor) d = sum == 0 ? infinite : (float)sum;
      if (lengths[s] < 0 || keepScalars && lengths[s] == 1) d = infinite;
      den[s] = d;
      if (agr != 0) {
        room[threadIdx.x] = sum;
        room[verdictThreads + threadIdx.x] = sumOf(sq, firstBlock, s) / (double)d;
      }
    }
    if (agr == 0) continue;
    __syncthreads();
    for (int i = 0; threadIdx.x == 0 && i < verdictThreads && first + i < segments; i++) {
      all += room[i];
      lost += room[verdictThreads + i];
    }
    __syncthreads();
  }
  if (agr != 0 && threadIdx.x == 0 && out->finite) out->coefficient = all == 0 ? 1 : 1 - lost / all;
}

// regularize is clip (1 - |g|/den) g.
__device__ inline float regularize(float g, float den, float clip) {
  float alpha = fabsf(g) / den;
  return ((1 - alpha) * g) * clip;
}

constexpr int updateThreads = 256, updateParts = 4;  // parts of a block

// Settings are what differs from one update to the next: the fields of the rule, and
// the rate of the average. They come from the host through memory, so that a launch
// can be recorded once and replayed.
struct alignas(16) Settings {
  float values[16];
};
constexpr int settingsRate = 13;

// A rule is an optimizer: apply updates w and its slots s from gradient g. Its fields
// are floats, the Settings' in this order.

struct Adan {
  static constexpr int slots = 4;
  float beta1, rest1, beta2, rest2, beta3, rest3, eps, rootN, stepM, stepV, decayBefore, decayAfter, first;
  __device__ inline void apply(float& w, float g, float* s) const {
    float d = g + s[3];
    if (first != 0) d = 0;
    float u = g + beta2 * d;
    float m = beta1 * s[0] + rest1 * g;
    float v = beta2 * s[1] + rest2 * d;
    float n = beta3 * s[2] + (rest3 * u) * u;
    float denominator = sqrtf(n) * rootN + eps;
    float move = (stepM * m + stepV * v) / denominator;
    float x = w - decayBefore * w;
    x -= move;
    w = x - decayAfter * x;
    s[0] = m;
    s[1] = v;
    s[2] = n;
    s[3] = -g;
  }
};

struct Adam {
  static constexpr int slots = 2;
  float beta1, rest1, beta2, rest2, eps, root, step, decay, decoupled;
  __device__ inline void apply(float& w, float g, float* s) const {
    if (decoupled == 0) g = g + decay * w;
    float m = beta1 * s[0] + rest1 * g;
    float v = beta2 * s[1] + (rest2 * g) * g;
    float denominator = sqrtf(v) * root + eps;
    float x = w;
    if (decoupled != 0) x = w - decay * w;
    w = x - (step * m) / denominator;
    s[0] = m;
    s[1] = v;
  }
};

struct RMSprop {
  static constexpr int slots = 3;  // square_avg, grad_avg, momentum_buffer
  float alpha, rest, eps, step, decay, momentum, centered, buffered;
  __device__ inline void apply(float& w, float g, float* s) const {
    g = g + decay * w;
    float v = alpha * s[0] + (rest * g) * g;
    s[0] = v;
    if (centered != 0) {
      float bar = alpha * s[1] + rest * g;
      s[1] = bar;
      v = v - bar * bar;
      if (v < 0) v = 0;
    }
    float move = g / (sqrtf(v) + eps);
    if (buffered != 0) {
      move = momentum * s[2] + move;
      s[2] = move;
    }
    w -= step * move;
  }
};

struct ACProp {
  static constexpr int slots = 2;
  float beta1, rest1, beta2, rest2, eps, floor, root, step, decay, momentum;
  __device__ inline void apply(float& w, float g, float* s) const {
    float m = beta1 * s[0] + rest1 * g;
    float var = s[1] + floor;
    float x = w - decay * w;
    if (momentum != 0)
      w = x - step * m;
    else
      w = x - (step * g) / (sqrtf(var) * root + eps);
    float e = g - m;
    s[0] = m;
    s[1] = beta2 * var + (rest2 * e) * e;
  }
};

struct SGDM {
  static constexpr int slots = 1;
  float keep, take, step, decay, nesterov, ahead, buffered;
  __device__ inline void apply(float& w, float g, float* s) const {
    g = g + decay * w;
    float move = g;
    if (buffered != 0) {
      move = keep * s[0] + take * g;
      s[0] = move;
      if (ahead != 0) move = g + nesterov * move;
    }
    w -= step * move;
  }
};

struct Lion {
  static constexpr int slots = 1;
  float beta1, rest1, beta2, rest2, step, decay;
  __device__ inline void apply(float& w, float g, float* s) const {
    float u = beta1 * s[0] + rest1 * g;
    float x = w - decay * w;
    if (u > 0) x -= step;
    if (u < 0) x += step;
    w = x;
    s[0] = beta2 * s[0] + rest2 * g;
  }
};

// Average is the moving average of the parameters: none, a copy, or
// avg + rate (w - avg).
constexpr int averageNone = 0, averageCopy = 1;

struct State {
  float *w, *g, *ema, *slot[4];  // a slot that the optimizer lacks is null
};

template <class Rule>
__device__ inline void element(const Rule& rule, const State& p, i64 i, float den, float clip, int average, float rate) {
  float g = regularize(p.g[i], den, clip);
  float w = p.w[i], s[Rule::slots];
#pragma unroll
  for (int k = 0; k < Rule::slots; k++) s[k] = p.slot[k] ? p.slot[k][i] : 0.0f;
  rule.apply(w, g, s);
  p.w[i] = w;
#pragma unroll
  for (int k = 0; k < Rule::slots; k++)
    if (p.slot[k]) p.slot[k][i] = s[k];
  if (average == averageCopy)
    p.ema[i] = w;
  else if (average != averageNone)
    p.ema[i] += rate * (w - p.ema[i]);
}

template <class Rule>
__device__ inline void four(const Rule& rule, const State& p, i64 i, float den, float clip, int average, float rate) {
  float g[4];
  load(p.g + i, g);
#pragma unroll
  for (int j = 0; j < 4; j++) g[j] = regularize(g[j], den, clip);
  float w[4], avg[4], s[Rule::slots][4];
  load(p.w + i, w);
#pragma unroll
  for (int k = 0; k < Rule::slots; k++) {
    if (p.slot[k]) load(p.slot[k] + i, s[k]);
  }
  if (average > averageCopy) load(p.ema + i, avg);
#pragma unroll
  for (int j = 0; j < 4; j++) {
    float mine[Rule::slots];
#pragma unroll
    for (int k = 0; k < Rule::slots; k++) mine[k] = p.slot[k] ? s[k][j] : 0.0f;
    rule.apply(w[j], g[j], mine);
#pragma unroll
    for (int k = 0; k < Rule::slots; k++) s[k][j] = mine[k];
    if (average == averageCopy)
      avg[j] = w[j];
    else if (average != averageNone)
      avg[j] += rate * (w[j] - avg[j]);
  }
  store(p.w + i, w);
#pragma unroll
  for (int k = 0; k < Rule::slots; k++) {
    if (p.slot[k]) store(p.slot[k] + i, s[k]);
  }
  if (average != averageNone) store(p.ema + i, avg);
}

// update applies a rule to a part of a block, unless the gradient held a NaN or an
// infinity: then nothing is written.
template <class Rule>
__device__ inline void update(const State& p, const Block* blocks, const float* dens, const Verdict* verdict,
                              const Settings* settings, int average) {
  if (!verdict->finite) return;
  float values[16];
  load(settings->values, values);
  Rule rule;
#pragma unroll
  for (int k = 0; k < (int)(sizeof(Rule) / sizeof(float)); k++) ((float*)&rule)[k] = values[k];
  float rate = values[settingsRate];
  Block b = blocks[blockIdx.x / updateParts];
  int part = (b.count / updateParts + 4) & ~3;  // a multiple of 4, and the last part ends behind the end
  int from = blockIdx.x % updateParts * part, to = from + part < b.count ? from + part : b.count;
  float den = dens[b.segment], clip = verdict->scale;
  bool vector = b.lo % 4 == 0 && aligned(p.w) && aligned(p.g) && aligned(p.ema);
#pragma unroll
  for (int k = 0; k < Rule::slots; k++) vector = vector && aligned(p.slot[k]);
  if (!vector) {
    for (int i = from + threadIdx.x; i < to; i += updateThreads) element(rule, p, b.lo + i, den, clip, average, rate);
    return;
  }
  for (int i = from + threadIdx.x * 4; i < to; i += updateThreads * 4) {
    if (i + 4 <= to) {
      four(rule, p, b.lo + i, den, clip, average, rate);
    } else {
      for (int j = i; j < to; j++) element(rule, p, b.lo + j, den, clip, average, rate);
    }
  }
}

// moved is what update would do, measured and not written: sums[3 * block + k] are the
// Verdict's moved[k] over a block of threads.
template <class Rule>
__device__ inline void moved(const State& p, double* sums, const Block* blocks, const float* dens, const Verdict* verdict,
                             const Settings* settings, int average) {
  __shared__ double room[updateThreads / 32];
  Rule rule;
#pragma unroll
  for (int k = 0; k < (int)(sizeof(Rule) / sizeof(float)); k++) ((float*)&rule)[k] = settings->values[k];
  float rate = settings->values[settingsRate];
  Block b = blocks[blockIdx.x / updateParts];
  int part = (b.count / updateParts + 4) & ~3;
  int from = blockIdx.x % updateParts * part, to = from + part < b.count ? from + part : b.count;
  float den = dens[b.segment], clip = verdict->scale;
  double own[3] = {0, 0, 0};
  for (int i = from + threadIdx.x; i < to; i += updateThreads) {
    i64 at = b.lo + i;
    float g = regularize(p.g[at], den, clip), before = p.w[at], w = before, s[Rule::slots];
#pragma unroll
    for (int k = 0; k < Rule::slots; k++) s[k] = p.slot[k] ? p.slot[k][at] : 0.0f;
    rule.apply(w, g, s);
    double d = (double)(w - before), e = 0;
    if (average > averageCopy) {
      float avg = p.ema[at];
      avg += rate * (w - avg);
      e = (double)(avg - w);
    }
    own[0] += d * d;
    own[1] += (double)w * (double)w;
    own[2] += e * e;
  }
#pragma unroll
  for (int k = 0; k < 3; k++) {
    double sum = blockSum(own[k], room);
    if (threadIdx.x == 0) sums[3 * (i64)blockIdx.x + k] = sum;
  }
}

// pass_moved adds what the blocks of moved found. One block of threads.
extern "C" __global__ void pass_moved(Verdict* out, const double* sums, int blocks) {
  __shared__ double room[updateThreads / 32];
  for (int k = 0; k < 3; k++) {
    double sum = 0;
    for (int i = threadIdx.x; i < blocks; i += updateThreads) sum += sums[3 * (i64)i + k];
    sum = blockSum(sum, room);
    if (threadIdx.x == 0) out->moved[k] = sum;
  }
}

#define RULE(NAME, TYPE)                                                                                          \
  extern "C" __global__ void __launch_bounds__(updateThreads) pass_##NAME(                                        \
      float* w, float* g, float* ema, float* s0, float* s1, float* s2, float* s3, const Block* blocks,            \
      const float* dens, const Verdict* verdict, const Settings* settings, int average) {                         \
    State state = {w, g, ema, {s0, s1, s2, s3}};                                                                  \
    update<TYPE>(state, blocks, dens, verdict, settings, average);                                                \
  }                                                                                                               \
  extern "C" __global__ void __launch_bounds__(updateThreads) pass_move_##NAME(                                   \
      float* w, float* g, float* ema, float* s0, float* s1, float* s2, float* s3, const Block* blocks,            \
      const float* dens, const Verdict* verdict, const Settings* settings, int average, double* sums) {           \
    State state = {w, g, ema, {s0, s1, s2, s3}};                                                                  \
    moved<TYPE>(state, sums, blocks, dens, verdict, settings, average);                                           \
  }

RULE(adan, Adan)
RULE(adam, Adam)
RULE(rmsprop, RMSprop)
RULE(acprop, ACProp)
RULE(sgdm, SGDM)
RULE(lion, Lion)

// Digest: every word is mixed with its place by splitmix64's finaliser (Steele
// et al., OOPSLA 2014), and the results are added modulo 2^64, which no order
// changes.
constexpr int digestThreads = 256, digestSpan = 16384;

__device__ inline u64 mix(u64 place, u32 word) {
  u64 z = (place + 1) * 0x9E3779B97F4A7C15ull + word;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ z >> 27) * 0x94D049BB133111EBull;
  return z ^ z >> 31;
}

extern "C" __global__ void digest(u64* partial, const u32* x, i64 n) {
  __shared__ u64 room[digestThreads / 32];
  i64 lo = (i64)blockIdx.x * digestSpan, hi = lo + digestSpan < n ? lo + digestSpan : n;
  u64 sum = 0;
  for (i64 i = lo + threadIdx.x; i < hi; i += digestThreads) sum += mix((u64)i, x[i]);
  sum = blockSum(sum, room);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

extern "C" __global__ void digest_sum(u64* out, const u64* partial, i64 n) {
  __shared__ u64 room[digestThreads / 32];
  u64 sum = 0;
  for (i64 i = threadIdx.x; i < n; i += digestThreads) sum += partial[i];
  sum = blockSum(sum, room);
  if (threadIdx.x == 0) *out = sum;
}
