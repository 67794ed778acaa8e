// A double of cuBLASLt's matrix products: naive sums, and strict. The heuristic
// offers what the preferences allow, the fastest first: sums split in place, whose
// bits change from call to call, where the reduction mask lets them in.
#include "library.h"

namespace {

enum Status { SUCCESS = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum { R_32F = 0, R_16BF = 14 };
enum { COMPUTE_32F = 68, COMPUTE_32F_FAST_TF32 = 77 };
enum { INPLACE = 1, COMPUTE_TYPE = 2 };

struct Handle {};

struct Desc {
  int compute, transA = 0, transB = 0;
};

struct Layout {
  int type;
  uint64_t rows, cols;
  int64_t ld;
  int32_t batch = 1;
  int64_t stride = 0;
  size_t element() const { return type == R_16BF ? 2 : 4; }
  size_t last() const { return (batch - 1) * stride + (cols - 1) * ld + rows; }  // elements spanned
};

struct Preference {
  uint64_t workspace = 0;
  uint32_t mask = 7, align[4] = {256, 256, 256, 256};
};

// Algo is what the real library keeps in 64 opaque bytes.
struct Algo {
  uint64_t mark, key, workspace;
  uint32_t scheme, align[4];
  uint32_t unused[5];
};
static_assert(sizeof(Algo) == 64, "cublasLtMatmulAlgo_t");
constexpr uint64_t mark = 0x616c676f616c676f;

struct Result {
  Algo algo;
  size_t workspace;
  unsigned int state;
  float waves;
  int reserved[4];
};
static_assert(sizeof(Result) == 96, "cublasLtMatmulHeuristicResult_t");

bool shapes(const Desc *d, const Layout *a, const Layout *b, const Layout *c, const Layout *o) {
  uint64_t m = d->transA ? a->cols : a->rows, k = d->transA ? a->rows : a->cols;
  uint64_t kb = d->transB ? b->cols : b->rows, n = d->transB ? b->rows : b->cols;
  for (auto l : {a, b, c, o})
    if (!l->rows || !l->cols || l->ld < int64_t(l->rows) || l->batch != a->batch || l->batch < 1 ||
        (l->batch > 1 && l->stride < int64_t(l->rows * l->cols)))
      return false;
  return k == kb && c->rows == m && c->cols == n && o->rows == m && o->cols == n;
}

// types says whether the documentation has the combination.
bool types(const Desc *d, const Layout *a, const Layout *b, const Layout *c, const Layout *o) {
  if (a->type != b->type || c->type != o->type) return false;
  if (a->type == R_32F) return c->type == R_32F;
  return d->compute == COMPUTE_32F;  // BF16 to BF16 or FP32
}

// key tells one problem from another: an algorithm is for its own.
uint64_t key(const Desc *d, const Layout *a, const Layout *b, const Layout *c) {
  uint64_t h = 14695981039346656037u;
  auto add = [&](uint64_t v) { h = (h ^ v) * 1099511628211u; };
  add(d->compute), add(d->transA), add(d->transB);
  for (auto l : {a, b, c}) add(l->type), add(l->rows), add(l->cols), add(l->ld), add(l->batch), add(l->stride);
  return h;
}

template <class T>
int set(T *to, const void *from, size_t size) {
  if (!from || size != sizeof *to) return INVALID_VALUE;
  memcpy(to, from, size);
  return SUCCESS;
}

struct Product {
  Desc d;
  Layout a, b, c;
  bool deterministic;
  float alpha, beta;
};

void multiply(const Product &p, const void *A, const void *B, void *C) {
  bool bf16 = p.a.type == R_16BF, tf32 = p.d.compute == COMPUTE_32F_FAST_TF32;
  auto a = operand(A, p.a.last(), bf16, tf32), b = operand(B, p.b.last(), bf16, tf32);
  uint64_t depth = p.d.transA ? p.a.rows : p.a.cols;
  int64_t ai = p.d.transA ? p.a.ld : 1, ak = p.d.transA ? 1 : p.a.ld;
  int64_t bj = p.d.transB ? 1 : p.b.ld, bk = p.d.transB ? p.b.ld : 1;
  for (int32_t s = 0; s < p.c.batch; s++)
    for (uint64_t j = 0; j < p.c.cols; j++)
      for (uint64_t i = 0; i < p.c.rows; i++) {
        const float *x = &a[s * p.a.stride + i * ai], *y = &b[s * p.b.stride + j * bj];
        float sum = 0;
        for (uint64_t k = 0; k < depth; k++) sum += x[k * ak] * y[k * bk];
        if (!p.deterministic) sum = jitter(sum);
        auto at = s * p.c.stride + j * p.c.ld + i;
        float *wide = static_cast<float *>(C) + at;
        uint16_t *narrow = static_cast<uint16_t *>(C) + at;
        bool half = p.c.type == R_16BF;
        sum *= p.alpha;
        if (p.beta != 0) sum += p.beta * (half ? fromBF16(*narrow) : *wide);
        if (half)
          *narrow = toBF16(sum);
        else
          *wide = sum;
      }
}

}  // namespace

extern "C" {

size_t cublasLtGetVersion() { return 120903; }

const char *cublasLtGetStatusName(unsigned s) {
  switch (s) {
    case SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    default: return "CUBLAS_STATUS_INTERNAL_ERROR";
  }
}
const char *cublasLtGetStatusString(unsigned s) {
  switch (s) {
    case SUCCESS: return "success";
    case NOT_INITIALIZED: return "the library was not initialized";
    case INVALID_VALUE: return "an unsupported value or parameter was passed to the function";
    case EXECUTION_FAILED: return "the function failed to launch on the GPU";
    case NOT_SUPPORTED: return "the requested functionality is not supported";
    default: return "an internal operation failed";
  }
}

int cublasLtCreate(Handle **h) {
  if (!hasContext()) return NOT_INITIALIZED;
  *h = new Handle;
  return SUCCESS;
}
int cublasLtDestroy(Handle *h) { return delete h, SUCCESS; }

int cublasLtMatmulDescCreate(Desc **d, int compute, int scale) {
  if (!d || scale != R_32F || (compute != COMPUTE_32F && compute != COMPUTE_32F_FAST_TF32)) return INVALID_VALUE;
  *d = new Desc{compute};
  return SUCCESS;
}
int cublasLtMatmulDescDestroy(Desc *d) { return delete d, SUCCESS; }
int cublasLtMatmulDescSetAttribute(Desc *d, int attribute, const void *v, size_t size) {
  int32_t op = -1;
  if (!d || set(&op, v, size) || (op != 0 && op != 1)) return INVALID_VALUE;
  if (attribute != 3 && attribute != 4) return NOT_SUPPORTED;
  (attribute == 3 ? d->transA : d->transB) = op;
  return SUCCESS;
}

int cublasLtMatrixLayoutCreate(Layout **l, int type, uint64_t rows, uint64_t cols, int64_t ld) {
  if (!l || (type != R_32F && type != R_16BF)) return INVALID_VALUE;
  *l = new Layout{type, rows, cols, ld};
  return SUCCESS;
}
int cublasLtMatrixLayoutDestroy(Layout *l) { return delete l, SUCCESS; }
int cublasLtMatrixLayoutSetAttribute(Layout *l, int attribute, const void *v, size_t size) {
  if (!l) return INVALID_VALUE;
  if (attribute == 5) return set(&l->batch, v, size);
  if (attribute == 6) return set(&l->stride, v, size);
  return NOT_SUPPORTED;
}

int cublasLtMatmulPreferenceCreate(Preference **p) { return *p = new Preference, SUCCESS; }
int cublasLtMatmulPreferenceDestroy(Preference *p) { return delete p, SUCCESS; }
int cublasLtMatmulPreferenceSetAttribute(Preference *p, int attribute, const void *v, size_t size) {
  if (!p) return INVALID_VALUE;
  if (attribute == 1) return set(&p->workspace, v, size);
  if (attribute == 3) return set(&p->mask, v, size);
  if (attribute >= 5 && attribute <= 8) return set(&p->align[attribute - 5], v, size);
  return NOT_SUPPORTED;
}

int cublasLtMatmulAlgoGetHeuristic(Handle *h, Desc *d, Layout *a, Layout *b, Layout *c, Layout *o, Preference *p,
                                   int requested, Result *results, int *returned) {
  if (!h || !d || !a || !b || !c || !o || !p || !results || !returned || requested < 1) return INVALID_VALUE;
  *returned = 0;
  if (!shapes(d, a, b, c, o)) return INVALID_VALUE;
  if (!types(d, a, b, c, o)) return NOT_SUPPORTED;
  auto add = [&](uint32_t scheme, uint64_t workspace) {
    if (*returned >= requested || (scheme & ~p->mask) || workspace > p->workspace) return;
    Result r = {};
    r.algo = {mark, key(d, a, b, c), workspace, scheme, {}, {}};
    // Wide loads where the pointers will allow them.
    for (int i = 0; i < 4; i++) r.algo.align[i] = p->align[i] < 16 ? p->align[i] : 16;
    r.workspace = workspace;
    // On request the best algorithm is one that the library then says it cannot run.
    const char *refuse = getenv("AGRDIST_FAKE_CUBLASLT");
    if (*returned == 0 && refuse && !strcmp(refuse, "refuse")) r.state = NOT_SUPPORTED;
    results[(*returned)++] = r;
  };
  add(INPLACE, 1024);
  add(COMPUTE_TYPE, c->rows * c->cols * c->batch * 4);
  add(0, 0);
  return *returned ? SUCCESS : NOT_SUPPORTED;
}

int cublasLtMatmul(Handle *h, Desc *d, const void *alpha, const void *A, Layout *a, const void *B, Layout *b,
                   const void *beta, const void *C, Layout *c, void *D, Layout *o, const Algo *algo, void *ws,
                   size_t size, void *stream) {
  if (!h || !d || !alpha || !beta || !a || !b || !c || !o || !algo) return INVALID_VALUE;
  if (!hasContext()) return NOT_INITIALIZED;
  if (!shapes(d, a, b, c, o)) return INVALID_VALUE;
  if (!types(d, a, b, c, o)) return NOT_SUPPORTED;
  if (algo->mark != mark || algo->key != key(d, a, b, c)) return INVALID_VALUE;  // another problem's
  if (C != D || c->ld != o->ld) return NOT_SUPPORTED;  // the double works in place
  const void *pointers[] = {A, B, C, D};
  const Layout *layouts[] = {a, b, c, o};
  for (int i = 0; i < 4; i++) {
    if (!alignedTo(pointers[i], algo->align[i]) || !alignedTo(pointers[i], layouts[i]->element())) return INVALID_VALUE;
    if (!onDevice(pointers[i], layouts[i]->last() * layouts[i]->element())) return EXECUTION_FAILED;
  }
  size_t sizes[] = {a->last() * a->element(), b->last() * b->element(), o->last() * o->element()};
  if (overlap(A, sizes[0], D, sizes[2]) || overlap(B, sizes[1], D, sizes[2])) return INVALID_VALUE;
  uint64_t want = algo->workspace;
  if (size < want) return INVALID_VALUE;
  if (want && (!alignedTo(ws, 256) || !onDevice(ws, want) || overlap(ws, want, D, sizes[2]) ||
               overlap(ws, want, A, sizes[0]) || overlap(ws, want, B, sizes[1])))
    return INVALID_VALUE;
  Product p = {*d, *a, *b, *c, algo->scheme != INPLACE, *static_cast<const float *>(alpha),
               *static_cast<const float *>(beta)};
  bool ok = enqueue(stream, "cublaslt", [=] {
    if (!onDevice(A, sizes[0]) || !onDevice(B, sizes[1]) || !onDevice(D, sizes[2]) || (want && !onDevice(ws, want)))
      return 700;  // freed since
    if (want) scribble(ws, want);
    multiply(p, A, B, D);
    return 0;
  });
  return ok ? SUCCESS : EXECUTION_FAILED;
}

}  // extern "C"
