// The ranks of the double of NCCL: how they meet, what moves between them, and the
// communicator that a rank has.
#pragma once
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

// place reads RANK:FILE for a rank, nothing where there is none.
std::string place(const char *name, int rank) {
  int r, at = 0;
  const char *s = getenv(name);
  return s && sscanf(s, "%d:%n", &r, &at) == 1 && at && r == rank ? s + at : "";
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
  std::string file, gate;  // gate: see AGRDIST_FAKE_NCCL_SLOW
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

}  // namespace
