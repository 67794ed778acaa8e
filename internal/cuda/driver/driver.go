//go:build cuda

package driver

/*
#include "calls.h"
#include "table.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"sync"

	"github.com/agrdist/agrdist/internal/cuda/dl"
)

const (
	// LibraryVariable is the environment variable that overrides where the driver's
	// library is found.
	LibraryVariable = "AGRDIST_LIBCUDA"
	soname          = "libcuda.so.1"
	// oldest is the first driver API with all that is called: graphs that are
	// instantiated with flags, and stream-ordered allocation, came with CUDA 11.4.
	oldest = Version(11040)
)

// Version is a version of the CUDA API, 1000 x major + 10 x minor.
type Version int

// String prints 12060 as 12.6.
func (v Version) String() string { return fmt.Sprintf("%d.%d", v/1000, v%1000/10) }

// Info describes the driver and the devices it shows.
type Info struct {
	Library string // the file that was loaded; "" without one
	// Version is the newest CUDA that the driver supports, 0 when it does not work.
	Version Version
	Devices []Device
}

// loaded is what Init found; it is written once.
var loaded struct {
	once sync.Once
	lib  *dl.Library
	err  error
}

// Init loads the driver's library and initialises it, once a process; later calls
// return the same answer. All other calls of this package and of gorgonia.org/cu
// come after it. Its error (ErrNoLibrary, ErrUnusable, ErrNoDevice) says what is
// missing in words for the person who runs the program.
func Init() error {
	loaded.once.Do(func() { loaded.lib, loaded.err = bind() })
	return loaded.err
}

func bind() (*dl.Library, error) {
	lib, err := dl.Open(LibraryVariable, soname)
	if err != nil {
		C.agr_cu_absent()
		hint := ""
		if errors.Is(err, dl.ErrNotFound) {
			hint = ": install NVIDIA's driver, or start the container with its GPUs"
		}
		return nil, fmt.Errorf("%w: %w%s", ErrNoLibrary, err, hint)
	}
	if _, err := lib.Symbol("cuInit"); err != nil {
		C.agr_cu_absent()
		return nil, fmt.Errorf("%w: %w", ErrNoLibrary, err)
	}
	C.agr_cu_bind(lib.Handle())
	if code := C.cuInit(0); code != 0 {
		return lib, initError(lib.Path(), int(code))
	}
	if v := version(); v < oldest {
		return lib, fmt.Errorf("%w: it supports CUDA %v, at least %v is needed: install a newer one", ErrUnusable, v, oldest)
	}
	return lib, nil
}

func version() Version {
	var v C.int
	if C.cuDriverGetVersion(&v) != 0 {
		return 0
	}
	return Version(v)
}

// Status returns what is known about the driver, also where it does not work; err is
// then the error of Init, or the failure to describe a device.
func Status() (Info, error) {
	err := Init()
	var info Info
	if loaded.lib == nil {
		return info, err
	}
	info.Library = loaded.lib.Path()
	info.Version = version()
	if err != nil {
		return info, err
	}
	info.Devices, err = devices()
	return info, err
}

// Symbols returns the names of the driver's functions that the binary calls.
func Symbols() []string {
	var names []string
	for i := 0; ; i++ {
		name := C.agr_cu_name(C.int(i))
		if name == nil {
			return names
		}
		names = append(names, C.GoString(name))
	}
}
