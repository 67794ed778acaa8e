//go:build cuda

package cublaslt

/*
#include <stdlib.h>
#include "plan.h"
*/
import "C"

import (
	"errors"
	"fmt"

	"github.com/agrdist/agrdist/internal/cuda/dl"
)

// EnvLibrary names the library's file in place of the SONAMEs.
const EnvLibrary = "AGRDIST_LIBCUBLASLT"

// ErrStatus is wrapped by every failure that the library reports.
var ErrStatus = errors.New("cublaslt")

// Library is the opened library. It stays open until the process ends.
type Library struct {
	lib *dl.Library
	api *C.agr_cublaslt // C memory, never freed: as long-lived as the library
}

// Open opens the library. Errors name the files that were tried, or the
// function that the library lacks.
func Open() (*Library, error) {
	lib, err := dl.Open(EnvLibrary, "libcublasLt.so.13", "libcublasLt.so.12")
	if err != nil {
		return nil, fmt.Errorf("cublaslt: %w", err)
	}
	l := &Library{lib: lib, api: (*C.agr_cublaslt)(C.calloc(1, C.sizeof_agr_cublaslt))}
	for i := C.int(0); ; i++ {
		name := C.agr_cublaslt_symbol(i)
		if name == nil {
			return l, nil
		}
		f, err := lib.Symbol(C.GoString(name))
		if err != nil {
			return nil, fmt.Errorf("cublaslt: %w", err)
		}
		C.agr_cublaslt_set(l.api, i, f)
	}
}

// Path is the library's file.
func (l *Library) Path() string { return l.lib.Path() }

// Version is the library's version as it counts: 120903 is 12.9.3.
func (l *Library) Version() int { return int(C.agr_cublaslt_version(l.api)) }

func (l *Library) err(op string, s C.cublasStatus_t) error {
	if s == C.CUBLAS_STATUS_SUCCESS {
		return nil
	}
	return fmt.Errorf("%w: %s: %s (%s)", ErrStatus, op,
		C.GoString(C.agr_cublaslt_string(l.api, s)), C.GoString(C.agr_cublaslt_name(l.api, s)))
}

// Handle is the library's state on the context that was current when it was
// made. It is used with that context current.
type Handle struct {
	lib *Library
	h   C.cublasLtHandle_t
}

// NewHandle makes a handle on the current context.
func (l *Library) NewHandle() (*Handle, error) {
	h := &Handle{lib: l}
	if s := C.agr_cublaslt_create(l.api, &h.h); s != C.CUBLAS_STATUS_SUCCESS {
		return nil, l.err("cublasLtCreate", s)
	}
	return h, nil
}

// Destroy gives the handle back. It is idempotent; plans must not run after.
func (h *Handle) Destroy() error {
	if h.h == nil {
		return nil
	}
	s := C.agr_cublaslt_destroy(h.lib.api, h.h)
	h.h = nil
	return h.lib.err("cublasLtDestroy", s)
}
