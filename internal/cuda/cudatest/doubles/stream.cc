// Streams and events, and how work gets onto a stream or into its recording.
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <set>

#include "device.h"

static std::atomic<unsigned long> tallies[kinds];

void tally(Kind kind) { tallies[kind]++; }

extern "C" __attribute__((visibility("default"))) void fakecuCalls(unsigned long *counts) {
  for (int i = 0; i < kinds; i++) counts[i] = tallies[i];
}

static std::mutex handlesMu;
static std::set<const void *> handles;  // live streams, events

static void addHandle(const void *p) {
  std::lock_guard<std::mutex> lock(handlesMu);
  handles.insert(p);
}
static bool live(const void *p) {
  std::lock_guard<std::mutex> lock(handlesMu);
  return handles.count(p) > 0;
}
static bool dropHandle(const void *p) {
  std::lock_guard<std::mutex> lock(handlesMu);
  return handles.erase(p) > 0;
}

CUresult streamOf(CUstream handle, Device *d, fakeStream **s) {
  if (handle == nullptr || handle == (CUstream)1) {
    *s = d->streams[0];
    return SUCCESS;
  }
  if (!live(handle)) return complain(INVALID_HANDLE, "a stream's handle is not one, or was destroyed");
  *s = handle;
  return SUCCESS;
}

// legacyDuringCapture: work of the legacy stream would have to wait for the blocking
// streams, of which one records.
static CUresult legacyDuringCapture(Device *d) {
  for (fakeStream *s : d->streams)
    if (s->capture && s->blocking) {
      s->capture->invalid = CAPTURE_INVALIDATED;
      return CAPTURE_IMPLICIT;
    }
  return SUCCESS;
}

static int addNode(fakeStream *s, Work work) {
  Capture &c = *s->capture;
  c.graph->nodes.push_back({std::move(work), s->tails});
  s->tails = {(int)c.graph->nodes.size() - 1};
  return s->tails[0];
}

CUresult submit(CUstream handle, Work work, OpRef *op) {
  Device *d;
  TRY(enter(&d));
  fakeStream *s = nullptr;
  TRY(streamOf(handle, d, &s));
  d = s->device;
  std::lock_guard<std::mutex> lock(d->mu);
  if (d->broken) return d->broken;
  if (s->capture) {
    if (s->capture->invalid) return CAPTURE_INVALIDATED;
    addNode(s, std::move(work));
    if (op) op->reset();
    return SUCCESS;
  }
  if (s == d->streams[0]) TRY(legacyDuringCapture(d));
  tally(work.kind);
  OpRef o = d->put(s, std::move(work));
  if (op) *op = o;
  return SUCCESS;
}

CUresult forbidden(Device *d) {
  std::lock_guard<std::mutex> lock(d->mu);
  for (const auto &c : d->captures) {
    bool unsafe = c->mode == 0 || (c->mode == 1 && c->thread == (unsigned long)pthread_self());
    if (!unsafe) continue;
    c->invalid = CAPTURE_INVALIDATED;
    return complain(CAPTURE_UNSUPPORTED, "a call that waits or allocates, during a capture");
  }
  return SUCCESS;
}

extern "C" __attribute__((visibility("default"))) CUresult fakecuEnqueue(CUstream stream, const char *name,
                                                                         CUresult (*run)(void *), void *arg,
                                                                         void (*drop)(void *)) {
  std::shared_ptr<void> keep(arg, [drop](void *p) {
    if (drop) drop(p);
  });
  return submit(stream, {name, [run, keep](Device &) { return run(keep.get()); }, LIBRARY});
}

extern "C" __attribute__((visibility("default"))) int fakecuStreamDevice(CUstream stream) {
  if (stream == nullptr || stream == (CUstream)1) return currentDevice ? currentDevice->id : -1;
  return live(stream) ? stream->device->id : -1;
}

// --- streams

API cuStreamCreateWithPriority(CUstream *out, unsigned flags, int priority) {
  Device *d;
  TRY(enter(&d));
  if (flags > 1) return INVALID_VALUE;
  fakeStream *s = new fakeStream{d, flags == 0};
  s->priority = std::max(-5, std::min(0, priority));
  addHandle(s);
  std::lock_guard<std::mutex> lock(d->mu);
  d->streams.push_back(s);
  *out = s;
  return SUCCESS;
}

API cuStreamCreate(CUstream *out, unsigned flags) { return cuStreamCreateWithPriority(out, flags, 0); }

API cuStreamDestroy_v2(CUstream s) {
  Device *d;
  TRY(enter(&d));
  // The work on it is still done; the object stays for that.
  return s && dropHandle(s) ? SUCCESS : INVALID_HANDLE;
}

API cuStreamGetPriority(CUstream handle, int *priority) {
  Device *d;
  TRY(enter(&d));
  fakeStream *s = nullptr;
  TRY(streamOf(handle, d, &s));
  *priority = s->priority;
  return SUCCESS;
}

API cuStreamGetFlags(CUstream handle, unsigned *flags) {
  Device *d;
  TRY(enter(&d));
  fakeStream *s = nullptr;
  TRY(streamOf(handle, d, &s));
  *flags = !s->blocking;
  return SUCCESS;
}

static CUresult lastOf(CUstream handle, OpRef *op, Device **of) {
  Device *d;
  TRY(enter(&d));
  fakeStream *s = nullptr;
  TRY(streamOf(handle, d, &s));
  *of = s->device;
  std::lock_guard<std::mutex> lock(s->device->mu);
  if (s->capture) {
    s->capture->invalid = CAPTURE_INVALIDATED;
    return CAPTURE_UNSUPPORTED;
  }
  *op = s->last;
  return SUCCESS;
}

API cuStreamSynchronize(CUstream handle) {
  OpRef op;
  Device *d;
  TRY(lastOf(handle, &op, &d));
  if (handle == nullptr || handle == (CUstream)1) {  // waits for the blocking streams too
    Work order{"synchronize", nullptr};
    TRY(submit(handle, order, &op));
  }
  return d->wait(op);
}

static CUresult query(Device *d, const OpRef &op) {
  std::lock_guard<std::mutex> lock(d->mu);
  if (d->broken) return d->broken;
  return op && !op->done ? NOT_READY : SUCCESS;
}

API cuStreamQuery(CUstream handle) {
  OpRef op;
  Device *d;
  TRY(lastOf(handle, &op, &d));
  return query(d, op);
}

// --- events

API cuEventCreate(fakeEvent **out, unsigned flags) {
  Device *d;
  TRY(enter(&d));
  fakeEvent *e = new fakeEvent{d, !(flags & 2)};
  addHandle(e);
  *out = e;
  return SUCCESS;
}

API cuEventDestroy_v2(fakeEvent *e) {
  Device *d;
  TRY(enter(&d));
  if (!dropHandle(e)) return INVALID_HANDLE;
  delete e;
  return SUCCESS;
}

API cuEventRecord(fakeEvent *e, CUstream handle) {
  Device *d;
  TRY(enter(&d));
  if (!live(e)) return INVALID_HANDLE;
  fakeStream *s = nullptr;
  TRY(streamOf(handle, d, &s));
  if (s->device != e->device) return INVALID_HANDLE;
  {
    std::lock_guard<std::mutex> lock(s->device->mu);
    if (s->capture) {
      e->capture = s->capture;
      e->tails = s->tails;
      return SUCCESS;
    }
  }
  OpRef op;
  TRY(submit(handle, {"event", nullptr}, &op));
  e->capture.reset();
  e->op = op;
  return SUCCESS;
}

static CUresult recorded(fakeEvent *e) {
  Device *d;
  TRY(enter(&d));
  if (!live(e)) return INVALID_HANDLE;
  if (e->capture) {
    e->capture->invalid = CAPTURE_INVALIDATED;
    return CAPTURED_EVENT;
  }
  return SUCCESS;
}

API cuEventQuery(fakeEvent *e) {
  TRY(recorded(e));
  return query(e->device, e->op);
}

API cuEventSynchronize(fakeEvent *e) {
  TRY(recorded(e));
  return e->device->wait(e->op);
}

API cuEventElapsedTime(float *ms, fakeEvent *a, fakeEvent *b) {
  TRY(recorded(a));
  TRY(recorded(b));
  if (!a->timing || !b->timing || !a->op || !b->op) return INVALID_HANDLE;
  TRY(query(a->device, a->op));
  TRY(query(b->device, b->op));
  *ms = (float)((b->op->when - a->op->when) * 1e3);
  return SUCCESS;
}

// waitCaptured: s joins the recording that e belongs to, if it is not in it already.
static CUresult waitCaptured(fakeStream *s, fakeEvent *e) {
  std::lock_guard<std::mutex> lock(s->device->mu);
  if (s->capture && s->capture != e->capture) {
    s->capture->invalid = e->capture->invalid = CAPTURE_INVALIDATED;
    return CAPTURE_MERGE;
  }
  if (!s->capture) {
    if (s == s->device->streams[0]) return CAPTURE_IMPLICIT;
    s->capture = e->capture;
    s->tails.clear();
    e->capture->streams.push_back(s);
  }
  for (int n : e->tails)
    if (std::find(s->tails.begin(), s->tails.end(), n) == s->tails.end()) s->tails.push_back(n);
  return SUCCESS;
}

API cuStreamWaitEvent(CUstream handle, fakeEvent *e, unsigned) {
  Device *d;
  TRY(enter(&d));
  if (!live(e)) return INVALID_HANDLE;
  fakeStream *s = nullptr;
  TRY(streamOf(handle, d, &s));
  if (e->capture) return waitCaptured(s, e);
  {
    std::lock_guard<std::mutex> lock(s->device->mu);
    if (s->capture) {
      s->capture->invalid = CAPTURE_INVALIDATED;
      return CAPTURE_ISOLATION;
    }
  }
  if (!e->op) return SUCCESS;  // never recorded
  if (e->device != s->device) return e->device->wait(e->op);
  OpRef op = e->op;
  std::lock_guard<std::mutex> lock(s->device->mu);
  OpRef order = s->device->put(s, {"wait", nullptr});
  if (!op->done) order->after.push_back(op);
  return SUCCESS;
}
