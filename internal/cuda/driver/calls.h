/* The driver's functions that gorgonia.org/cu does not have, in our own
 * declarations: no NVIDIA header is read here. hack/cuda-symbols.sh reads the
 * names, so each stands on one line. */
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef int CUresult;
typedef uint64_t CUdeviceptr;
typedef void *CUstream, *CUgraph, *CUgraphExec, *CUfunction, *CUmemoryPool;
typedef struct { unsigned char bytes[16]; } CUuuid;

extern CUresult cuInit(unsigned flags);
extern CUresult cuDriverGetVersion(int *version);
extern CUresult cuGetErrorName(CUresult code, const char **text);
extern CUresult cuGetErrorString(CUresult code, const char **text);
extern CUresult cuDeviceGetPCIBusId(char *text, int len, int device);
extern CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool, int device);
extern CUresult cuMemPoolSetAttribute(CUmemoryPool pool, int attribute, void *value);
extern CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep);
extern CUresult cuMemHostAlloc(void **p, size_t bytes, unsigned flags);
extern CUresult cuMemFreeHost(void *p);
extern CUresult cuMemAllocAsync(CUdeviceptr *p, size_t bytes, CUstream stream);
extern CUresult cuMemFreeAsync(CUdeviceptr p, CUstream stream);
extern CUresult cuStreamBeginCapture_v2(CUstream stream, int mode);
extern CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph);
extern CUresult cuStreamIsCapturing(CUstream stream, int *status);
extern CUresult cuGraphGetNodes(CUgraph graph, void **nodes, size_t *count);
extern CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags);
extern CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream);
extern CUresult cuGraphExecDestroy(CUgraphExec exec);
extern CUresult cuGraphDestroy(CUgraph graph);
extern CUresult cuFuncSetAttribute(CUfunction f, int attribute, int value);
