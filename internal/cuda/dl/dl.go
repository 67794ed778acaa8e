//go:build cuda

package dl

/*
#cgo LDFLAGS: -ldl
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

// The error's text belongs to the thread that failed: it is fetched in the call.
static void *agr_dl_open(const char *name, char **text) {
	void *lib = dlopen(name, RTLD_NOW | RTLD_LOCAL);
	if (!lib) *text = strdup(dlerror());
	return lib;
}

static int agr_dl_loaded(const char *soname) {
	void *lib = dlopen(soname, RTLD_NOW | RTLD_NOLOAD);
	if (lib) dlclose(lib);
	return lib != 0;
}

static const char *agr_dl_path(void *lib) {
	struct link_map *map = 0;
	return dlinfo(lib, RTLD_DI_LINKMAP, &map) == 0 && map ? map->l_name : 0;
}
*/
import "C"

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"unsafe"
)

// PathVariable names the environment variable that lists directories (separated as
// in PATH) with NVIDIA's libraries, such as those that pip installs.
const PathVariable = "AGRDIST_CUDA_PATH"

var (
	// ErrNotFound is in the chain of an error of Open when no file of the library
	// was found.
	ErrNotFound = errors.New("dl: not found")
	// ErrBroken is in the chain when there is a file that cannot be loaded: another
	// architecture, a dependency that is missing, not a library.
	ErrBroken = errors.New("dl: cannot be loaded")
	// ErrNoSymbol is in the chain when a library lacks a function: too old, mostly.
	ErrNoSymbol = errors.New("dl: no such function")
)

// Library is a loaded shared library. It stays loaded until the process ends.
type Library struct {
	handle unsafe.Pointer
	path   string
}

// Open loads the first of the sonames that is found (package doc: where it looks).
// env is the environment variable that overrides the search. A file that is found
// but does not load ends the search: another version next to it would hide the
// fault.
func Open(env string, sonames ...string) (*Library, error) {
	if path := os.Getenv(env); path != "" {
		lib, err := open(path)
		if err != nil {
			return nil, fmt.Errorf("%w (from %s)", err, env)
		}
		return lib, nil
	}
	for _, dir := range filepath.SplitList(os.Getenv(PathVariable)) {
		for _, name := range sonames {
			path := filepath.Join(dir, name)
			if _, err := os.Stat(path); err == nil {
				return open(path)
			}
		}
	}
	for _, name := range sonames {
		lib, err := open(name)
		if err == nil || errors.Is(err, ErrBroken) {
			return lib, err
		}
	}
	return nil, fmt.Errorf("%w: %s, neither in %s nor where the system's loader looks (%s overrides)",
		ErrNotFound, strings.Join(sonames, " or "), PathVariable, env)
}

func open(name string) (*Library, error) {
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	var text *C.char
	handle := C.agr_dl_open(cname, &text)
	if handle == nil {
		defer C.free(unsafe.Pointer(text))
		return nil, loadError(name, C.GoString(text))
	}
	lib := &Library{handle: handle, path: name}
	if p := C.agr_dl_path(handle); p != nil && *p != 0 {
		lib.path = C.GoString(p)
	}
	return lib, nil
}

// loadError tells a missing file from one that does not load by the loader's text,
// which is all it gives. glibc begins it with the file that is at fault: name
// itself, or a library that name needs.
func loadError(name, text string) error {
	missing := strings.HasSuffix(text, "No such file or directory")
	if missing && strings.HasPrefix(text, name+":") {
		if machine := machineOf(name); strings.Contains(name, "/") && machine != elf.EM_NONE {
			return fmt.Errorf("%w: %s: it is for another processor (%v), this program is for %s", ErrBroken, name, machine, runtime.GOARCH)
		}
		return fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	if !strings.Contains(text, name) {
		text = name + ": " + text
	}
	return fmt.Errorf("%w: %s", ErrBroken, text)
}

// machineOf is the processor that a file's code is for, EM_NONE where it is not there. The
// loader says of a library for another processor that there is no such file.
func machineOf(path string) elf.Machine {
	f, err := elf.Open(path)
	if err != nil {
		return elf.EM_NONE
	}
	defer f.Close()
	return f.Machine
}

// Beside loads a library from this one's directory, if it is there. It is for what
// this library will look for by its SONAME: the loader then takes what is loaded. The
// wheels of CUDA 13 put libraries side by side without a RUNPATH that says so.
func (l *Library) Beside(name string) error {
	path := filepath.Join(filepath.Dir(l.path), name)
	if _, err := os.Stat(path); err != nil {
		return nil //nolint:nilerr // then it is the loader's to find
	}
	_, err := open(path)
	return err
}

// Loaded tells whether a library with this SONAME is loaded.
func Loaded(soname string) bool {
	cname := C.CString(soname)
	defer C.free(unsafe.Pointer(cname))
	return C.agr_dl_loaded(cname) != 0
}

// Path is the file that was loaded.
func (l *Library) Path() string { return l.path }

// Handle is the loader's handle, for C code that fills a table of its own.
func (l *Library) Handle() unsafe.Pointer { return l.handle }

// Symbol returns the address of a function.
func (l *Library) Symbol(name string) (unsafe.Pointer, error) {
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	if p := C.dlsym(l.handle, cname); p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("%w: %s in %s", ErrNoSymbol, name, l.path)
}
