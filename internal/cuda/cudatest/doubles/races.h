// Looks for data races between the threads of a launch (races.cc).
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

class Races {
 public:
  // The shared variables of the module; their content is undefined when a block begins.
  void begin(const std::vector<std::pair<void *, size_t>> &shared);
  void beginBlock() { epoch++, first = epoch; }
  void barrier() { epoch++; }
  // access returns what is wrong with an access of a thread of the block, or null.
  const char *access(const void *p, unsigned n, bool write, int thread, bool device);
  // touched is the bytes of device memory that were read, and those that were written.
  unsigned long long touched() const { return touched_; }

 private:
  // Shadow is what happened to a byte. An epoch is the time between two barriers of one
  // block; epoch 0 is never.
  struct Shadow {
    unsigned wrote = 0, read = 0;  // the last epochs
    int writer = 0, reader = 0;    // and threads
    bool readers = false;          // several threads read in that epoch
    bool blocks = false;           // another block has read as well
  };
  static constexpr size_t page = 1024;

  Shadow *shadow(uintptr_t at);
  const char *touch(Shadow &s, bool write, int thread, bool shared);

  std::vector<std::pair<uintptr_t, uintptr_t>> shared_;
  unsigned long long touched_ = 0;
  std::unordered_map<uintptr_t, std::unique_ptr<Shadow[]>> pages;
  uintptr_t lastPage = 1;
  Shadow *last = nullptr;
  unsigned epoch = 0, first = 1;
};
