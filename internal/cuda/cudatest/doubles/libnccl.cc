// A double of NCCL for ranks that are processes (or threads) of one machine. Ranks
// meet in a file of /dev/shm named by the unique id, and pass chunks through one
// mailbox for each ordered pair.
//
// Like the real library it starts work on the stream after the call has returned
// (a communicator that does not block answers ncclInProgress until then), it does not
// notice that a peer has died, and an abort frees this rank alone. It is stricter: any
// call in between other than ncclCommGetAsyncError and ncclCommAbort is refused, and
// so are memory that is not the device's, a stream of another device, and counts that
// differ between sender and receiver.
//
// Settings, read at each init: AGRDIST_FAKE_NCCL_VERSION (23203), and, each for one
// rank, AGRDIST_FAKE_NCCL_INIT=RANK:CODE (init ends with the code),
// AGRDIST_FAKE_NCCL_ERROR=RANK:N and AGRDIST_FAKE_NCCL_HANG=RANK:N (the N-th launch
// of a communicator, from 1, ends with an asynchronous error, or never).
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "library.h"

namespace {

enum Result { SUCCESS, UNHANDLED_CUDA, SYSTEM, INTERNAL, INVALID_ARGUMENT, INVALID_USAGE, REMOTE, IN_PROGRESS };
enum { FLOAT32 = 7, BFLOAT16 = 9, SUM = 0 };

constexpr int maxRanks = 16;
constexpr size_t chunk = 64 << 10;

struct UniqueId {
  char internal[128];
};

struct Config {
  size_t size;
  unsigned magic, version;
  int blocking;
};

// Box holds one chunk on its way.
struct Box {
  std::atomic<uint64_t> written, taken;
  uint64_t total, at;
  char data[chunk];
};

struct Shared {
  std::atomic<int> joined, ready, finalized;
  int size;
  std::atomic<int> gpu[maxRanks];  // 1 + number
  Box box[maxRanks][maxRanks];        // [from][to]
};

thread_local std::string lastText;

int fail(int code, const std::string &text) {
  lastText = text;
  fprintf(stderr, "double of NCCL: %s\n", text.c_str());
  return code;
}

// setting reads RANK:N for a rank, 0 where there is none.
long setting(const char *name, int rank) {
  int r;
  long n;
  const char *s = getenv(name);
  return s && sscanf(s, "%d:%ld", &r, &n) == 2 && r == rank ? n : 0;
}

void pause() { std::this_thread::sleep_for(std::chrono::microseconds(50)); }

struct Transfer {
  bool send;
  char *p;
  size_t bytes;
  int peer;
  size_t moved;
};

struct Comm;
using Steps = std::vector<std::function<bool(Comm &)>>;

// Comm is a rank's communicator. Its thread does what the calls leave undone: the
// meeting of the ranks, and putting work on the stream.
struct Comm {
  Shared *shared = nullptr;
  std::string file;
  int rank, size, device;  // device: as this process numbers them
  int gpu;                 // and the machine
  void *context = nullptr;
  bool blocking;
  long launches = 0, failing, hanging;

  std::atomic<int> state{IN_PROGRESS};
  std::atomic<bool> aborted{false}, finalized{false}, mapped{false};
  std::atomic<int> running{0};  // launches on the stream
  std::mutex mu;
  std::condition_variable wake;
  std::deque<std::function<void()>> tasks;
  bool closing = false;
  std::thread thread;

  // later runs f on the communicator's thread; blocking communicators wait.
  int later(std::function<void()> f) {
    state = IN_PROGRESS;
    {
      std::lock_guard<std::mutex> lock(mu);
      tasks.push_back(std::move(f));
    }
    wake.notify_all();
    if (!blocking) return IN_PROGRESS;
    while (state == IN_PROGRESS) pause();
    return state;
  }

  void serve() {
    driver<int (*)(void *)>("cuCtxSetCurrent")(context);
    for (;;) {
      std::function<void()> f;
      {
        std::unique_lock<std::mutex> lock(mu);
        wake.wait(lock, [this] { return closing || !tasks.empty(); });
        if (tasks.empty()) return;
        f = std::move(tasks.front());
        tasks.pop_front();
      }
      f();
    }
  }

  void start() {
    driver<int (*)(void **)>("cuCtxGetCurrent")(&context);
    thread = std::thread([this] { serve(); });
  }

  void stop() {
    {
      std::lock_guard<std::mutex> lock(mu);
      closing = true;
    }
    wake.notify_all();
    thread.join();
    while (running) pause();
    if (mapped) munmap(shared, sizeof(Shared));
  }

  // await returns false where the communicator was aborted.
  bool await(const std::function<bool()> &ready) {
    while (!ready()) {
      if (aborted) return false;
      pause();
    }
    return true;
  }

  int meet() {
    if (long code = setting("AGRDIST_FAKE_NCCL_INIT", rank)) return fail((int)code, "init fails as told");
    int fd = open(file.c_str(), O_RDWR | O_CREAT, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(Shared))) return fail(SYSTEM, "shared memory: " + file);
    shared = static_cast<Shared *>(mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    close(fd);
    if (shared == MAP_FAILED) return fail(SYSTEM, "shared memory: " + file);
    mapped = true;
    shared->gpu[rank] = 1 + gpu;
    if (rank == 0) shared->size = size;
    shared->joined++;
    bool all = await([this] { return shared->joined == size; });
    if (rank == 0) unlink(file.c_str());
    if (!all) return SYSTEM;
    if (shared->size != size) return fail(INVALID_ARGUMENT, "ranks disagree about their number");
    for (int r = 0; r < size; r++)
      if (r != rank && shared->gpu[r] == 1 + gpu) return fail(INVALID_USAGE, "Duplicate GPU detected");
    return SUCCESS;
  }

  // exchange moves all transfers at once; those of one pair keep their order.
  bool exchange(std::vector<Transfer> list) {
    for (;;) {
      bool busy = false, moved = false;
      bool seen[2][maxRanks] = {};
      for (Transfer &t : list) {
        if (t.moved == t.bytes) continue;
        busy = true;
        if (std::exchange(seen[t.send][t.peer], true)) continue;
        Box &b = t.send ? shared->box[rank][t.peer] : shared->box[t.peer][rank];
        size_t n = std::min(chunk, t.bytes - t.moved);
        if (t.send && b.written == b.taken) {
          b.total = t.bytes, b.at = t.moved;
          memcpy(b.data, t.p + t.moved, n);
          b.written++;
        } else if (!t.send && b.written > b.taken) {
          if (b.total != t.bytes || b.at != t.moved) {
            state = fail(INVALID_USAGE, "a peer sends " + std::to_string(b.total) + " bytes, " +
                                            std::to_string(t.bytes) + " are asked for");
            return await([] { return false; });
          }
          memcpy(t.p + t.moved, b.data, n);
          b.taken++;
        } else {
          continue;
        }
        t.moved += n;
        moved = true;
      }
      if (!busy) return true;
      if (aborted) return false;
      if (!moved) pause();
    }
  }
};

size_t width(int type) { return type == FLOAT32 ? 4 : type == BFLOAT16 ? 2 : 0; }

float element(const char *p, size_t i, int type) {
  return type == FLOAT32 ? reinterpret_cast<const float *>(p)[i] : fromBF16(reinterpret_cast<const uint16_t *>(p)[i]);
}

// add is dst += src.
void add(char *dst, const char *src, size_t count, int type) {
  for (size_t i = 0; i < count; i++) {
    float v = element(src, i, type) + element(dst, i, type);
    if (type == FLOAT32)
      reinterpret_cast<float *>(dst)[i] = v;
    else
      reinterpret_cast<uint16_t *>(dst)[i] = toBF16(v);
  }
}

// reduceAll sums up the chain of ranks and sends the result down again: an order that
// is the ranks'.
bool reduceAll(Comm &c, const char *from, char *to, size_t count, int type) {
  size_t bytes = count * width(type);
  std::vector<char> sum(from, from + bytes), other(bytes);
  if (c.rank > 0) {
    if (!c.exchange({{false, other.data(), bytes, c.rank - 1, 0}})) return false;
    add(sum.data(), other.data(), count, type);
  }
  if (c.rank < c.size - 1) {
    if (!c.exchange({{true, sum.data(), bytes, c.rank + 1, 0}})) return false;
    if (!c.exchange({{false, sum.data(), bytes, c.rank + 1, 0}})) return false;
  }
  if (c.rank > 0 && !c.exchange({{true, sum.data(), bytes, c.rank - 1, 0}})) return false;
  memcpy(to, sum.data(), bytes);
  return true;
}

// Group is what a thread has called between ncclGroupStart and ncclGroupEnd.
struct Group {
  int depth = 0;
  Comm *comm = nullptr;
  void *stream = nullptr;
  std::vector<Transfer> transfers;
  Steps steps;
  int error = SUCCESS;
};
thread_local Group group;

// launch puts the group's work on its stream, some time after the call.
int launch() {
  Comm *c = group.comm;
  if (int e = std::exchange(group.error, SUCCESS)) {
    group = {};
    return e;
  }
  if (!c) return SUCCESS;
  Steps steps = std::move(group.steps);
  if (!group.transfers.empty())
    steps.push_back([list = std::move(group.transfers)](Comm &c) { return c.exchange(list); });
  void *stream = group.stream;
  group = {};
  long number = ++c->launches;
  c->running++;
  return c->later([=] {
    for (int i = 0; i < 1 + number % 5; i++) pause();
    bool ok = !c->aborted && enqueue(stream, "nccl", [=]() -> CUresult {
      if (number == c->failing) {  // found out later, as a broken network is
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        c->state = fail(REMOTE, "operation fails as told");
      }
      bool on = number != c->failing && number != c->hanging;
      if (on)
        for (auto &step : steps)
          if (!step(*c)) break;
      if (!on) c->await([] { return false; });
      c->running--;
      return 0;
    });
    if (!ok) c->running--;
    int expected = IN_PROGRESS;
    c->state.compare_exchange_strong(expected, ok ? SUCCESS : UNHANDLED_CUDA);
  });
}

// call checks an operation's arguments and adds it to the group.
int call(Comm *c, void *stream, int type, const void *from, size_t read, void *to, size_t write,
         const std::function<void()> &put) {
  auto error = [&](int code, const std::string &text) {
    fail(code, text);
    if (group.depth > 0) group.error = code;
    return code;
  };
  if (!c) return error(INVALID_ARGUMENT, "no communicator");
  if (c->state == IN_PROGRESS) return error(INVALID_USAGE, "a call while another is in progress");
  if (c->state != SUCCESS) return error(c->state, "a call after an error");
  if (c->finalized) return error(INVALID_USAGE, "a call after ncclCommFinalize");
  if (!width(type)) return error(INVALID_ARGUMENT, "a type that the double does not know");
  if ((from && !onDevice(from, read * width(type))) || (to && !onDevice(to, write * width(type))))
    return error(INVALID_ARGUMENT, "memory that is not the device's");
  if (driver<decltype(&fakecuStreamDevice)>("fakecuStreamDevice")(static_cast<CUstream>(stream)) != c->device)
    return error(INVALID_ARGUMENT, "a stream of another device");
  if (group.comm && (group.comm != c || group.stream != stream))
    return error(INVALID_USAGE, "the double has one communicator and stream a group");
  group.comm = c, group.stream = stream;
  put();
  return group.depth > 0 ? int(SUCCESS) : launch();
}

bool peerOK(Comm *c, int peer) { return c && peer >= 0 && peer < c->size && peer != c->rank; }

}  // namespace

#define NCCL extern "C" __attribute__((visibility("default"))) int

NCCL ncclGetVersion(int *version) {
  const char *s = getenv("AGRDIST_FAKE_NCCL_VERSION");
  *version = s ? atoi(s) : 23203;
  return SUCCESS;
}

NCCL ncclGetUniqueId(UniqueId *id) {
  static std::atomic<int> count;
  memset(id, 0, sizeof *id);
  snprintf(id->internal, sizeof id->internal, "/dev/shm/agrdist-fakenccl-%d-%d-%lld", getpid(), ++count,
           (long long)std::chrono::system_clock::now().time_since_epoch().count());
  return SUCCESS;
}

NCCL ncclCommInitRankConfig(Comm **out, int size, UniqueId id, int rank, Config *config) {
  if (config->magic != 0xcafebeef || config->size < sizeof(Config))
    return fail(INVALID_ARGUMENT, "a configuration that was not initialised");
  if (size < 1 || size > maxRanks || rank < 0 || rank >= size || strncmp(id.internal, "/dev/shm/", 9))
    return fail(INVALID_ARGUMENT, "rank, size or unique id");
  if (!hasContext()) return fail(UNHANDLED_CUDA, "no current context");
  Comm *c = new Comm;
  c->rank = rank, c->size = size, c->file = id.internal, c->blocking = config->blocking != 0;
  c->device = c->gpu = driver<decltype(&fakecuDevice)>("fakecuDevice")();
  if (const char *visible = getenv("CUDA_VISIBLE_DEVICES")) {
    std::string list = visible;
    for (int skip = c->device; skip > 0; skip--) list.erase(0, list.find(',') + 1);
    c->gpu = atoi(list.c_str());
  }
  c->failing = setting("AGRDIST_FAKE_NCCL_ERROR", rank);
  c->hanging = setting("AGRDIST_FAKE_NCCL_HANG", rank);
  c->start();
  *out = c;
  return c->later([c] { c->state = c->meet(); });
}

NCCL ncclCommGetAsyncError(Comm *c, int *error) {
  *error = c->state;
  return SUCCESS;
}

NCCL ncclCommFinalize(Comm *c) {
  if (c->state != SUCCESS) return fail(INVALID_USAGE, "ncclCommFinalize in progress or after an error");
  c->finalized = true;
  return c->later([c] {
    c->shared->finalized++;
    bool all = c->await([c] { return c->running == 0 && c->shared->finalized == c->size; });
    c->state = all ? SUCCESS : SYSTEM;
  });
}

NCCL ncclCommDestroy(Comm *c) {
  if (!c->finalized || c->state == IN_PROGRESS) return fail(INVALID_USAGE, "ncclCommDestroy before the end of ncclCommFinalize");
  c->stop();
  delete c;
  return SUCCESS;
}

NCCL ncclCommAbort(Comm *c) {
  c->aborted = true;
  c->stop();
  if (c->rank == 0) unlink(c->file.c_str());
  delete c;
  return SUCCESS;
}

extern "C" __attribute__((visibility("default"))) const char *ncclGetErrorString(int code) {
  static const char *text[] = {"no error", "unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
                               "unhandled system error (run with NCCL_DEBUG=INFO for details)",
                               "internal error - please report this issue to the NCCL developers",
                               "invalid argument (run with NCCL_DEBUG=WARN for details)",
                               "invalid usage (run with NCCL_DEBUG=WARN for details)",
                               "remote process exited or there was a network error", "NCCL operation in progress"};
  return code >= 0 && code < 8 ? text[code] : "unknown result code";
}

extern "C" __attribute__((visibility("default"))) const char *ncclGetLastError(Comm *) { return lastText.c_str(); }

NCCL ncclGroupStart() {
  group.depth++;
  return SUCCESS;
}

NCCL ncclGroupEnd() {
  if (group.depth == 0) return fail(INVALID_USAGE, "ncclGroupEnd without ncclGroupStart");
  return --group.depth > 0 ? int(SUCCESS) : launch();
}

NCCL ncclSend(const void *p, size_t count, int type, int peer, Comm *c, void *stream) {
  if (!peerOK(c, peer)) return fail(INVALID_ARGUMENT, "peer");
  return call(c, stream, type, p, count, nullptr, 0, [&] {
    group.transfers.push_back({true, const_cast<char *>(static_cast<const char *>(p)), count * width(type), peer, 0});
  });
}

NCCL ncclRecv(void *p, size_t count, int type, int peer, Comm *c, void *stream) {
  if (!peerOK(c, peer)) return fail(INVALID_ARGUMENT, "peer");
  return call(c, stream, type, nullptr, 0, p, count, [&] {
    group.transfers.push_back({false, static_cast<char *>(p), count * width(type), peer, 0});
  });
}

NCCL ncclAllReduce(const void *from, void *to, size_t count, int type, int op, Comm *c, void *stream) {
  if (op != SUM) return fail(INVALID_ARGUMENT, "operator");
  return call(c, stream, type, from, count, to, count, [=] {
    group.steps.push_back([=](Comm &c) {
      return reduceAll(c, static_cast<const char *>(from), static_cast<char *>(to), count, type);
    });
  });
}

NCCL ncclReduceScatter(const void *from, void *to, size_t count, int type, int op, Comm *c, void *stream) {
  if (op != SUM) return fail(INVALID_ARGUMENT, "operator");
  size_t all = c ? count * c->size : 0;
  return call(c, stream, type, from, all, to, count, [=] {
    group.steps.push_back([=](Comm &c) {
      std::vector<char> sum(all * width(type));
      if (!reduceAll(c, static_cast<const char *>(from), sum.data(), all, type)) return false;
      memcpy(to, sum.data() + c.rank * count * width(type), count * width(type));
      return true;
    });
  });
}

NCCL ncclAllGather(const void *from, void *to, size_t count, int type, Comm *c, void *stream) {
  return call(c, stream, type, from, count, to, c ? count * c->size : 0, [=] {
    group.steps.push_back([=](Comm &c) {
      size_t bytes = count * width(type);
      std::vector<char> own(static_cast<const char *>(from), static_cast<const char *>(from) + bytes);
      std::vector<Transfer> list;
      for (int r = 0; r < c.size; r++) {
        if (r == c.rank) continue;
        list.push_back({true, own.data(), bytes, r, 0});
        list.push_back({false, static_cast<char *>(to) + r * bytes, bytes, r, 0});
      }
      if (!c.exchange(list)) return false;
      memcpy(static_cast<char *>(to) + c.rank * bytes, own.data(), bytes);
      return true;
    });
  });
}

NCCL ncclBroadcast(const void *from, void *to, size_t count, int type, int root, Comm *c, void *stream) {
  if (!c || root < 0 || root >= c->size) return fail(INVALID_ARGUMENT, "root");
  return call(c, stream, type, c->rank == root ? from : nullptr, count, to, count, [=] {
    group.steps.push_back([=](Comm &c) {
      size_t bytes = count * width(type);
      if (c.rank != root) return c.exchange({{false, static_cast<char *>(to), bytes, root, 0}});
      std::vector<Transfer> list;
      for (int r = 0; r < c.size; r++)
        if (r != root) list.push_back({true, const_cast<char *>(static_cast<const char *>(from)), bytes, r, 0});
      if (!c.exchange(list)) return false;
      if (from != to) memmove(to, from, bytes);
      return true;
    });
  });
}
