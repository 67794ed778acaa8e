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
// AGRDIST_FAKE_NCCL_SLOW=RANK:FILE: calls of a rank are in progress until there is a file.
#include "libnccl_ranks.h"

namespace {

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
    if (!c->gate.empty()) c->await([c] { return access(c->gate.c_str(), F_OK) == 0; });
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
  c->device = driver<decltype(&fakecuDevice)>("fakecuDevice")();
  unsigned char uuid[16]; // its last byte is the number of the physical device
  if (driver<CUresult (*)(unsigned char *, int)>("cuDeviceGetUuid")(uuid, c->device)) return fail(UNHANDLED_CUDA, "uuid");
  c->gpu = uuid[15];
  c->failing = setting("AGRDIST_FAKE_NCCL_ERROR", rank);
  c->hanging = setting("AGRDIST_FAKE_NCCL_HANG", rank);
  c->gate = place("AGRDIST_FAKE_NCCL_SLOW", rank);
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
  unlink(c->file.c_str());  // it is gone already where all ranks have met
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
