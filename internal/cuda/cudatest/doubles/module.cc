// Modules (shared objects that the double of NVRTC made), kernels and launches.
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <map>
#include <set>

#include "device.h"
#include "simt_run.h"

struct fakeModule {
  Device *device;
  void *library;
  const agr_module *body;
  std::vector<std::pair<void *, size_t>> shared;
};

struct fakeFunction {
  fakeModule *module;
  const agr_kernel *kernel;
  int maxDynamic = 48 << 10;
};

static std::mutex mu;
static std::set<const fakeModule *> modules;
static std::map<std::pair<const fakeModule *, std::string>, fakeFunction *> functions;

// sharedVariables finds the __shared__ variables in the symbol table: they are the
// writable variables local to functions, which device code has no other of.
static std::vector<std::pair<void *, size_t>> sharedVariables(const char *elf, char *base) {
  std::vector<std::pair<void *, size_t>> list;
  auto *header = (const Elf64_Ehdr *)elf;
  auto *sections = (const Elf64_Shdr *)(elf + header->e_shoff);
  for (int i = 0; i < header->e_shnum; i++) {
    if (sections[i].sh_type != SHT_SYMTAB) continue;
    const char *strings = elf + sections[sections[i].sh_link].sh_offset;
    auto *symbols = (const Elf64_Sym *)(elf + sections[i].sh_offset);
    for (size_t k = 0; k < sections[i].sh_size / sizeof *symbols; k++) {
      const Elf64_Sym &s = symbols[k];
      if (ELF64_ST_TYPE(s.st_info) != STT_OBJECT || s.st_shndx == SHN_UNDEF || s.st_shndx >= header->e_shnum) continue;
      if (!(sections[s.st_shndx].sh_flags & SHF_WRITE)) continue;
      const char *name = strings + s.st_name;
      if (strncmp(name, "_ZZ", 3) == 0 || strchr(name, '.')) list.emplace_back(base + s.st_value, s.st_size);
    }
  }
  return list;
}

static CUresult load(Device *d, const agr_image *image, fakeModule **out) {
  if (memcmp(image->magic, AGR_IMAGE_MAGIC, sizeof image->magic)) return INVALID_IMAGE;
  int major = 0, minor = 0;
  extern CUresult cuDeviceGetAttribute(int *, int, int) __asm__("cuDeviceGetAttribute");
  cuDeviceGetAttribute(&major, 75, d->id);
  cuDeviceGetAttribute(&minor, 76, d->id);
  if ((int)image->arch / 10 != major || (int)image->arch % 10 > minor)
    return complain(NO_BINARY_FOR_GPU, "a module for sm_%u on a device of %d.%d", image->arch, major, minor);
  const char *elf = (const char *)(image + 1);
  // A file of its own for each load: each has its own variables. The loader knows a
  // library by its path, so no two may have the same.
  char path[] = "/tmp/agrdist-module-XXXXXX";
  int fd = mkstemp(path);
  if (fd < 0) return complain(OUT_OF_MEMORY, "%s cannot be written", path);
  for (size_t at = 0; at < image->size;) {
    ssize_t n = write(fd, elf + at, image->size - at);
    if (n <= 0) return complain(OUT_OF_MEMORY, "%s cannot be written", path);
    at += (size_t)n;
  }
  close(fd);
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  unlink(path);
  if (!library) return complain(INVALID_IMAGE, "%s", dlerror());
  auto *body = (const agr_module *)dlsym(library, "agr_module");
  link_map *map;
  if (!body || dlinfo(library, RTLD_DI_LINKMAP, &map)) return INVALID_IMAGE;
  fakeModule *m = new fakeModule{d, library, body, sharedVariables(elf, (char *)map->l_addr)};
  std::lock_guard<std::mutex> lock(mu);
  modules.insert(m);
  *out = m;
  return SUCCESS;
}

API cuModuleLoadData(fakeModule **m, const void *image) {
  Device *d;
  TRY(enter(&d));
  TRY(forbidden(d));
  return load(d, (const agr_image *)image, m);
}

API cuModuleLoadDataEx(fakeModule **m, const void *image, unsigned, int *, void **) { return cuModuleLoadData(m, image); }

API cuModuleUnload(fakeModule *m) {
  Device *d;
  TRY(enter(&d));
  d->waitAll();
  std::lock_guard<std::mutex> lock(mu);
  return modules.erase(m) ? SUCCESS : INVALID_HANDLE;  // its code stays mapped: graphs may hold it
}

API cuModuleGetFunction(fakeFunction **f, fakeModule *m, const char *name) {
  Device *d;
  TRY(enter(&d));
  std::lock_guard<std::mutex> lock(mu);
  if (!modules.count(m)) return INVALID_HANDLE;
  fakeFunction *&known = functions[{m, name}];
  for (int i = 0; !known && i < m->body->kernel_count; i++)
    if (!strcmp(m->body->kernels[i].name, name)) known = new fakeFunction{m, &m->body->kernels[i]};
  if (!known) return NOT_FOUND;
  *f = known;
  return SUCCESS;
}

API cuModuleGetGlobal_v2(CUdeviceptr *, size_t *, fakeModule *, const char *) { return NOT_SUPPORTED; }

enum { MAX_THREADS, SHARED_SIZE, CONST_SIZE, LOCAL_SIZE, NUM_REGS, PTX_VERSION, BINARY_VERSION, CACHE_MODE, MAX_DYNAMIC, CARVEOUT };

API cuFuncGetAttribute(int *v, int attribute, fakeFunction *f) {
  if (!f) return INVALID_HANDLE;
  switch (attribute) {
    case MAX_THREADS:
      *v = f->kernel->max_threads ? f->kernel->max_threads : 1024;
      return SUCCESS;
    case MAX_DYNAMIC:
      *v = f->maxDynamic;
      return SUCCESS;
    case NUM_REGS:
      *v = 32;
      return SUCCESS;
    case SHARED_SIZE:
    case CONST_SIZE:
    case LOCAL_SIZE:
      *v = 0;
      return SUCCESS;
  }
  return INVALID_VALUE;
}

API cuFuncSetAttribute(fakeFunction *f, int attribute, int v) {
  if (!f) return INVALID_HANDLE;
  if (attribute == CARVEOUT) return v >= -1 && v <= 100 ? SUCCESS : INVALID_VALUE;
  if (attribute != MAX_DYNAMIC || v < 0 || v > 227 << 10) return INVALID_VALUE;
  f->maxDynamic = v;
  return SUCCESS;
}

API cuFuncSetCacheConfig(fakeFunction *f, int) { return f ? SUCCESS : INVALID_HANDLE; }

API cuOccupancyMaxActiveBlocksPerMultiprocessor(int *n, fakeFunction *f, int threads, size_t) {
  if (!f || threads < 1 || threads > 1024) return INVALID_VALUE;
  *n = 2048 / threads;
  return SUCCESS;
}

// parameters copies the launch's parameters: the caller's are gone when it runs.
struct Parameters {
  std::vector<unsigned long long> values;
  std::vector<void *> pointers;
};

static CUresult check(const fakeFunction *f, agr_dim g, agr_dim b, unsigned dynamic) {
  const char *name = f->kernel->name;
  unsigned long long threads = (unsigned long long)b.x * b.y * b.z;
  int most = f->kernel->max_threads ? f->kernel->max_threads : 1024;
  if (!g.x || !g.y || !g.z || g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535)
    return complain(INVALID_VALUE, "%s: grid of %u x %u x %u", name, g.x, g.y, g.z);
  if (!threads || threads > (unsigned)most || b.z > 64)
    return complain(INVALID_VALUE, "%s: block of %u x %u x %u threads, at most %d", name, b.x, b.y, b.z, most);
  if (dynamic > (unsigned)f->maxDynamic)
    return complain(INVALID_VALUE, "%s: %u bytes of dynamic shared memory, at most %d", name, dynamic, f->maxDynamic);
  for (int i = 0; i < f->kernel->params; i++)
    if (f->kernel->sizes[i] > 8)
      return complain(INVALID_VALUE, "%s: parameter %d has %d bytes; gorgonia.org/cu hands over 8 of each", name, i, f->kernel->sizes[i]);
  return SUCCESS;
}

API cuLaunchKernel(fakeFunction *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned dynamic,
                   CUstream stream, void **params, void **extra) {
  Device *d;
  TRY(enter(&d));
  if (!f || extra) return f ? INVALID_VALUE : INVALID_HANDLE;
  {
    std::lock_guard<std::mutex> lock(mu);
    if (!modules.count(f->module)) return INVALID_HANDLE;
  }
  fakeStream *s = nullptr;
  TRY(streamOf(stream, d, &s));
  if (s->device != f->module->device || s->device != d) return complain(INVALID_HANDLE, "%s: module, stream and context of different devices", f->kernel->name);
  agr_dim grid{gx, gy, gz}, block{bx, by, bz};
  TRY(check(f, grid, block, dynamic));
  auto p = std::make_shared<Parameters>();
  p->values.resize((size_t)f->kernel->params);
  for (int i = 0; i < f->kernel->params; i++) {
    memcpy(&p->values[i], params[i], (size_t)f->kernel->sizes[i]);
    p->pointers.push_back(&p->values[i]);
  }
  return submit(stream, {f->kernel->name, [=](Device &dev) {
                           Launch l{f->module->body, f->kernel, grid, block, dynamic, p->pointers.data(), f->module->shared};
                           return runKernel(l, dev.random);
                         }, KERNEL});
}
