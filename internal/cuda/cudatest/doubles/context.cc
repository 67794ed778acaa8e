// Primary contexts; a context's handle is its device.
#include "device.h"

static thread_local std::vector<Device *> contextStack;

API cuDevicePrimaryCtxRetain(void **ctx, int dev) {
  Device *d;
  TRY(deviceOf(dev, &d));
  d->retained++;
  *ctx = d;
  return SUCCESS;
}

void freeAll(Device *d);  // memory.cc

static void reset(Device *d) {
  d->waitAll();
  freeAll(d);
  std::lock_guard<std::mutex> lock(d->mu);
  d->broken = 0;
  d->captures.clear();
}

API cuDevicePrimaryCtxRelease_v2(int dev) {
  Device *d;
  TRY(deviceOf(dev, &d));
  if (!d->retained) return INVALID_CONTEXT;
  if (--d->retained == 0) reset(d);
  return SUCCESS;
}

API cuDevicePrimaryCtxReset_v2(int dev) {
  Device *d;
  TRY(deviceOf(dev, &d));
  reset(d);
  return SUCCESS;
}

API cuDevicePrimaryCtxGetState(int dev, unsigned *flags, int *active) {
  Device *d;
  TRY(deviceOf(dev, &d));
  *flags = d->flags;
  *active = d->retained > 0;
  return SUCCESS;
}

API cuDevicePrimaryCtxSetFlags_v2(int dev, unsigned flags) {
  Device *d;
  TRY(deviceOf(dev, &d));
  d->flags = flags;
  return SUCCESS;
}

API cuCtxSetCurrent(void *ctx) {
  if (!initialised) return NOT_INITIALIZED;
  for (Device *d : devices)
    if (ctx == d && d->retained) {
      currentDevice = d;
      return SUCCESS;
    }
  if (ctx) return INVALID_CONTEXT;
  currentDevice = nullptr;
  return SUCCESS;
}

API cuCtxGetCurrent(void **ctx) {
  *ctx = currentDevice;
  return initialised ? SUCCESS : NOT_INITIALIZED;
}

API cuCtxPushCurrent_v2(void *ctx) {
  contextStack.push_back(currentDevice);
  CUresult code = cuCtxSetCurrent(ctx);
  if (code) contextStack.pop_back();
  return code;
}

API cuCtxPopCurrent_v2(void **ctx) {
  if (contextStack.empty()) return INVALID_CONTEXT;
  if (ctx) *ctx = currentDevice;
  currentDevice = contextStack.back();
  contextStack.pop_back();
  return SUCCESS;
}

API cuCtxGetDevice(int *dev) {
  Device *d;
  TRY(enter(&d));
  *dev = d->id;
  return SUCCESS;
}

API cuCtxGetFlags(unsigned *flags) {
  Device *d;
  TRY(enter(&d));
  *flags = d->flags;
  return SUCCESS;
}

API cuCtxGetApiVersion(void *, unsigned *v) {
  *v = 3020;
  return SUCCESS;
}

API cuCtxGetStreamPriorityRange(int *least, int *greatest) {
  Device *d;
  TRY(enter(&d));
  if (least) *least = 0;
  if (greatest) *greatest = -5;
  return SUCCESS;
}

API cuCtxSynchronize(void) {
  Device *d;
  TRY(enter(&d));
  TRY(forbidden(d));
  return d->waitAll();
}

API cuCtxEnablePeerAccess(void *ctx, unsigned flags) {
  Device *d;
  TRY(enter(&d));
  Device *peer = (Device *)ctx;
  if (flags || !ctx || peer == d) return INVALID_VALUE;
  if (d->peers[peer->id]) return PEER_ACCESS_ALREADY_ENABLED;
  d->peers[peer->id] = true;
  return SUCCESS;
}

API cuCtxDisablePeerAccess(void *ctx) {
  Device *d;
  TRY(enter(&d));
  Device *peer = (Device *)ctx;
  if (!peer || !d->peers[peer->id]) return PEER_ACCESS_NOT_ENABLED;
  d->peers[peer->id] = false;
  return SUCCESS;
}

extern "C" __attribute__((visibility("default"))) int fakecuDevice(void) {
  return currentDevice ? currentDevice->id : -1;
}
