// CUDA's mathematical and bit functions for kernel_prelude.h. Rounding is IEEE's, as
// on the device; expf, sinf and the like are the C library's and differ from the
// device's by a few units in the last place.
#pragma once

#define AGR_MATH1(X) X(exp) X(exp2) X(expm1) X(log) X(log2) X(log10) X(log1p) X(sqrt) X(cbrt) X(sin) X(cos) X(tan) \
  X(asin) X(acos) X(atan) X(sinh) X(cosh) X(tanh) X(erf) X(erfc) X(fabs) X(floor) X(ceil) X(trunc) X(rint) X(round) X(nearbyint)
#define AGR_MATH2(X) X(pow) X(atan2) X(fmod) X(fmin) X(fmax) X(copysign) X(hypot) X(fdim)
#define AGR_DECLARE(name) extern "C" double name(double); extern "C" float name##f(float);
AGR_MATH1(AGR_DECLARE)
#undef AGR_DECLARE
#define AGR_DECLARE(name) extern "C" double name(double, double); extern "C" float name##f(float, float);
AGR_MATH2(AGR_DECLARE)
#undef AGR_DECLARE
extern "C" double fma(double, double, double);
extern "C" float fmaf(float, float, float);
extern "C" double ldexp(double, int);
extern "C" float ldexpf(float, int);
extern "C" int abs(int);
extern "C" long long llabs(long long);
#define AGR_OVERLOAD(name) static inline float name(float x) { return name##f(x); }
AGR_MATH1(AGR_OVERLOAD)
#undef AGR_OVERLOAD
#define AGR_OVERLOAD(name) static inline float name(float x, float y) { return name##f(x, y); }
AGR_MATH2(AGR_OVERLOAD)
#undef AGR_OVERLOAD
static inline float fma(float a, float b, float c) { return fmaf(a, b, c); }
static inline float abs(float x) { return fabsf(x); }
static inline double abs(double x) { return fabs(x); }
static inline long long abs(long long x) { return llabs(x); }

static inline bool isnan(double x) { return __builtin_isnan(x); }
static inline bool isnan(float x) { return __builtin_isnan(x); }
static inline bool isinf(double x) { return __builtin_isinf(x); }
static inline bool isinf(float x) { return __builtin_isinf(x); }
static inline bool isfinite(double x) { return __builtin_isfinite(x); }
static inline bool isfinite(float x) { return __builtin_isfinite(x); }
static inline bool signbit(float x) { return __builtin_signbit(x); }

static inline float rsqrtf(float x) { return (float)(1.0 / sqrt((double)x)); }
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }
static inline float rsqrt(float x) { return rsqrtf(x); }
static inline void sincosf(float x, float *s, float *c) { *s = sinf(x), *c = cosf(x); }
static inline void sincos(double x, double *s, double *c) { *s = sin(x), *c = cos(x); }
static inline void sincospif(float x, float *s, float *c) {
  *s = (float)sin((double)x * 3.14159265358979323846), *c = (float)cos((double)x * 3.14159265358979323846);
}
static inline float exp10f(float x) { return (float)pow(10.0, (double)x); }
static inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1) : 0; }
static inline float __expf(float x) { return expf(x); }
static inline float __logf(float x) { return logf(x); }
static inline float __log2f(float x) { return log2f(x); }
static inline float __sinf(float x) { return sinf(x); }
static inline float __cosf(float x) { return cosf(x); }
static inline void __sincosf(float x, float *s, float *c) { sincosf(x, s, c); }
static inline float __fdividef(float x, float y) { return x / y; }
static inline float __powf(float x, float y) { return powf(x, y); }

// min and max; of two floats, the one that is not a NaN.
#define AGR_MINMAX(T) \
  static inline T min(T a, T b) { return b < a ? b : a; } \
  static inline T max(T a, T b) { return a < b ? b : a; }
AGR_MINMAX(int)
AGR_MINMAX(unsigned)
AGR_MINMAX(long)
AGR_MINMAX(unsigned long)
AGR_MINMAX(long long)
AGR_MINMAX(unsigned long long)
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }

// One operation, rounded to nearest even.
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline float __frcp_rn(float a) { return 1.0f / a; }
static inline float __frsqrt_rn(float a) { return rsqrtf(a); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline double __dsqrt_rn(double a) { return sqrt(a); }
static inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
#define AGR_CONVERT(name, from, to) static inline to name(from v) { return (to)v; }
AGR_CONVERT(__int2float_rn, int, float)
AGR_CONVERT(__uint2float_rn, unsigned, float)
AGR_CONVERT(__ll2float_rn, long long, float)
AGR_CONVERT(__ull2float_rn, unsigned long long, float)
AGR_CONVERT(__double2float_rn, double, float)
AGR_CONVERT(__int2double_rn, int, double)
AGR_CONVERT(__uint2double_rn, unsigned, double)
AGR_CONVERT(__ll2double_rn, long long, double)
AGR_CONVERT(__ull2double_rn, unsigned long long, double)
AGR_CONVERT(__float2int_rz, float, int)
AGR_CONVERT(__float2uint_rz, float, unsigned)
static inline int __float2int_rn(float v) { return (int)rintf(v); }
static inline int __float2int_rd(float v) { return (int)floorf(v); }

// Bits.
template <class To, class From>
static inline To agr_bits(From v) {
  static_assert(sizeof(To) == sizeof(From), "");
  To r;
  __builtin_memcpy(&r, &v, sizeof r);
  return r;
}
static inline int __float_as_int(float v) { return agr_bits<int>(v); }
static inline unsigned __float_as_uint(float v) { return agr_bits<unsigned>(v); }
static inline float __int_as_float(int v) { return agr_bits<float>(v); }
static inline float __uint_as_float(unsigned v) { return agr_bits<float>(v); }
static inline long long __double_as_longlong(double v) { return agr_bits<long long>(v); }
static inline double __longlong_as_double(long long v) { return agr_bits<double>(v); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }
static inline int __mulhi(int a, int b) { return (int)((long long)a * b >> 32); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)((unsigned __int128)a * b >> 64);
}
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
static inline int __clz(int v) { return v ? __builtin_clz((unsigned)v) : 32; }
static inline int __clzll(long long v) { return v ? __builtin_clzll((unsigned long long)v) : 64; }
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline int __ffsll(long long v) { return __builtin_ffsll(v); }
static inline unsigned __brev(unsigned v) {
  unsigned r = 0;
  for (int i = 0; i < 32; i++) r |= (v >> i & 1u) << (31 - i);
  return r;
}
static inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned n) {
  return (unsigned)(((unsigned long long)hi << 32 | lo) << (n & 31) >> 32);
}
static inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned n) {
  return (unsigned)(((unsigned long long)hi << 32 | lo) >> (n & 31));
}
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned s) {
  unsigned long long all = (unsigned long long)b << 32 | a;
  unsigned r = 0;
  for (int i = 0; i < 4; i++) r |= (unsigned)(all >> ((s >> (4 * i) & 7) * 8) & 0xff) << (8 * i);
  return r;
}

// Memory with hints, fences, and atomic operations: threads take turns here, so the
// plain operation is atomic.
template <class T> static inline T __ldg(const T *p) { return *p; }
template <class T> static inline T __ldcs(const T *p) { return *p; }
template <class T> static inline T __ldcg(const T *p) { return *p; }
template <class T> static inline T __ldca(const T *p) { return *p; }
template <class T> static inline void __stcs(T *p, T v) { *p = v; }
template <class T> static inline void __stcg(T *p, T v) { *p = v; }
static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline void __threadfence_system() {}
static inline void __trap() { agr_rt->trap("__trap"); }
#define AGR_ATOMIC(name, T, expression) \
  static inline T name(T *p, T v) { T old = *p; *p = (T)(expression); return old; }
#define AGR_ATOMICS(T) \
  AGR_ATOMIC(atomicAdd, T, old + v) AGR_ATOMIC(atomicExch, T, v) \
  AGR_ATOMIC(atomicMin, T, v < old ? v : old) AGR_ATOMIC(atomicMax, T, v > old ? v : old) \
  AGR_ATOMIC(atomicAnd, T, old & v) AGR_ATOMIC(atomicOr, T, old | v) AGR_ATOMIC(atomicXor, T, old ^ v) \
  static inline T atomicCAS(T *p, T is, T v) { T old = *p; if (old == is) *p = v; return old; }
AGR_ATOMICS(int)
AGR_ATOMICS(unsigned)
AGR_ATOMICS(unsigned long long)
static inline int atomicSub(int *p, int v) { return atomicAdd(p, -v); }
static inline unsigned atomicSub(unsigned *p, unsigned v) { return atomicAdd(p, 0u - v); }
static inline unsigned atomicInc(unsigned *p, unsigned top) { unsigned old = *p; *p = old >= top ? 0 : old + 1; return old; }
