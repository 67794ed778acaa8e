//go:build cuda

package driver

/*
#include <stdlib.h>
#include "calls.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"reflect"

	"gorgonia.org/cu"
)

var (
	// ErrNoLibrary is in the chain of an error of Init where libcuda.so.1 is missing
	// or cannot be loaded.
	ErrNoLibrary = errors.New("driver: no CUDA driver")
	// ErrUnusable is in the chain where the library is there and cuInit fails.
	ErrUnusable = errors.New("driver: the CUDA driver does not work")
	// ErrNoDevice is in the chain where the driver works and shows no GPU.
	ErrNoDevice = errors.New("driver: no GPU")
)

// Error is a failed call of this package. errors.Is(err, cu.OutOfMemory) and the
// like hold for it as they do for cu's own errors.
type Error struct {
	Call string // the driver's function
	Code int    // its CUresult
}

// Error gives the driver's own words.
func (e *Error) Error() string {
	return fmt.Sprintf("driver: %s: %s", e.Call, codeText(e.Code))
}

// Is reports whether target is cu's error of the same code.
func (e *Error) Is(target error) bool {
	v := reflect.ValueOf(target)
	return v.IsValid() && v.Type() == reflect.TypeOf(cu.Success) && v.Int() == int64(e.Code)
}

func check(call string, code C.CUresult) error {
	if code == 0 {
		return nil
	}
	return &Error{Call: call, Code: int(code)}
}

// codeText is "out of memory (CUDA_ERROR_OUT_OF_MEMORY)". Without a library, or for
// a code that it does not know, the number has to do.
func codeText(code int) string {
	var name, text *C.char
	if C.cuGetErrorName(C.CUresult(code), &name) != 0 || C.cuGetErrorString(C.CUresult(code), &text) != 0 {
		return fmt.Sprintf("CUDA error %d", code)
	}
	return fmt.Sprintf("%s (%s)", C.GoString(text), C.GoString(name))
}

// initHints says what to do about the codes of cuInit that have a usual cause.
var initHints = map[int]string{
	34:  "this is the toolkit's stub library, not the driver's: take the stubs directory out of the search path",
	46:  "the GPU is taken by another process in exclusive mode, or does not answer: see nvidia-smi",
	802: "the GPUs are still starting; on machines with NVSwitch, see that nvidia-fabricmanager runs",
	803: "the library and the kernel module are of different versions: load the new module or reboot",
	804: "the compatibility library supports data centre GPUs only: use the driver's own libcuda.so.1",
	999: "the kernel module is not loaded or its devices are missing: see that nvidia-smi works (in a container: that it was started with its GPUs)",
}

const noDeviceHint = "none in this machine, or CUDA_VISIBLE_DEVICES hides them, or the container was started without GPUs"

func initError(path string, code int) error {
	if code == int(cu.NoDevice) {
		return fmt.Errorf("%w: %s", ErrNoDevice, noDeviceHint)
	}
	hint := initHints[code]
	if hint != "" {
		hint = "; " + hint
	}
	return fmt.Errorf("%w: cuInit in %s: %w%s", ErrUnusable, path, &Error{Call: "cuInit", Code: code}, hint)
}
