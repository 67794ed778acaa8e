// A data race is two accesses of a byte by different threads, one of them a write, that
// no barrier orders. Between threads of a block __syncthreads orders, shuffles do not;
// between blocks of a launch nothing does. Reading shared memory that the block has not
// written is a fault too.
#include "races.h"

void Races::begin(const std::vector<std::pair<void *, size_t>> &shared) {
  shared_.clear();
  for (const auto &s : shared) shared_.emplace_back((uintptr_t)s.first, (uintptr_t)s.first + s.second);
}

Races::Shadow *Races::shadow(uintptr_t at) {
  if (at / page != lastPage) {
    auto &p = pages[at / page];
    if (!p) p.reset(new Shadow[page]);
    lastPage = at / page, last = p.get();
  }
  return last + at % page;
}

const char *Races::touch(Shadow &s, bool write, int thread, bool shared) {
  bool wroteNow = s.wrote >= first, readNow = s.read >= first;  // in this block
  bool otherBlock = !shared && ((s.wrote && !wroteNow) || (write && ((s.read && !readNow) || s.blocks)));
  if (otherBlock) return "data race: another block of the launch uses the same memory, and one of the two writes it";
  if (wroteNow && s.wrote == epoch && s.writer != thread)
    return write ? "data race: two threads write the same memory without a barrier between"
                 : "data race: a thread reads what another has written without a barrier between";
  if (write && readNow && s.read == epoch && (s.readers || s.reader != thread))
    return "data race: a thread writes what another has read without a barrier between";
  if (write) {
    s.wrote = epoch, s.writer = thread;
    return nullptr;
  }
  if (shared && !wroteNow) return "read of shared memory that the block has not written";
  if (s.read && !readNow) s.blocks = true;
  if (s.read != epoch) s.reader = thread, s.readers = false;
  if (s.reader != thread) s.readers = true;
  s.read = epoch;
  return nullptr;
}

const char *Races::access(const void *p, unsigned n, bool write, int thread, bool device) {
  uintptr_t at = (uintptr_t)p;
  bool shared = false;
  for (const auto &s : shared_) shared = shared || (at >= s.first && at < s.second);
  if (!shared && !device) return nullptr;
  for (unsigned i = 0; i < n; i++) {
    Shadow &s = *shadow(at + i);
    if (!shared && !(write ? s.wrote : s.read)) touched_++;
    if (const char *fault = touch(s, write, thread, shared)) return fault;
  }
  return nullptr;
}
