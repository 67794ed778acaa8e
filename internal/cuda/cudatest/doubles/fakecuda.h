// What the doubles of NVIDIA's libraries share: the double of libcuda executes work
// on "devices" that are this machine's CPU, and the doubles of cuDNN, cuBLASLt and
// NCCL put their work on its streams through the functions here, found with
// dlopen(getenv("AGRDIST_LIBCUDA")) and dlsym.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef int CUresult;
typedef uint64_t CUdeviceptr;
typedef struct fakeStream *CUstream;

// fakecuEnqueue puts a piece of work on a stream (null is the legacy default stream
// of the current context), or records it where the stream captures. It runs later,
// on the device's own thread, once or (in a graph) many times: arg must hold all it
// needs. drop frees arg when no more runs can come; it may be null. A run that does
// not return 0 breaks the context as a failed kernel does.
CUresult fakecuEnqueue(CUstream stream, const char *name, CUresult (*run)(void *arg), void *arg, void (*drop)(void *arg));

// fakecuRange tells whether [p, p+bytes) lies inside one live allocation of device
// memory, fakecuPinned the same of pinned host memory.
int fakecuRange(const void *p, size_t bytes);
int fakecuPinned(const void *p, size_t bytes);

// fakecuDevice is the device of the calling thread's context, -1 without one.
int fakecuDevice(void);

// fakecuStreamDevice is the device a stream belongs to (null: as fakecuDevice).
int fakecuStreamDevice(CUstream stream);

// fakecuCalls is how often the host has put work on streams since the library was
// loaded (kernels; graphs; copies and fills; work of libraries, in the order of Kind),
// and how often it has waited. Nodes of graphs do not count, nor what is captured.
void fakecuCalls(unsigned long counts[6]);

// fakecuTouched is how many bytes of device memory the launches of a kernel have read and
// how many they have written, each byte once a launch, since the library was loaded. It
// is counted where data races are looked for, and 0 elsewhere.
unsigned long long fakecuTouched(const char *kernel);

#ifdef __cplusplus
}
#endif
