//go:build cuda

package cudnn

/*
#include <stdlib.h>
#include "plan.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/agrdist/agrdist/internal/cuda/cublaslt"
	"github.com/agrdist/agrdist/internal/cuda/dl"
	"github.com/agrdist/agrdist/internal/cuda/nvrtc"
)

// EnvLibrary names the library's file in place of the SONAME.
const EnvLibrary = "AGRDIST_LIBCUDNN"

var (
	// ErrStatus is wrapped by every failure that the library reports.
	ErrStatus = errors.New("cudnn")
	// ErrNoAlgorithm is wrapped by Plan where the library has no algorithm that is
	// deterministic and fits the workspace.
	ErrNoAlgorithm = errors.New("cudnn: no deterministic algorithm")
	// ErrRefused is wrapped by a plan's first Run where the library does not run the
	// algorithm that it offered: Problem.Skip gives the next one.
	ErrRefused = errors.New("cudnn: the algorithm is refused")
)

// Library is the opened library. It stays open until the process ends.
type Library struct {
	lib *dl.Library
	api *C.agr_cudnn // C memory, never freed: as long-lived as the library
}

// Open opens the library. Errors name the files that were tried, or the
// function that the library lacks.
func Open() (*Library, error) {
	// cuDNN's engines look for these two by SONAME when they are first needed, and the
	// wheels of CUDA 13 do not say where. What is loaded is found; where one of them is
	// missing, its own Open says so.
	_, _ = cublaslt.Open()
	_, _ = nvrtc.Path()
	lib, err := dl.Open(EnvLibrary, "libcudnn.so.9")
	if err != nil {
		return nil, fmt.Errorf("cudnn: %w", err)
	}
	l := &Library{lib: lib, api: (*C.agr_cudnn)(C.calloc(1, C.sizeof_agr_cudnn))}
	for i := C.int(0); ; i++ {
		name := C.agr_cudnn_symbol(i)
		if name == nil {
			return l, nil
		}
		f, err := lib.Symbol(C.GoString(name))
		if err != nil {
			return nil, fmt.Errorf("cudnn: %w", err)
		}
		C.agr_cudnn_set(l.api, i, f)
	}
}

// Path is the library's file.
func (l *Library) Path() string { return l.lib.Path() }

// Version is the library's version as it counts: 92800 is 9.28.0.
func (l *Library) Version() int { return int(C.agr_cudnn_version(l.api)) }

// err makes an error of a status, with the library's own account of its last
// failure where it has one.
func (l *Library) err(op string, s C.cudnnStatus_t) error {
	if s == C.CUDNN_STATUS_SUCCESS {
		return nil
	}
	const size = 1024
	text := (*C.char)(C.calloc(1, size))
	defer C.free(unsafe.Pointer(text))
	C.agr_cudnn_last(l.api, text, size-1)
	if last := C.GoString(text); last != "" {
		return fmt.Errorf("%w: %s: %s: %s", ErrStatus, op, C.GoString(C.agr_cudnn_string(l.api, s)), last)
	}
	return fmt.Errorf("%w: %s: %s", ErrStatus, op, C.GoString(C.agr_cudnn_string(l.api, s)))
}

// Handle is the library's state on the context that was current when it was made
// and on one stream. It is used with that context current.
type Handle struct {
	lib *Library
	h   C.cudnnHandle_t
}

// NewHandle makes a handle on the current context, whose work goes to a stream.
func (l *Library) NewHandle(stream uintptr) (*Handle, error) {
	h := &Handle{lib: l}
	if s := C.agr_cudnn_create(l.api, &h.h, C.uintptr_t(stream)); s != C.CUDNN_STATUS_SUCCESS {
		return nil, l.err("cudnnCreate", s)
	}
	return h, nil
}

// Destroy gives the handle back, waiting for the device. It is idempotent; plans
// must not run after.
func (h *Handle) Destroy() error {
	if h.h == nil {
		return nil
	}
	s := C.agr_cudnn_destroy(h.lib.api, h.h)
	h.h = nil
	return h.lib.err("cudnnDestroy", s)
}
