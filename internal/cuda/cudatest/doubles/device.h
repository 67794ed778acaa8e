// The double of libcuda: devices that work off streams on a thread of their own.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "fakecuda.h"
#include "simt_run.h"

enum : CUresult {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NOT_INITIALIZED = 3,
  NO_DEVICE = 100,
  INVALID_DEVICE = 101,
  INVALID_IMAGE = 200,
  INVALID_CONTEXT = 201,
  NO_BINARY_FOR_GPU = 209,
  INVALID_HANDLE = 400,
  ILLEGAL_STATE = 401,
  NOT_FOUND = 500,
  NOT_READY = 600,
  ILLEGAL_ADDRESS = 700,
  PEER_ACCESS_ALREADY_ENABLED = 704,
  PEER_ACCESS_NOT_ENABLED = 705,
  LAUNCH_FAILED = 719,
  NOT_SUPPORTED = 801,
  CAPTURE_UNSUPPORTED = 900,
  CAPTURE_INVALIDATED = 901,
  CAPTURE_MERGE = 902,
  CAPTURE_UNMATCHED = 903,
  CAPTURE_UNJOINED = 904,
  CAPTURE_ISOLATION = 905,
  CAPTURE_IMPLICIT = 906,
  CAPTURED_EVENT = 907,
  CAPTURE_WRONG_THREAD = 908,
};

struct Device;

// What fakecuCalls counts.
enum Kind { ORDER, KERNEL, GRAPH, COPY, LIBRARY, WAIT, kinds };

// Work is what a stream holds and a graph repeats.
struct Work {
  const char *name;
  std::function<CUresult(Device &)> run;  // empty: only an order, as of an event
  Kind kind = ORDER;
};

// tally counts a call of the host's.
void tally(Kind kind);

struct Op {
  Work work;
  std::vector<std::shared_ptr<Op>> after;
  bool done = false;
  double when = 0;  // seconds, when it was done
};
using OpRef = std::shared_ptr<Op>;

struct Node {
  Work work;
  std::vector<int> after;
};

struct fakeGraph {
  std::vector<Node> nodes;
};

// Capture is one recording; the streams that take part share it.
struct Capture {
  fakeGraph *graph;
  int mode;
  CUresult invalid = 0;  // what broke it
  fakeStream *origin;
  unsigned long thread;
  std::vector<fakeStream *> streams;
};

struct fakeStream {
  Device *device;
  bool blocking;  // ordered with the legacy default stream
  int priority = 0;
  std::deque<OpRef> queue;
  OpRef last;
  std::shared_ptr<Capture> capture;
  std::vector<int> tails;  // nodes that the next one comes after
};

struct fakeEvent {
  Device *device;
  bool timing;
  OpRef op;
  std::shared_ptr<Capture> capture;
  std::vector<int> tails;
};

// Device is one GPU and its primary context. Its thread runs the heads of its streams
// in a random order, and at random soon or late: late is when the host waits, or
// after a while, so that work which nobody waits for is seen not to be done yet.
struct Device {
  int id = 0;
  std::string name;
  size_t memory = 0, used = 0;  // used: under the lock of memory.cc
  int retained = 0;
  unsigned flags = 0;
  std::vector<bool> peers;

  std::mutex mu;
  std::condition_variable wake, finished;
  std::vector<fakeStream *> streams;  // streams[0] is the legacy default stream
  std::vector<std::shared_ptr<Capture>> captures;
  size_t pending = 0, hurry = 0, waiters = 0;
  CUresult broken = 0;  // sticky, as after a failed kernel
  Random random;
  bool started = false;

  void start();  // under mu
  void loop();
  OpRef put(fakeStream *s, Work work);  // under mu
  CUresult wait(const OpRef &op);
  CUresult waitAll();
  std::vector<fakeStream *> runnable();
};

extern std::vector<Device *> devices;  // as CUDA_VISIBLE_DEVICES shows them
extern thread_local Device *currentDevice;

extern bool initialised;  // cuInit was called

// idle says that the devices compute nothing (AGRDIST_FAKE_COMPUTE=none): calls are
// checked, ordered and counted, and only copies from and to the host are done.
bool idle();

// deviceOf finds a device by its ordinal.
CUresult deviceOf(int dev, Device **d);

// enter is what nearly every call does first: the current device in *d, or an error.
CUresult enter(Device **d);

// streamOf checks a stream's handle and resolves the default one.
CUresult streamOf(CUstream handle, Device *d, fakeStream **s);

// submit puts work on a stream or into its capture. d->mu is not held.
CUresult submit(CUstream handle, Work work, OpRef *op = nullptr);

// forbidden refuses a call that must not be made while a capture is under way, and
// breaks the capture.
CUresult forbidden(Device *d);

// complain writes a line to stderr and returns code.
CUresult complain(CUresult code, const char *format, ...) __attribute__((format(printf, 2, 3)));

double now();

#define API extern "C" __attribute__((visibility("default"))) CUresult
#define TRY(expression)                    \
  do {                                     \
    if (CUresult code_ = (expression)) return code_; \
  } while (0)
