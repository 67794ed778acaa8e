// What all kernels share. No header is included: NVRTC has none to offer
// without an installed toolkit. Sums have one order, given by the shapes.

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

// A bfloat16 is the upper half of a float.
struct bf16 {
  u16 bits;
};

__device__ inline float toFloat(float v) { return v; }
__device__ inline float toFloat(bf16 v) { return __uint_as_float((u32)v.bits << 16); }

__device__ inline void set(float& d, float v) { d = v; }

// round to nearest even; a NaN stays one.
__device__ inline u32 bf16Bits(float v) {
  u32 u = __float_as_uint(v);
  if (v != v) return u >> 16 | 0x40u;
  return (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
}
__device__ inline void set(bf16& d, float v) { d.bits = (u16)bf16Bits(v); }

// Elements move in vectors of 16 bytes where all addresses allow it. Pack and
// Half are what the memory sees.
struct alignas(16) Pack {
  u32 x, y, z, w;
};
struct alignas(8) Half {
  u32 x, y;
};

__device__ inline void unpack(u32 u, float& lo, float& hi) {
  lo = __uint_as_float(u << 16);
  hi = __uint_as_float(u & 0xffff0000u);
}
// pack rounds two values; the device has an instruction for it, with the same bits but for
// which NaN a NaN becomes.
__device__ inline u32 pack(float lo, float hi) {
#ifndef AGR_ARCH  // a device, not its double on the CPU
  u32 both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(hi), "f"(lo));
  return both;
#else
  return bf16Bits(lo) | bf16Bits(hi) << 16;
#endif
}

template <int V>
__device__ inline void load(const float* p, float (&v)[V]) {
  static_assert(V == 1 || V % 4 == 0, "vector width");
  if constexpr (V == 1) {
    v[0] = *p;
  } else {
#pragma unroll
    for (int i = 0; i < V; i += 4) {
      Pack q = *(const Pack*)(p + i);
      v[i] = __uint_as_float(q.x);
      v[i + 1] = __uint_as_float(q.y);
      v[i + 2] = __uint_as_float(q.z);
      v[i + 3] = __uint_as_float(q.w);
    }
  }
}

template <int V>
__device__ inline void store(float* p, const float (&v)[V]) {
  if constexpr (V == 1) {
    *p = v[0];
  } else {
#pragma unroll
    for (int i = 0; i < V; i += 4) {
      Pack q = {__float_as_uint(v[i]), __float_as_uint(v[i + 1]), __float_as_uint(v[i + 2]), __float_as_uint(v[i + 3])};
      *(Pack*)(p + i) = q;
    }
  }
}

template <int V>
__device__ inline void load(const bf16* p, float (&v)[V]) {
  static_assert(V == 1 || V == 4 || V == 8, "vector width");
  if constexpr (V == 1) {
    v[0] = toFloat(*p);
  } else if constexpr (V == 4) {
    Half q = *(const Half*)p;
    unpack(q.x, v[0], v[1]);
    unpack(q.y, v[2], v[3]);
  } else {
    Pack q = *(const Pack*)p;
    unpack(q.x, v[0], v[1]);
    unpack(q.y, v[2], v[3]);
    unpack(q.z, v[4], v[5]);
    unpack(q.w, v[6], v[7]);
  }
}

template <int V>
__device__ inline void store(bf16* p, const float (&v)[V]) {
  if constexpr (V == 1) {
    set(*p, v[0]);
  } else if constexpr (V == 4) {
    Half q = {pack(v[0], v[1]), pack(v[2], v[3])};
    *(Half*)p = q;
  } else {
    Pack q = {pack(v[0], v[1]), pack(v[2], v[3]), pack(v[4], v[5]), pack(v[6], v[7])};
    *(Pack*)p = q;
  }
}

// spread is the values of a vector of T.
template <class T>
__device__ inline void spread(const Pack& q, float (&v)[16 / sizeof(T)]) {
  if constexpr (sizeof(T) == 4) {
    v[0] = __uint_as_float(q.x);
    v[1] = __uint_as_float(q.y);
    v[2] = __uint_as_float(q.z);
    v[3] = __uint_as_float(q.w);
  } else {
    unpack(q.x, v[0], v[1]);
    unpack(q.y, v[2], v[3]);
    unpack(q.z, v[4], v[5]);
    unpack(q.w, v[6], v[7]);
  }
}

// wide is how many elements of T make 16 bytes.
template <class T>
constexpr int wide = 16 / (int)sizeof(T);

// aligned says whether an address allows vectors of so many bytes.
__device__ inline bool aligned(const void* p, int bytes = 16) { return ((u64)p & (u64)(bytes - 1)) == 0; }

// sigmoid is within a few units of the last place for F32. For what is rounded to BF16,
// the device's own exponential and division are enough: their error is below 2^-17 for
// |x| < 32, a thousandth of BF16's rounding at 0, and beyond the value is 1 or next to 0.
template <class T>
__device__ inline float sigmoid(float x) {
  if constexpr (sizeof(T) == 2) {
    return __fdividef(1.0f, 1.0f + __expf(-x));
  } else {
    return 1.0f / (1.0f + expf(-x));
  }
}

template <class T>
__device__ inline float siluOf(float x) {
  if constexpr (sizeof(T) == 2) {
    return x * sigmoid<T>(x);
  } else {
    return x / (1.0f + expf(-x));
  }
}

// siluSlope is the derivative of x sigmoid(x).
template <class T>
__device__ inline float siluSlope(float x) {
  float s = sigmoid<T>(x);
  return s * (1.0f + x * (1.0f - s));
}

// A Philox4x32-10 block, package rng's Source.Block.
struct Words {
  u32 w[4];
};

__device__ inline Words philox(u64 seed, u32 stream, u64 draw, u32 block) {
  u32 c0 = block, c1 = stream, c2 = (u32)draw, c3 = (u32)(draw >> 32);
  u32 k0 = (u32)seed, k1 = (u32)(seed >> 32);
#pragma unroll
  for (int i = 0; i < 10; i++) {
    u64 p0 = (u64)0xD2511F53u * c0, p1 = (u64)0xCD9E8D57u * c2;
    u32 n0 = (u32)(p1 >> 32) ^ c1 ^ k0, n2 = (u32)(p0 >> 32) ^ c3 ^ k1;
    c1 = (u32)p1;
    c3 = (u32)p0;
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  Words r = {{c0, c1, c2, c3}};
  return r;
}

// Mask is a dropout mask: word j of a sample's sequence keeps element j, scaled
// by keep, when it is >= limit. on false keeps everything.
struct Mask {
  bool on;
  u64 seed;
  u32 stream, limit;
  float keep;

  __device__ inline float factor(u32 word) const { return word >= limit ? keep : 0.0f; }

  // apply masks elements j.. of a draw; where V > 1, j is a multiple of 4.
  template <int V>
  __device__ inline void apply(float (&v)[V], u64 draw, u32 j) const {
    if (!on) return;
    if constexpr (V == 1) {
      v[0] *= factor(philox(seed, stream, draw, j / 4).w[j % 4]);
    } else {
#pragma unroll
      for (int i = 0; i < V; i += 4) {
        Words r = philox(seed, stream, draw, (j + i) / 4);
#pragma unroll
        for (int k = 0; k < 4; k++) v[i + k] *= factor(r.w[k]);
      }
    }
  }
};

// warpSum adds over the 32 lanes, in one order; every lane has the sum.
template <class T>
__device__ inline T warpSum(T v) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
  return v;
}

// blockSum adds over a block of whole warps, in one order; every thread has
// the sum. room is one T a warp.
template <class T>
__device__ inline T blockSum(T v, T* room) {
  v = warpSum(v);
  __syncthreads();  // room may be in use
  if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = v;
  __syncthreads();
  T s = room[0];
  for (int i = 1; i < (int)blockDim.x / 32; i++) s += room[i];
  return s;
}
