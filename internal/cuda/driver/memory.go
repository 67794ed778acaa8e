//go:build cuda

package driver

/*
#include "calls.h"
*/
import "C"

import (
	"unsafe"

	"gorgonia.org/cu"
)

// portable makes pinned memory pinned for all contexts (CU_MEMHOSTALLOC_PORTABLE).
const portable = 1

// stream returns the raw handle of a cu.Stream.
func stream(s cu.Stream) C.CUstream { return C.CUstream(unsafe.Pointer(s.C())) }

// HostAlloc returns pinned host memory of n bytes, which the GPU copies from and to
// while the host does other things. It is not Go's: free it with HostFree.
func HostAlloc(n int) (unsafe.Pointer, error) {
	var p unsafe.Pointer
	if err := check("cuMemHostAlloc", C.cuMemHostAlloc(&p, C.size_t(n), portable)); err != nil {
		return nil, err
	}
	return p, nil
}

// HostFree frees memory of HostAlloc. No copy from or to it may be under way.
func HostFree(p unsafe.Pointer) error {
	return check("cuMemFreeHost", C.cuMemFreeHost(p))
}

// MemAllocAsync allocates n bytes of the current device when the stream gets there.
func MemAllocAsync(n int64, s cu.Stream) (cu.DevicePtr, error) {
	var p C.CUdeviceptr
	if err := check("cuMemAllocAsync", C.cuMemAllocAsync(&p, C.size_t(n), stream(s))); err != nil {
		return 0, err
	}
	return cu.DevicePtr(p), nil
}

// MemFreeAsync frees memory of MemAllocAsync when the stream gets there.
func MemFreeAsync(p cu.DevicePtr, s cu.Stream) error {
	return check("cuMemFreeAsync", C.cuMemFreeAsync(C.CUdeviceptr(p), stream(s)))
}

// releaseThreshold is CU_MEMPOOL_ATTR_RELEASE_THRESHOLD.
const releaseThreshold = 4

// KeepPool lets the device's memory pool hold on to n freed bytes, instead of giving
// them back to the driver at each synchronisation.
func KeepPool(dev cu.Device, n uint64) error {
	pool, err := defaultPool(dev)
	if err != nil {
		return err
	}
	v := C.uint64_t(n)
	return check("cuMemPoolSetAttribute", C.cuMemPoolSetAttribute(pool, releaseThreshold, unsafe.Pointer(&v)))
}

// TrimPool gives all but n of the pool's unused bytes back to the driver.
func TrimPool(dev cu.Device, n uint64) error {
	pool, err := defaultPool(dev)
	if err != nil {
		return err
	}
	return check("cuMemPoolTrimTo", C.cuMemPoolTrimTo(pool, C.size_t(n)))
}

func defaultPool(dev cu.Device) (C.CUmemoryPool, error) {
	var pool C.CUmemoryPool
	err := check("cuDeviceGetDefaultMemPool", C.cuDeviceGetDefaultMemPool(&pool, C.int(dev)))
	return pool, err
}
