// A double of cuDNN 9's legacy convolutions: NHWC only, naive sums, and strict.
// A call that the documentation does not allow returns the status that it names;
// algorithms that are not deterministic give other bits each time; workspaces are
// checked and overwritten. AGRDIST_FAKE_CUDNN=none makes the heuristics find nothing;
// with refuse the best algorithm is not run, with refuse-all none is.
#include "library.h"

namespace {

enum Status {
  SUCCESS = 0,
  NOT_INITIALIZED = 1001,
  BAD_PARAM = 2000,
  NULL_POINTER = 2002,
  MISALIGNED_POINTER = 2003,
  NOT_FINALIZED = 2004,
  OUT_OF_BOUND = 2005,
  SIZE_INSUFFICIENT = 2006,
  SHAPE_MISMATCH = 2008,
  NOT_SUPPORTED = 3000,
  NOT_SUPPORTED_SHAPE = 3002,
  NOT_SUPPORTED_DATA_TYPE = 3003,
  NOT_SUPPORTED_LAYOUT = 3004,
  INTERNAL_ERROR = 4000,
  EXECUTION_FAILED = 5000,
};

enum { FLOAT = 0, BFLOAT16 = 9 };
enum { DEFAULT_MATH = 0, TENSOR_OP_MATH = 1, FMA_MATH = 3 };
enum { NHWC = 1 };

thread_local char last[256];

int fail(Status s, const char *why) {
  snprintf(last, sizeof last, "%s", why);
  return s;
}

struct Handle {
  void *stream = nullptr;
};

// Image is a tensor [n,h,w,c] or a filter [k,h,w,c]; n < 0 before it is set.
struct Image {
  int type = FLOAT, n = -1, h = 0, w = 0, c = 0;
  size_t len() const { return size_t(n) * h * w * c; }
  size_t bytes() const { return len() * (type == BFLOAT16 ? 2 : 4); }
};

struct Convolution {
  bool set = false;
  int padH = 0, padW = 0, strideH = 0, strideW = 0, math = DEFAULT_MATH;
};

enum Direction { Forward, Data, Filter };

struct Problem {
  Image x, f, y;
  Convolution c;
  bool tf32() const { return x.type == FLOAT && c.math != FMA_MATH; }
};

int check(const void *handle, const Image *x, const Image *f, const Image *y, const Convolution *c, Problem *out) {
  if (!handle || !x || !f || !y || !c) return fail(NULL_POINTER, "a descriptor is null");
  if (!hasContext()) return fail(NOT_INITIALIZED, "no context is current");
  if (x->n < 0 || f->n < 0 || y->n < 0 || !c->set) return fail(NOT_FINALIZED, "a descriptor was not set");
  if (x->type != f->type || x->type != y->type) return fail(NOT_SUPPORTED_DATA_TYPE, "the data types differ");
  if (c->math == FMA_MATH && x->type != FLOAT) return fail(NOT_SUPPORTED_DATA_TYPE, "FMA math is for FLOAT");
  if (x->c != f->c || y->c != f->n || x->n != y->n) return fail(SHAPE_MISMATCH, "channels or samples do not fit");
  if (y->h != (x->h + 2 * c->padH - f->h) / c->strideH + 1 || y->w != (x->w + 2 * c->padW - f->w) / c->strideW + 1 ||
      x->h + 2 * c->padH < f->h || x->w + 2 * c->padW < f->w)
    return fail(SHAPE_MISMATCH, "the output's size does not fit");
  if (x->type == BFLOAT16 && (x->c % 8 || y->c % 8))
    return fail(NOT_SUPPORTED_SHAPE, "BFLOAT16 in NHWC wants multiples of 8 channels");
  *out = {*x, *f, *y, *c};
  return SUCCESS;
}

// The algorithms' numbers are those of the real enumerations. In each direction
// one is deterministic and affordable, one not deterministic, one too large.
// The algorithm that is offered with AGRDIST_FAKE_CUDNN=refuse, and not run.
const int REFUSED = 5;

bool mode(const char *prefix) {
  const char *m = getenv("AGRDIST_FAKE_CUDNN");
  return m && !strncmp(m, prefix, strlen(prefix));
}

struct Algorithm {
  int id;
  bool deterministic;
  bool large;
};

const std::vector<Algorithm> &algorithms(Direction d) {
  static const std::vector<Algorithm> forward = {{2, true, true}, {0, false, false}, {5, true, false}, {1, true, false}};
  static const std::vector<Algorithm> data = {{0, false, false}, {2, true, true}, {5, true, false}, {1, true, false}};
  static const std::vector<Algorithm> filter = {{3, false, false}, {0, false, false}, {6, true, true}, {5, true, false}, {1, true, false}};
  return d == Forward ? forward : d == Data ? data : filter;
}

const Algorithm *find(Direction d, int id) {
  for (auto &a : algorithms(d))
    if (a.id == id) return &a;
  return nullptr;
}

size_t workspace(const Algorithm &a, const Problem &p) {
  if (a.id == REFUSED) return 0;
  return a.large ? size_t(1) << 40 : size_t(4) * p.y.n * p.y.h * p.y.w + 256;
}

struct Perf {
  unsigned int algo, status;
  float time;
  size_t memory;
  unsigned int determinism, mathType;
  int reserved[3];
};

int rank(Direction d, const Problem &p, int requested, int *returned, Perf *perf) {
  if (!returned || !perf || requested < 1) return fail(BAD_PARAM, "no room for the answer");
  *returned = 0;
  if (mode("none")) return SUCCESS;
  auto add = [&](Perf q) {
    if (*returned < requested) perf[(*returned)++] = q;
  };
  // What fails comes with garbage: nobody may look at it.
  add({7, NOT_SUPPORTED, -1, size_t(-1), 1, FMA_MATH, {}});
  unsigned math = p.x.type == BFLOAT16 || p.tf32() ? TENSOR_OP_MATH : DEFAULT_MATH;
  for (auto &a : algorithms(d))
    if (a.id != REFUSED || mode("refuse")) add({unsigned(a.id), SUCCESS, -1, workspace(a, p), a.deterministic, math, {}});
  return SUCCESS;
}

int measure(Direction d, const Problem &p, int algo, size_t *size) {
  auto a = find(d, algo);
  if (!a || !size) return fail(NOT_SUPPORTED, "no such algorithm");
  *size = workspace(*a, p);
  return SUCCESS;
}

// each calls visit with the indices of x, f and y of every product's first
// channels: x [.. + c], f [k][..][.. + c], y [.. + k].
template <class Visit>
void each(const Problem &p, Visit visit) {
  for (int n = 0; n < p.y.n; n++)
    for (int oy = 0; oy < p.y.h; oy++)
      for (int ox = 0; ox < p.y.w; ox++)
        for (int ky = 0; ky < p.f.h; ky++)
          for (int kx = 0; kx < p.f.w; kx++) {
            int iy = oy * p.c.strideH + ky - p.c.padH, ix = ox * p.c.strideW + kx - p.c.padW;
            if (iy < 0 || iy >= p.x.h || ix < 0 || ix >= p.x.w) continue;
            visit(((size_t(n) * p.x.h + iy) * p.x.w + ix) * p.x.c, (size_t(ky) * p.f.w + kx) * p.f.c,
                  ((size_t(n) * p.y.h + oy) * p.y.w + ox) * p.y.c);
          }
}

std::vector<float> compute(Direction d, const Problem &p, const std::vector<float> &a, const std::vector<float> &b) {
  size_t C = p.f.c, K = p.f.n, filter = size_t(p.f.h) * p.f.w * C;
  std::vector<float> out(d == Forward ? p.y.len() : d == Data ? p.x.len() : p.f.len());
  each(p, [&](size_t x, size_t f, size_t y) {
    for (size_t k = 0; k < K; k++)
      switch (d) {
        case Forward:  // a is x, b the filter
          for (size_t c = 0; c < C; c++) out[y + k] += a[x + c] * b[k * filter + f + c];
          break;
        case Data:  // a is the filter, b is y
          for (size_t c = 0; c < C; c++) out[x + c] += a[k * filter + f + c] * b[y + k];
          break;
        case Filter:  // a is x, b is y
          for (size_t c = 0; c < C; c++) out[k * filter + f + c] += a[x + c] * b[y + k];
      }
  });
  return out;
}

void write(void *p, const std::vector<float> &v, int type, float alpha, float beta, bool deterministic) {
  for (size_t i = 0; i < v.size(); i++) {
    float old = beta == 0 ? 0 : type == BFLOAT16 ? fromBF16(static_cast<uint16_t *>(p)[i]) : static_cast<float *>(p)[i];
    float r = alpha * (deterministic ? v[i] : jitter(v[i])) + (beta == 0 ? 0 : beta * old);
    if (type == BFLOAT16)
      static_cast<uint16_t *>(p)[i] = toBF16(r);
    else
      static_cast<float *>(p)[i] = r;
  }
}

int run(const Handle *h, Direction d, const Problem &p, int algo, const void *a, const Image &ia, const void *b,
        const Image &ib, void *out, const Image &io, const void *alpha, const void *beta, void *ws, size_t size) {
  auto found = find(d, algo);
  if (!found) return fail(NOT_SUPPORTED, "no such algorithm");
  if (algo == REFUSED || mode("refuse-all")) return fail(NOT_SUPPORTED_SHAPE, "refused as told");
  if (!alpha || !beta) return fail(NULL_POINTER, "alpha or beta is null");
  if (!alignedTo(a, 16) || !alignedTo(b, 16) || !alignedTo(out, 16))
    return fail(MISALIGNED_POINTER, "an operand is not aligned to 16 bytes");
  if (!onDevice(a, ia.bytes()) || !onDevice(b, ib.bytes()) || !onDevice(out, io.bytes()))
    return fail(OUT_OF_BOUND, "an operand is not within memory of the device");
  size_t want = workspace(*found, p);
  if (size < want) return fail(SIZE_INSUFFICIENT, "the workspace is too small");
  if (!alignedTo(ws, 256) || !onDevice(ws, want)) return fail(BAD_PARAM, "the workspace is not memory of the device");
  struct {
    const void *p;
    size_t n;
  } all[] = {{out, io.bytes()}, {ws, want}, {a, ia.bytes()}, {b, ib.bytes()}};
  for (int i = 0; i < 2; i++)
    for (int j = i + 1; j < 4; j++)
      if (overlap(all[i].p, all[i].n, all[j].p, all[j].n)) return fail(BAD_PARAM, "operands overlap");
  float fa = *static_cast<const float *>(alpha), fb = *static_cast<const float *>(beta);
  bool deterministic = found->deterministic, bf16 = p.x.type == BFLOAT16, tf32 = p.tf32();
  bool ok = enqueue(h->stream, "cudnn", [=] {
    if (!onDevice(a, ia.bytes()) || !onDevice(b, ib.bytes()) || !onDevice(out, io.bytes()) || !onDevice(ws, want))
      return 700;  // freed since
    auto result = compute(d, p, operand(a, ia.len(), bf16, tf32), operand(b, ib.len(), bf16, tf32));
    scribble(ws, want);
    write(out, result, io.type, fa, fb, deterministic);
    return 0;
  });
  return ok ? SUCCESS : fail(EXECUTION_FAILED, "the stream took no work");
}

}  // namespace

extern "C" {

size_t cudnnGetVersion() { return 92800; }

const char *cudnnGetErrorString(unsigned s) {
  switch (s) {
    case SUCCESS: return "CUDNN_STATUS_SUCCESS";
    case NOT_INITIALIZED: return "CUDNN_STATUS_NOT_INITIALIZED";
    case BAD_PARAM: return "CUDNN_STATUS_BAD_PARAM";
    case NULL_POINTER: return "CUDNN_STATUS_BAD_PARAM_NULL_POINTER";
    case MISALIGNED_POINTER: return "CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER";
    case NOT_FINALIZED: return "CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED";
    case OUT_OF_BOUND: return "CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND";
    case SIZE_INSUFFICIENT: return "CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT";
    case SHAPE_MISMATCH: return "CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH";
    case NOT_SUPPORTED: return "CUDNN_STATUS_NOT_SUPPORTED";
    case NOT_SUPPORTED_SHAPE: return "CUDNN_STATUS_NOT_SUPPORTED_SHAPE";
    case NOT_SUPPORTED_DATA_TYPE: return "CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE";
    case NOT_SUPPORTED_LAYOUT: return "CUDNN_STATUS_NOT_SUPPORTED_LAYOUT";
    case EXECUTION_FAILED: return "CUDNN_STATUS_EXECUTION_FAILED";
    default: return "CUDNN_STATUS_INTERNAL_ERROR";
  }
}

void cudnnGetLastErrorString(char *text, size_t size) {
  if (size) snprintf(text, size, "%s", last);
}

int cudnnCreate(Handle **h) {
  if (!hasContext()) return fail(NOT_INITIALIZED, "no context is current");
  *h = new Handle;
  return SUCCESS;
}
int cudnnDestroy(Handle *h) {
  if (!hasContext()) return fail(NOT_INITIALIZED, "no context is current");
  delete h;
  return SUCCESS;
}
int cudnnSetStream(Handle *h, void *stream) {
  if (!h) return fail(NULL_POINTER, "the handle is null");
  h->stream = stream;
  return SUCCESS;
}

int cudnnCreateTensorDescriptor(Image **d) { return *d = new Image, SUCCESS; }
int cudnnDestroyTensorDescriptor(Image *d) { return delete d, SUCCESS; }
int cudnnCreateFilterDescriptor(Image **d) { return *d = new Image, SUCCESS; }
int cudnnDestroyFilterDescriptor(Image *d) { return delete d, SUCCESS; }
int cudnnCreateConvolutionDescriptor(Convolution **d) { return *d = new Convolution, SUCCESS; }
int cudnnDestroyConvolutionDescriptor(Convolution *d) { return delete d, SUCCESS; }

int cudnnSetTensor4dDescriptor(Image *d, int format, int type, int n, int c, int h, int w) {
  if (!d) return fail(NULL_POINTER, "the descriptor is null");
  if (format != NHWC) return fail(NOT_SUPPORTED_LAYOUT, "the double knows NHWC only");
  if (type != FLOAT && type != BFLOAT16) return fail(NOT_SUPPORTED_DATA_TYPE, "the double knows FLOAT and BFLOAT16");
  if (n < 1 || c < 1 || h < 1 || w < 1) return fail(BAD_PARAM, "a dimension is not positive");
  *d = Image{type, n, h, w, c};
  return SUCCESS;
}
int cudnnSetFilter4dDescriptor(Image *d, int type, int format, int k, int c, int h, int w) {
  return cudnnSetTensor4dDescriptor(d, format, type, k, c, h, w);
}
int cudnnSetConvolution2dDescriptor(Convolution *d, int padH, int padW, int u, int v, int dilationH, int dilationW,
                                    int mode, int type) {
  if (!d) return fail(NULL_POINTER, "the descriptor is null");
  if (padH < 0 || padW < 0 || u < 1 || v < 1) return fail(BAD_PARAM, "a padding or a stride is too small");
  if (dilationH != 1 || dilationW != 1 || mode != 1 || type != FLOAT)
    return fail(NOT_SUPPORTED, "the double knows undilated cross-correlations with FLOAT sums");
  *d = Convolution{true, padH, padW, u, v, d->math};
  return SUCCESS;
}
int cudnnSetConvolutionMathType(Convolution *d, int math) {
  if (!d) return fail(NULL_POINTER, "the descriptor is null");
  if (math < 0 || math > 3) return fail(BAD_PARAM, "no such math type");
  d->math = math;
  return SUCCESS;
}

#define CHECKED(x, f, y) \
  Problem p;             \
  if (int s = check(h, x, f, y, c, &p)) return s;

int cudnnGetConvolutionForwardAlgorithm_v7(Handle *h, Image *x, Image *f, Convolution *c, Image *y, int requested,
                                           int *returned, Perf *perf) {
  CHECKED(x, f, y)
  return rank(Forward, p, requested, returned, perf);
}
int cudnnGetConvolutionBackwardDataAlgorithm_v7(Handle *h, Image *f, Image *y, Convolution *c, Image *x, int requested,
                                                int *returned, Perf *perf) {
  CHECKED(x, f, y)
  return rank(Data, p, requested, returned, perf);
}
int cudnnGetConvolutionBackwardFilterAlgorithm_v7(Handle *h, Image *x, Image *y, Convolution *c, Image *f,
                                                  int requested, int *returned, Perf *perf) {
  CHECKED(x, f, y)
  return rank(Filter, p, requested, returned, perf);
}

int cudnnGetConvolutionForwardWorkspaceSize(Handle *h, Image *x, Image *f, Convolution *c, Image *y, int algo,
                                            size_t *size) {
  CHECKED(x, f, y)
  return measure(Forward, p, algo, size);
}
int cudnnGetConvolutionBackwardDataWorkspaceSize(Handle *h, Image *f, Image *y, Convolution *c, Image *x, int algo,
                                                 size_t *size) {
  CHECKED(x, f, y)
  return measure(Data, p, algo, size);
}
int cudnnGetConvolutionBackwardFilterWorkspaceSize(Handle *h, Image *x, Image *y, Convolution *c, Image *f, int algo,
                                                   size_t *size) {
  CHECKED(x, f, y)
  return measure(Filter, p, algo, size);
}

int cudnnConvolutionForward(Handle *h, const void *alpha, Image *x, const void *px, Image *f, const void *pf,
                            Convolution *c, int algo, void *ws, size_t size, const void *beta, Image *y, void *py) {
  CHECKED(x, f, y)
  return run(h, Forward, p, algo, px, p.x, pf, p.f, py, p.y, alpha, beta, ws, size);
}
int cudnnConvolutionBackwardData(Handle *h, const void *alpha, Image *f, const void *pf, Image *y, const void *py,
                                 Convolution *c, int algo, void *ws, size_t size, const void *beta, Image *x,
                                 void *px) {
  CHECKED(x, f, y)
  return run(h, Data, p, algo, pf, p.f, py, p.y, px, p.x, alpha, beta, ws, size);
}
int cudnnConvolutionBackwardFilter(Handle *h, const void *alpha, Image *x, const void *px, Image *y, const void *py,
                                   Convolution *c, int algo, void *ws, size_t size, const void *beta, Image *f,
                                   void *pf) {
  CHECKED(x, f, y)
  return run(h, Filter, p, algo, px, p.x, py, p.y, pf, p.f, alpha, beta, ws, size);
}

}  // extern "C"
