//go:build cuda

package nccl

/*
#include <stdlib.h>
#include "calls.h"
*/
import "C"

import (
	"errors"
	"fmt"

	"github.com/agrdist/agrdist/internal/cuda/dl"
)

// EnvLibrary names the library's file in place of the SONAME.
const EnvLibrary = "AGRDIST_LIBNCCL"

// oldest has communicators that do not block, with all that is called.
const oldest = 21400

// Library is the opened library. It stays open until the process ends.
type Library struct {
	lib     *dl.Library
	api     *C.agr_nccl // C memory, never freed: as long-lived as the library
	version int
}

// Open opens the library. Errors name the files that were tried, or the function
// that the library lacks.
func Open() (*Library, error) {
	lib, err := dl.Open(EnvLibrary, "libnccl.so.2")
	if err != nil {
		return nil, fmt.Errorf("nccl: %w", err)
	}
	l := &Library{lib: lib, api: (*C.agr_nccl)(C.calloc(1, C.sizeof_agr_nccl))}
	for i := C.int(0); ; i++ {
		name := C.agr_nccl_symbol(i)
		if name == nil {
			break
		}
		f, err := lib.Symbol(C.GoString(name))
		if err != nil {
			return nil, fmt.Errorf("nccl: %w", err)
		}
		C.agr_nccl_set(l.api, i, f)
	}
	var v C.int
	if err := l.err("ncclGetVersion", C.agr_nccl_version(l.api, &v), nil); err != nil {
		return nil, err
	}
	l.version = int(v)
	if l.version < oldest {
		return nil, fmt.Errorf("nccl: %s is version %s, at least %s is needed", lib.Path(), l.Version(), text(oldest))
	}
	return l, nil
}

// Path is the library's file.
func (l *Library) Path() string { return l.lib.Path() }

// Version is the library's version: "2.27.3".
func (l *Library) Version() string { return text(l.version) }

func text(v int) string { return fmt.Sprintf("%d.%d.%d", v/10000, v/100%100, v%100) }

// ID names a communicator to be: rank 0 makes it, all get it.
type ID [C.NCCL_UNIQUE_ID_BYTES]byte

// NewID makes the name of a new communicator, whose first meeting point is this
// process.
func (l *Library) NewID() (id ID, err error) {
	var c C.ncclUniqueId
	if err := l.err("ncclGetUniqueId", C.agr_nccl_id(l.api, &c), nil); err != nil {
		return id, err
	}
	for i, b := range c.internal {
		id[i] = byte(b)
	}
	return id, nil
}

// Error is a call that the library refused, or an asynchronous failure.
type Error struct {
	Call string
	Code int
	Text string // what the library says of the code
	Last string // and of the last failure in this process; may be empty
}

func (e *Error) Error() string {
	s := fmt.Sprintf("nccl: %s: %s (%d)", e.Call, e.Text, e.Code)
	if e.Last != "" {
		s += ": " + e.Last
	}
	return s
}

// ErrGone is returned by the calls of a communicator that was aborted or closed.
var ErrGone = errors.New("nccl: the communicator is gone")

// errInProgress says that a call is in progress; it never leaves the package.
var errInProgress = errors.New("nccl: in progress")

func (l *Library) err(call string, r C.ncclResult_t, c C.ncclComm_t) error {
	switch r {
	case C.ncclSuccess:
		return nil
	case C.ncclInProgress:
		return errInProgress
	}
	return &Error{
		Call: call, Code: int(r), Text: C.GoString(C.agr_nccl_text(l.api, r)), Last: C.GoString(C.agr_nccl_last(l.api, c)),
	}
}
