// Devices and the thread of each.
#include "device.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <thread>

std::vector<Device *> devices;
thread_local Device *currentDevice;
bool initialised;

CUresult complain(CUresult code, const char *format, ...) {
  char line[512];
  va_list args;
  va_start(args, format);
  vsnprintf(line, sizeof line, format, args);
  va_end(args);
  fprintf(stderr, "libcuda double: %s\n", line);
  return code;
}

double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static long setting(const char *name, long otherwise) {
  const char *v = getenv(name);
  return v && *v ? atol(v) : otherwise;
}

bool idle() {
  static const bool v = [] {
    const char *s = getenv("AGRDIST_FAKE_COMPUTE");
    return s && !strcmp(s, "none");
  }();
  return v;
}

// skipped tells whether idle devices leave the work undone.
static bool skipped(const Work &w) { return idle() && (w.kind == KERNEL || w.kind == GRAPH || w.kind == LIBRARY); }

static void addDevice(int physical, long memory) {
  Device *d = new Device;
  d->id = (int)devices.size();
  d->name = "Double " + std::to_string(physical);
  d->memory = (size_t)memory;
  d->peers.resize(64);
  d->random.state = (unsigned long long)setting("AGRDIST_FAKE_SEED", 1) * 977 + (unsigned long long)physical + 1;
  d->streams.push_back(new fakeStream{d, true});
  devices.push_back(d);
}

// named is the device that an entry of CUDA_VISIBLE_DEVICES names, -1 where none does.
static int named(const std::string &entry, int count) {
  for (int i = 0; i < count; i++) {
    char uuid[64];
    snprintf(uuid, sizeof uuid, "GPU-d0d0d0d0-d0d0-d0d0-d0d0-d0d0d0d0d0%02x", i);
    if (entry == std::to_string(i) || (entry.size() > 4 && std::string(uuid).compare(0, entry.size(), entry) == 0)) return i;
  }
  return -1;
}

API cuInit(unsigned flags) {
  if (flags) return INVALID_VALUE;
  if (long code = setting("AGRDIST_FAKE_CUINIT", 0)) return (CUresult)code;
  static std::once_flag once;
  std::call_once(once, [] {
    long count = setting("AGRDIST_FAKE_GPUS", 1), memory = setting("AGRDIST_FAKE_GPU_MEMORY", 4L << 30);
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (!visible) {
      for (int i = 0; i < count; i++) addDevice(i, memory);
      return;
    }
    // As the driver does it: ordinals or the beginnings of UUIDs, up to the first that
    // names no device ("-1", "NoDevFiles").
    std::string text = visible;
    for (size_t at = 0; at < text.size();) {
      size_t end = std::min(text.find(',', at), text.size());
      int found = named(text.substr(at, end - at), (int)count);
      if (found < 0) break;
      addDevice(found, memory);
      at = end + 1;
    }
  });
  if (devices.empty()) return NO_DEVICE;
  initialised = true;
  return SUCCESS;
}

API cuDriverGetVersion(int *v) {
  *v = (int)setting("AGRDIST_FAKE_DRIVER", 12060);
  return SUCCESS;
}

// --- the device's thread

void Device::start() {
  if (started) return;
  started = true;
  sigset_t all, before;
  sigfillset(&all);
  for (int sig : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP}) sigdelset(&all, sig);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for the process's other threads
  std::thread([this] { loop(); }).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

std::vector<fakeStream *> Device::runnable() {
  std::vector<fakeStream *> list;
  for (fakeStream *s : streams) {
    if (s->queue.empty()) continue;
    bool ready = true;
    for (const OpRef &op : s->queue.front()->after) ready = ready && op->done;
    if (ready) list.push_back(s);
  }
  return list;
}

void Device::loop() {
  std::unique_lock<std::mutex> lock(mu);
  for (;;) {
    wake.wait(lock, [this] { return pending > 0; });
    if (!wake.wait_for(lock, std::chrono::microseconds(500), [this] { return waiters > 0 || hurry > 0; })) hurry = pending;
    std::vector<fakeStream *> heads = runnable();
    if (heads.empty()) {  // waits for another device
      wake.wait_for(lock, std::chrono::microseconds(100));
      continue;
    }
    fakeStream *s = heads[random.below((unsigned)heads.size())];
    OpRef op = s->queue.front();
    if (op->work.run && !broken && !skipped(op->work)) {
      lock.unlock();
      CUresult code = op->work.run(*this);
      lock.lock();
      if (code && !broken) {
        broken = code;
        complain(code, "device %d: %s failed with error %d; the context is broken", id, op->work.name, code);
      }
    }
    s->queue.pop_front();
    op->done = true;
    op->when = now();
    op->after.clear();
    op->work.run = nullptr;
    pending--;
    if (hurry) hurry--;
    finished.notify_all();
  }
}

OpRef Device::put(fakeStream *s, Work work) {
  start();
  auto op = std::make_shared<Op>();
  op->work = std::move(work);
  if (s == streams[0]) {
    for (fakeStream *o : streams)
      if (o->blocking && o->last && !o->last->done) op->after.push_back(o->last);
  } else if (s->blocking && streams[0]->last && !streams[0]->last->done) {
    op->after.push_back(streams[0]->last);
  }
  s->queue.push_back(op);
  s->last = op;
  pending++;
  if (random.below(2)) hurry = pending;
  wake.notify_one();
  return op;
}

CUresult Device::wait(const OpRef &op) {
  tally(WAIT);
  std::unique_lock<std::mutex> lock(mu);
  if (op && !op->done) {
    waiters++;
    wake.notify_one();
    finished.wait(lock, [&] { return op->done; });
    waiters--;
  }
  return broken;
}

CUresult Device::waitAll() {
  tally(WAIT);
  std::unique_lock<std::mutex> lock(mu);
  waiters++;
  wake.notify_one();
  finished.wait(lock, [this] { return pending == 0; });
  waiters--;
  return broken;
}

CUresult enter(Device **d) {
  if (!initialised) return NOT_INITIALIZED;
  if (!currentDevice || !currentDevice->retained) return INVALID_CONTEXT;
  *d = currentDevice;
  return (*d)->broken;
}

// --- devices

CUresult deviceOf(int dev, Device **d) {
  if (!initialised) return NOT_INITIALIZED;
  if (dev < 0 || dev >= (int)devices.size()) return INVALID_DEVICE;
  *d = devices[dev];
  return SUCCESS;
}

API cuDeviceGetCount(int *n) {
  if (!initialised) return NOT_INITIALIZED;
  *n = (int)devices.size();
  return SUCCESS;
}

API cuDeviceGet(int *dev, int ordinal) {
  Device *d;
  TRY(deviceOf(ordinal, &d));
  *dev = ordinal;
  return SUCCESS;
}

API cuDeviceGetName(char *text, int n, int dev) {
  Device *d;
  TRY(deviceOf(dev, &d));
  snprintf(text, (size_t)n, "%s", d->name.c_str());
  return SUCCESS;
}

API cuDeviceGetUuid(unsigned char *uuid, int dev) {
  Device *d;
  TRY(deviceOf(dev, &d));
  memset(uuid, 0xd0, 16);
  uuid[15] = (unsigned char)atoi(d->name.c_str() + strlen("Double "));
  return SUCCESS;
}

API cuDeviceGetPCIBusId(char *text, int n, int dev) {
  Device *d;
  TRY(deviceOf(dev, &d));
  snprintf(text, (size_t)n, "0000:%02X:00.0", atoi(d->name.c_str() + strlen("Double ")) + 1);
  return SUCCESS;
}

API cuDeviceTotalMem_v2(size_t *n, int dev) {
  Device *d;
  TRY(deviceOf(dev, &d));
  *n = d->memory;
  return SUCCESS;
}

API cuDeviceGetAttribute(int *v, int attribute, int dev) {
  Device *d;
  TRY(deviceOf(dev, &d));
  static const struct {
    int attribute, value;
  } table[] = {
      {1, 1024}, {2, 1024}, {3, 1024}, {4, 64}, {5, 0x7fffffff}, {6, 65535}, {7, 65535},
      {8, 48 << 10}, {9, 64 << 10}, {10, 32}, {12, 65536}, {13, 1980000}, {15, 1}, {16, 4}, {18, 0}, {19, 1},
      {20, 0}, {31, 1}, {36, 2619000}, {37, 5120}, {38, 50 << 20}, {39, 2048}, {40, 3}, {41, 1}, {78, 1}, {79, 1},
      {81, 228 << 10}, {82, 65536}, {97, 227 << 10}, {115, 1},
  };
  if (attribute == 75 || attribute == 76) {
    const char *cc = getenv("AGRDIST_FAKE_CC");
    int major = 9, minor = 0;
    if (cc) sscanf(cc, "%d.%d", &major, &minor);
    *v = attribute == 75 ? major : minor;
    return SUCCESS;
  }
  for (const auto &row : table)
    if (row.attribute == attribute) {
      *v = row.value;
      return SUCCESS;
    }
  return complain(INVALID_VALUE, "device attribute %d is not known to the double", attribute);
}

API cuDeviceCanAccessPeer(int *can, int dev, int peer) {
  Device *d, *p;
  TRY(deviceOf(dev, &d));
  TRY(deviceOf(peer, &p));
  *can = d != p;
  return SUCCESS;
}

API cuDeviceGetP2PAttribute(int *v, int attribute, int src, int dst) {
  Device *a, *b;
  TRY(deviceOf(src, &a));
  TRY(deviceOf(dst, &b));
  if (a == b) return INVALID_DEVICE;
  *v = attribute == 1 ? 0 : 1;
  return SUCCESS;
}

struct Text {
  CUresult code;
  const char *name, *text;
};
static const Text texts[] = {
    {0, "CUDA_SUCCESS", "no error"},
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {46, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {600, "CUDA_ERROR_NOT_READY", "device not ready"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {716, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver / cuda driver combination"},
    {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
    {904, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work"},
    {905, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "dependency created on uncaptured work in another stream"},
    {906, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT", "operation would make the legacy stream depend on a capturing blocking stream"},
    {907, "CUDA_ERROR_CAPTURED_EVENT", "operation not permitted on an event last recorded in a capturing stream"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

API cuGetErrorName(CUresult code, const char **text) {
  for (const Text &t : texts)
    if (t.code == code) return *text = t.name, SUCCESS;
  return *text = nullptr, INVALID_VALUE;
}

API cuGetErrorString(CUresult code, const char **text) {
  for (const Text &t : texts)
    if (t.code == code) return *text = t.text, SUCCESS;
  return *text = nullptr, INVALID_VALUE;
}
