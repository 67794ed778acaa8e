// Runs a kernel: the threads of a block are coroutines of one operating-system
// thread. A thread runs until it ends or waits (for the block at __syncthreads, for
// its warp at a shuffle); blocks, and threads that may run, are taken in a shuffled
// order, so that code which relies on an order that CUDA does not promise gives wrong
// results. Shared memory is filled with 0xff (NaN) before each block.
#include "races.h"
#include "simt_run.h"
#include "switch.h"

#include <signal.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace {

constexpr size_t stackBytes = 256 << 10;
constexpr int warpLanes = 32;

enum State { READY, AT_BARRIER, IN_WARP, ENDED };

struct Fiber {
  void *sp = nullptr;
  char *stack = nullptr;
  agr_dim thread{};
  State state = READY;
  agr_warp_op op{};
  unsigned mask = 0;
  unsigned long long value = 0;  // given, then received
  int arg = 0;
};

// Warp is the state of 32 threads, a bit each.
struct Warp {
  unsigned live = 0, waiting = 0;
};

// Run is one launch. There is at most one in a thread of the system.
struct Run {
  const Launch &launch;
  Random &random;
  agr_dim block{};
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::vector<int> ready, now;    // threads that may run: next, and in this turn
  std::vector<unsigned> order;    // of the blocks
  std::vector<char *> freeStacks;
  int live = 0, waiting = 0, predicates = 0, released = 0;
  int self = -1;
  void *scheduler = nullptr;  // its saved stack
  Races races;
  uintptr_t deviceFrom = 0, deviceTo = 0;  // the allocation of the last access
  sigjmp_buf escape;
  char text[256] = "";

  Run(const Launch &l, Random &r) : launch(l), random(r) {}
  void runBlock();
  void resume(int i);
  void wait() { agr_switch(&fibers[self].sp, scheduler); }
  void arrive(int i);
  void end(int i);
  void release(int first, unsigned lanes);
  void releaseBarrier();
  char *takeStack();
  [[noreturn]] void fail(CUresult code, const char *what);
};

// Initial-exec: an access is one instruction, also from a shared library.
__attribute__((tls_model("initial-exec"))) thread_local Run *current;
thread_local std::vector<char *> idleStacks;  // between launches

char *Run::takeStack() {
  if (!freeStacks.empty()) {
    char *s = freeStacks.back();
    freeStacks.pop_back();
    return s;
  }
  // The lowest page stays unmapped: a stack that overflows ends the launch.
  void *p = mmap(nullptr, stackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) abort();
  mprotect(p, (size_t)sysconf(_SC_PAGESIZE), PROT_NONE);
  return (char *)p;
}

void Run::fail(CUresult code, const char *what) {
  snprintf(text, sizeof text, "%s", what);
  siglongjmp(escape, code);
}

// fiberMain is where a new thread begins.
void fiberMain() {
  Run *r = current;
  r->launch.kernel->call(r->launch.params);
  r->fibers[r->self].state = ENDED;
  void *unused;
  agr_switch(&unused, r->scheduler);
  __builtin_unreachable();
}

void Run::resume(int i) {
  Fiber &f = fibers[i];
  if (!f.stack) {
    f.stack = takeStack();
    f.sp = agr_begin(f.stack + stackBytes, fiberMain);
  }
  self = i;
  *launch.module->thread = f.thread;
  agr_switch(&scheduler, f.sp);
  self = -1;
  if (f.state == ENDED) {
    end(i);
  } else if (f.state == AT_BARRIER) {
    waiting++;
  } else if (f.state == IN_WARP) {
    arrive(i);
  }
}

void Run::end(int i) {
  freeStacks.push_back(fibers[i].stack);
  fibers[i].stack = nullptr;
  live--;
  Warp &w = warps[i / warpLanes];
  w.live &= ~(1u << i % warpLanes);
  // Lanes may have waited for all but this one.
  for (unsigned left = w.waiting; left;) {
    int first = i / warpLanes * warpLanes;
    unsigned lanes = fibers[first + __builtin_ctz(left)].mask & w.live;
    left &= ~lanes;
    if ((w.waiting & lanes) == lanes) release(first, lanes);
  }
}

// arrive lets the lanes of thread i's mask go when all have come. Lanes that have
// ended or never were take no part.
void Run::arrive(int i) {
  Warp &w = warps[i / warpLanes];
  w.waiting |= 1u << i % warpLanes;
  unsigned lanes = fibers[i].mask & w.live;
  if ((w.waiting & lanes) == lanes) release(i / warpLanes * warpLanes, lanes);
}

void Run::release(int first, unsigned lanes) {
  const Fiber &any = fibers[first + __builtin_ctz(lanes)];
  unsigned long long given[warpLanes];
  unsigned ballot = 0;
  memset(given, 0xff, sizeof given);  // of a lane that takes no part: anything
  for (unsigned left = lanes; left; left &= left - 1) {
    int k = __builtin_ctz(left);
    const Fiber &f = fibers[first + k];
    if (f.mask != any.mask || f.op != any.op) fail(719, "lanes of a warp wait with different masks or operations");
    given[k] = f.value;
    if (f.value) ballot |= 1u << k;
  }
  for (unsigned left = lanes; left; left &= left - 1) {
    int k = __builtin_ctz(left);
    Fiber &f = fibers[first + k];
    f.value = f.op == AGR_SHFL ? given[f.arg & 31] : ballot;
    f.state = READY;
    ready.push_back(first + k);
  }
  warps[first / warpLanes].waiting &= ~lanes;
}

void Run::releaseBarrier() {
  if (live != (int)fibers.size()) fail(719, "some threads of the block ended, others wait at __syncthreads");
  races.barrier();
  released = predicates;
  waiting = predicates = 0;
  for (size_t i = 0; i < fibers.size(); i++) {
    fibers[i].state = READY;
    ready.push_back((int)i);
  }
}

void Run::runBlock() {
  for (const auto &s : launch.shared) memset(s.first, 0xff, s.second);
  memset(launch.module->dynamic_shared, 0xff, launch.dynamic);
  *launch.module->block = block;
  races.beginBlock();
  live = (int)fibers.size();
  waiting = predicates = 0;
  ready.clear();
  std::fill(warps.begin(), warps.end(), Warp{});
  for (int i = 0; i < live; i++) {
    fibers[i].state = READY;
    warps[i / warpLanes].live |= 1u << i % warpLanes;
    ready.push_back(i);
  }
  while (live > 0) {
    random.shuffle(ready);
    now.swap(ready);
    ready.clear();
    for (int i : now) resume(i);
    if (!ready.empty() || live == 0) continue;
    if (waiting == live) {
      releaseBarrier();
      continue;
    }
    fail(719, "threads wait for others that never come (a barrier or shuffle that not all reach)");
  }
}

int barrier(int predicate) {
  Run *r = current;
  r->fibers[r->self].state = AT_BARRIER;
  r->predicates += predicate != 0;
  r->wait();
  return r->released;
}

unsigned long long warp(agr_warp_op op, unsigned mask, unsigned long long value, int arg) {
  Run *r = current;
  Fiber &f = r->fibers[r->self];
  if (!(mask >> (r->self % warpLanes) & 1)) r->fail(719, "a lane is not in the mask that it gives");
  f.op = op, f.mask = mask, f.value = value, f.arg = arg, f.state = IN_WARP;
  r->wait();
  return f.value;
}

void trap(const char *text) { current->fail(719, text); }

void access(const void *p, unsigned n, int write) {
  Run *r = current;
  if (!r || r->self < 0) return;
  const char *stack = r->fibers[r->self].stack;
  if ((const char *)p >= stack && (const char *)p < stack + stackBytes) return;
  const uintptr_t at = (uintptr_t)p;
  bool device = at >= r->deviceFrom && at < r->deviceTo;
  if (!device) {
    uintptr_t from, to;
    if ((device = deviceRange(p, &from, &to))) r->deviceFrom = from, r->deviceTo = to;
  }
  if (const char *fault = r->races.access(p, n, write != 0, r->self, device)) r->fail(719, fault);
}

const agr_runtime runtime = {barrier, warp, trap, access};

struct sigaction before[NSIG];

// onFault ends the launch that faulted. A fault elsewhere is whoever's it was.
void onFault(int sig, siginfo_t *info, void *context) {
  if (Run *r = current) {
    if (sig == SIGSEGV || sig == SIGBUS) {
      describeFault(info->si_addr, r->text, sizeof r->text);
      siglongjmp(r->escape, 700);
    }
    const char *what = sig == SIGFPE ? "integer division by zero"
                                     : "undefined behaviour: misaligned access, index outside an array, shift or integer overflow";
    r->fail(sig == SIGFPE ? 719 : 716, what);
  }
  const struct sigaction &b = before[sig];
  if (b.sa_flags & SA_SIGINFO) return b.sa_sigaction(sig, info, context);
  if (b.sa_handler != SIG_DFL && b.sa_handler != SIG_IGN) return b.sa_handler(sig);
  signal(sig, SIG_DFL);  // the instruction runs again and ends the process
}

void catchFaults() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction a {};
    a.sa_sigaction = onFault;
    a.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int sig : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP}) sigaction(sig, &a, &before[sig]);
  });
  static thread_local char *altStack;
  if (!altStack) {
    altStack = new char[64 << 10];
    stack_t s{};
    s.ss_sp = altStack;
    s.ss_size = 64 << 10;
    sigaltstack(&s, nullptr);
  }
}

}  // namespace

static std::mutex touchedMu;
static std::map<std::string, unsigned long long> touched;  // by kernel

extern "C" __attribute__((visibility("default"))) unsigned long long fakecuTouched(const char *kernel) {
  std::lock_guard<std::mutex> lock(touchedMu);
  return touched[kernel];
}

CUresult runKernel(const Launch &launch, Random &random) {
  catchFaults();
  Run run(launch, random);
  *launch.module->runtime = &runtime;
  *launch.module->block_dim = launch.blockDim;
  *launch.module->grid_dim = launch.grid;
  const agr_dim b = launch.blockDim, g = launch.grid;
  run.fibers.resize((size_t)b.x * b.y * b.z);
  run.warps.resize((run.fibers.size() + warpLanes - 1) / warpLanes);
  run.freeStacks.swap(idleStacks);
  auto shared = launch.shared;
  if (launch.dynamic) shared.emplace_back(launch.module->dynamic_shared, launch.dynamic);
  run.races.begin(shared);
  for (size_t i = 0; i < run.fibers.size(); i++)
    run.fibers[i].thread = {unsigned(i % b.x), unsigned(i / b.x % b.y), unsigned(i / b.x / b.y)};

  current = &run;
  // The mask is saved: a handler that is left by a jump leaves its signal blocked.
  if (int code = sigsetjmp(run.escape, 1)) {
    current = nullptr;
    agr_dim t = run.self >= 0 ? run.fibers[run.self].thread : agr_dim{};
    fprintf(stderr, "libcuda double: kernel %s, block (%u,%u,%u), thread (%u,%u,%u): %s\n", launch.kernel->name, run.block.x,
            run.block.y, run.block.z, t.x, t.y, t.z, run.text);
    for (Fiber &f : run.fibers)
      if (f.stack) run.freeStacks.push_back(f.stack);
    idleStacks.swap(run.freeStacks);
    return code;
  }
  // All blocks, shuffled within stretches that are taken from the last to the first.
  const unsigned long long n = (unsigned long long)g.x * g.y * g.z, stretch = 1 << 14;
  std::vector<unsigned> &order = run.order;
  for (unsigned long long end = n; end > 0; end -= order.size()) {
    order.resize(std::min(end, stretch));
    for (size_t i = 0; i < order.size(); i++) order[i] = (unsigned)i;
    random.shuffle(order);
    for (unsigned i : order) {
      unsigned long long at = end - order.size() + i;
      run.block = {unsigned(at % g.x), unsigned(at / g.x % g.y), unsigned(at / g.x / g.y)};
      run.runBlock();
    }
  }
  current = nullptr;
  idleStacks.swap(run.freeStacks);
  std::lock_guard<std::mutex> lock(touchedMu);
  touched[launch.kernel->name] += run.races.touched();
  return 0;
}
