// Device and pinned memory, copies and fills. Device memory lies between pages that
// cannot be touched; it is filled with 0xff (NaN) when it is given out, and its pages
// vanish when it is given back. A buffer begins at a multiple of 256 bytes, as on the
// device; the bytes between its end and the end of its last page are checked.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <deque>
#include <map>

#include "device.h"
#include "simt_run.h"

namespace {

const size_t page = (size_t)sysconf(_SC_PAGESIZE);  // 64 KiB on some arm64
constexpr size_t alignment = 256;

struct Block {
  size_t bytes;
  Device *device;  // null: pinned host memory
  char *map;
  size_t mapped;
};

std::mutex mu;
std::map<uintptr_t, Block> blocks;
std::deque<std::pair<char *, size_t>> graveyard;  // addresses not to be used again soon

size_t up(size_t n, size_t to) { return (n + to - 1) / to * to; }

uintptr_t allocate(size_t bytes, Device *d) {
  size_t room = up(bytes, alignment), inner = up(room, page), mapped = inner + 2 * page;
  char *map = (char *)mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED) return 0;
  mprotect(map + page, inner, PROT_READ | PROT_WRITE);
  if (!idle()) memset(map + page, 0xff, inner);  // else the pages stay without memory: zero
  uintptr_t at = (uintptr_t)map + page + inner - room;
  std::lock_guard<std::mutex> lock(mu);
  blocks[at] = {bytes, d, map, mapped};
  if (d) d->used += room;
  return at;
}

// slackIntact tells whether nothing was written next to the block.
bool slackIntact(uintptr_t at, const Block &b) {
  if (idle()) return true;
  const unsigned char *end = (unsigned char *)b.map + b.mapped - page;
  for (const unsigned char *p = (unsigned char *)at + b.bytes; p < end; p++)
    if (*p != 0xff) return false;
  for (const unsigned char *p = (unsigned char *)b.map + page; p < (unsigned char *)at; p++)
    if (*p != 0xff) return false;
  return true;
}

void bury(const Block &b) {  // under mu
  madvise(b.map, b.mapped, MADV_DONTNEED);
  mprotect(b.map, b.mapped, PROT_NONE);
  graveyard.emplace_back(b.map, b.mapped);
  if (graveyard.size() > 1024) {
    munmap(graveyard.front().first, graveyard.front().second);
    graveyard.pop_front();
  }
}

CUresult release(uintptr_t at, bool pinned) {
  std::lock_guard<std::mutex> lock(mu);
  auto it = blocks.find(at);
  if (it == blocks.end() || (it->second.device == nullptr) != pinned)
    return complain(INVALID_VALUE, "free of %#lx, which is not the start of an allocation", (unsigned long)at);
  Block b = it->second;
  bool intact = slackIntact(at, b);
  if (b.device) b.device->used -= up(b.bytes, alignment);
  blocks.erase(it);
  bury(b);
  return intact ? SUCCESS : complain(ILLEGAL_ADDRESS, "bytes next to an allocation of %zu bytes were written", b.bytes);
}

// blockAt returns the block that p lies in; null without one.
const Block *blockAt(uintptr_t p, uintptr_t *base) {  // under mu
  auto it = blocks.upper_bound(p);
  if (it == blocks.begin()) return nullptr;
  --it;
  if (p >= it->first + it->second.bytes) return nullptr;
  *base = it->first;
  return &it->second;
}

enum Where { DEVICE, PINNED, PAGEABLE, ACROSS };

Where whereIs(uintptr_t p, size_t n) {
  std::lock_guard<std::mutex> lock(mu);
  uintptr_t base;
  const Block *b = blockAt(p, &base);
  if (!b) return PAGEABLE;
  if (p + n > base + b->bytes) return ACROSS;
  return b->device ? DEVICE : PINNED;
}

CUresult onDevice(CUdeviceptr p, size_t n, const char *what) {
  if (n == 0 || whereIs(p, n) == DEVICE) return SUCCESS;
  return complain(INVALID_VALUE, "%s: [%#lx, +%zu) does not lie in one allocation of device memory", what, (unsigned long)p, n);
}

CUresult onHost(const void *p, size_t n, const char *what) {
  Where w = whereIs((uintptr_t)p, n);
  if (n == 0 || w == PINNED || w == PAGEABLE) return SUCCESS;
  return complain(INVALID_VALUE, "%s: %p is device memory where host memory is wanted", what, p);
}

}  // namespace

bool deviceRange(const void *p, uintptr_t *from, uintptr_t *to) {
  std::lock_guard<std::mutex> lock(mu);
  const Block *b = blockAt((uintptr_t)p, from);
  if (!b || !b->device) return false;
  *to = *from + b->bytes;
  return true;
}

void describeFault(const void *p, char *text, size_t n) {
  // Without the lock: nothing else runs that could help now.
  uintptr_t at = (uintptr_t)p;
  for (const auto &[base, b] : blocks) {
    if (at < (uintptr_t)b.map || at >= (uintptr_t)b.map + b.mapped) continue;
    long beyond = (long)(at - base - b.bytes);
    if (beyond >= 0) {
      snprintf(text, n, "access %ld bytes behind the end of an allocation of %zu bytes", beyond, b.bytes);
    } else {
      snprintf(text, n, "access %ld bytes before an allocation of %zu bytes", (long)(base - at), b.bytes);
    }
    return;
  }
  for (const auto &g : graveyard)
    if (at >= (uintptr_t)g.first && at < (uintptr_t)g.first + g.second) {
      snprintf(text, n, "access to memory that was freed");
      return;
    }
  snprintf(text, n, "access to %p, which is no device memory (a full stack of the thread also looks so)", p);
}

void freeAll(Device *d) {
  std::lock_guard<std::mutex> lock(mu);
  for (auto it = blocks.begin(); it != blocks.end();) {
    if (it->second.device != d) {
      ++it;
      continue;
    }
    bury(it->second);
    it = blocks.erase(it);
  }
  d->used = 0;
}

extern "C" __attribute__((visibility("default"))) int fakecuRange(const void *p, size_t n) {
  return whereIs((uintptr_t)p, n ? n : 1) == DEVICE;
}
extern "C" __attribute__((visibility("default"))) int fakecuPinned(const void *p, size_t n) {
  return whereIs((uintptr_t)p, n ? n : 1) == PINNED;
}

// --- allocation

static CUresult allocateOn(Device *d, CUdeviceptr *p, size_t n) {
  if (n == 0) return INVALID_VALUE;
  {
    std::lock_guard<std::mutex> lock(mu);
    if (n > d->memory - d->used) return OUT_OF_MEMORY;
  }
  *p = allocate(n, d);
  return *p ? SUCCESS : OUT_OF_MEMORY;
}

API cuMemAlloc_v2(CUdeviceptr *p, size_t n) {
  Device *d;
  TRY(enter(&d));
  TRY(forbidden(d));
  return allocateOn(d, p, n);
}

API cuMemFree_v2(CUdeviceptr p) {
  Device *d;
  TRY(enter(&d));
  if (!p) return SUCCESS;
  TRY(forbidden(d));
  TRY(d->waitAll());
  return release(p, false);
}

API cuMemAllocAsync(CUdeviceptr *p, size_t n, CUstream stream) {
  Device *d;
  TRY(enter(&d));
  fakeStream *s = nullptr;
  TRY(streamOf(stream, d, &s));
  // The driver makes a node of it; the double does not.
  if (s->capture) return complain(NOT_SUPPORTED, "cuMemAllocAsync during a capture");
  return allocateOn(s->device, p, n);
}

API cuMemFreeAsync(CUdeviceptr p, CUstream stream) {
  Device *d;
  TRY(enter(&d));
  TRY(onDevice(p, 1, "cuMemFreeAsync"));
  fakeStream *s = nullptr;
  TRY(streamOf(stream, d, &s));
  if (s->capture) return complain(NOT_SUPPORTED, "cuMemFreeAsync during a capture");
  return submit(stream, {"free", [p](Device &) { return release(p, false); }});
}

API cuMemHostAlloc(void **p, size_t n, unsigned flags) {
  Device *d;
  TRY(enter(&d));
  TRY(forbidden(d));
  if (n == 0 || flags & ~7u) return INVALID_VALUE;
  *p = (void *)allocate(n, nullptr);
  return *p ? SUCCESS : OUT_OF_MEMORY;
}

API cuMemFreeHost(void *p) {
  Device *d;
  TRY(enter(&d));
  TRY(d->waitAll());
  return release((uintptr_t)p, true);
}

API cuMemGetInfo_v2(size_t *available, size_t *total) {
  Device *d;
  TRY(enter(&d));
  std::lock_guard<std::mutex> lock(mu);
  *available = d->memory - d->used;
  *total = d->memory;
  return SUCCESS;
}

API cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *n, CUdeviceptr p) {
  std::lock_guard<std::mutex> lock(mu);
  uintptr_t at;
  const Block *b = blockAt(p, &at);
  if (!b || !b->device) return INVALID_VALUE;
  if (base) *base = at;
  if (n) *n = b->bytes;
  return SUCCESS;
}

API cuPointerGetAttribute(void *v, int attribute, CUdeviceptr p) {
  Where w = whereIs(p, 1);
  if (attribute != 2 || w == PAGEABLE) return INVALID_VALUE;  // CU_POINTER_ATTRIBUTE_MEMORY_TYPE
  *(unsigned *)v = w == DEVICE ? 2 : 1;
  return SUCCESS;
}

static int pools[64];

API cuDeviceGetDefaultMemPool(void **pool, int dev) {
  if (dev < 0 || dev >= (int)devices.size()) return INVALID_DEVICE;
  *pool = &pools[dev];
  return SUCCESS;
}
static CUresult isPool(void *pool) { return pool >= pools && pool < pools + 64 ? SUCCESS : INVALID_VALUE; }
API cuMemPoolSetAttribute(void *pool, int attribute, void *) {
  TRY(isPool(pool));
  return attribute == 4 ? SUCCESS : INVALID_VALUE;
}
API cuMemPoolTrimTo(void *pool, size_t) { return isPool(pool); }

// --- copies and fills

// copy is queued where it can be. What does not lie in pinned memory is read when
// the call is made, and has been written when the call returns.
static CUresult copy(const char *name, void *dst, const void *src, size_t n, CUstream stream) {
  const bool within = whereIs((uintptr_t)dst, n) == DEVICE && whereIs((uintptr_t)src, n) == DEVICE;
  return submit(stream, {name, [=](Device &) {
                           if (!within || !idle()) memmove(dst, src, n);
                           return SUCCESS;
                         }, COPY});
}

static CUresult done(CUstream stream, CUresult queued) {
  TRY(queued);
  Device *d;
  TRY(enter(&d));
  fakeStream *s = nullptr;
  TRY(streamOf(stream, d, &s));
  OpRef last;
  {
    std::lock_guard<std::mutex> lock(s->device->mu);
    last = s->last;
  }
  return s->device->wait(last);
}

static bool capturing(CUstream stream) {
  Device *d;
  fakeStream *s = nullptr;
  if (enter(&d) || streamOf(stream, d, &s)) return false;
  std::lock_guard<std::mutex> lock(s->device->mu);
  return s->capture != nullptr;
}

API cuMemcpyHtoDAsync_v2(CUdeviceptr dst, const void *src, size_t n, CUstream stream) {
  TRY(onDevice(dst, n, "cuMemcpyHtoDAsync"));
  TRY(onHost(src, n, "cuMemcpyHtoDAsync"));
  if (whereIs((uintptr_t)src, n) == PINNED || capturing(stream)) return copy("copy to the device", (void *)dst, src, n, stream);
  auto staged = std::make_shared<std::vector<char>>((const char *)src, (const char *)src + n);
  return submit(stream, {"copy to the device", [=](Device &) {
                           memcpy((void *)dst, staged->data(), n);
                           return SUCCESS;
                         }, COPY});
}

API cuMemcpyDtoHAsync_v2(void *dst, CUdeviceptr src, size_t n, CUstream stream) {
  TRY(onDevice(src, n, "cuMemcpyDtoHAsync"));
  TRY(onHost(dst, n, "cuMemcpyDtoHAsync"));
  CUresult code = copy("copy to the host", dst, (const void *)src, n, stream);
  if (whereIs((uintptr_t)dst, n) == PINNED || capturing(stream)) return code;
  return done(stream, code);
}

API cuMemcpyDtoDAsync_v2(CUdeviceptr dst, CUdeviceptr src, size_t n, CUstream stream) {
  TRY(onDevice(dst, n, "cuMemcpyDtoDAsync"));
  TRY(onDevice(src, n, "cuMemcpyDtoDAsync"));
  return copy("copy", (void *)dst, (const void *)src, n, stream);
}

API cuMemcpyAsync(CUdeviceptr dst, CUdeviceptr src, size_t n, CUstream stream) {
  return copy("copy", (void *)dst, (const void *)src, n, stream);
}

API cuMemcpyPeerAsync(CUdeviceptr dst, void *, CUdeviceptr src, void *, size_t n, CUstream stream) {
  return cuMemcpyDtoDAsync_v2(dst, src, n, stream);
}

static CUresult synchronous() {
  Device *d;
  TRY(enter(&d));
  return forbidden(d);
}

API cuMemcpyHtoD_v2(CUdeviceptr dst, const void *src, size_t n) {
  TRY(synchronous());
  return done(nullptr, cuMemcpyHtoDAsync_v2(dst, src, n, nullptr));
}
API cuMemcpyDtoH_v2(void *dst, CUdeviceptr src, size_t n) {
  TRY(synchronous());
  return done(nullptr, cuMemcpyDtoHAsync_v2(dst, src, n, nullptr));
}
API cuMemcpyDtoD_v2(CUdeviceptr dst, CUdeviceptr src, size_t n) {
  TRY(synchronous());
  return cuMemcpyDtoDAsync_v2(dst, src, n, nullptr);
}
API cuMemcpy(CUdeviceptr dst, CUdeviceptr src, size_t n) {
  TRY(synchronous());
  return done(nullptr, cuMemcpyAsync(dst, src, n, nullptr));
}
API cuMemcpyPeer(CUdeviceptr dst, void *a, CUdeviceptr src, void *b, size_t n) {
  TRY(synchronous());
  return done(nullptr, cuMemcpyPeerAsync(dst, a, src, b, n, nullptr));
}

template <class T>
static CUresult fill(CUdeviceptr dst, T v, size_t n, CUstream stream) {
  TRY(onDevice(dst, n * sizeof(T), "cuMemset"));
  if (dst % sizeof(T)) return INVALID_VALUE;
  return submit(stream, {"fill", [=](Device &) {
                           if (!idle()) std::fill_n((T *)dst, n, v);
                           return SUCCESS;
                         }, COPY});
}
API cuMemsetD8Async(CUdeviceptr p, unsigned char v, size_t n, CUstream s) { return fill(p, v, n, s); }
API cuMemsetD16Async(CUdeviceptr p, unsigned short v, size_t n, CUstream s) { return fill(p, v, n, s); }
API cuMemsetD32Async(CUdeviceptr p, unsigned v, size_t n, CUstream s) { return fill(p, v, n, s); }
API cuMemsetD8_v2(CUdeviceptr p, unsigned char v, size_t n) {
  TRY(synchronous());
  return fill(p, v, n, nullptr);
}
API cuMemsetD16_v2(CUdeviceptr p, unsigned short v, size_t n) {
  TRY(synchronous());
  return fill(p, v, n, nullptr);
}
API cuMemsetD32_v2(CUdeviceptr p, unsigned v, size_t n) {
  TRY(synchronous());
  return fill(p, v, n, nullptr);
}
