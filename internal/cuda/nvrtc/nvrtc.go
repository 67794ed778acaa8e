//go:build cuda

package nvrtc

/*
#include <stddef.h>
#include <stdlib.h>

// NVRTC's functions by their own names, declared here: no header of NVIDIA's.
typedef void *program;
typedef struct {
	int (*Version)(int *major, int *minor);
	int (*CreateProgram)(program *, const char *src, const char *name, int headers, const char *const *, const char *const *);
	int (*CompileProgram)(program, int options, const char *const *);
	int (*DestroyProgram)(program *);
	int (*GetCUBINSize)(program, size_t *);
	int (*GetCUBIN)(program, char *);
	int (*GetProgramLogSize)(program, size_t *);
	int (*GetProgramLog)(program, char *);
	const char *(*GetErrorString)(int);
} api;

static int agr_version(api *a, int *major, int *minor) { return a->Version(major, minor); }
static int agr_create(api *a, program *p, const char *src, const char *name) { return a->CreateProgram(p, src, name, 0, 0, 0); }
static int agr_compile(api *a, program p, int n, char **options) { return a->CompileProgram(p, n, (const char *const *)options); }
static void agr_destroy(api *a, program p) { a->DestroyProgram(&p); }
static int agr_cubin_size(api *a, program p, size_t *n) { return a->GetCUBINSize(p, n); }
static int agr_cubin(api *a, program p, char *to) { return a->GetCUBIN(p, to); }
static int agr_log_size(api *a, program p, size_t *n) { return a->GetProgramLogSize(p, n); }
static int agr_log(api *a, program p, char *to) { return a->GetProgramLog(p, to); }
static const char *agr_text(api *a, int code) { return a->GetErrorString(code); }
*/
import "C"

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"unsafe"

	"github.com/agrdist/agrdist/internal/cuda/dl"
)

// LibraryVariable is the environment variable that overrides where NVRTC is found.
const LibraryVariable = "AGRDIST_LIBNVRTC"

var (
	// ErrUnavailable is in the chain where NVRTC is missing or cannot be loaded.
	ErrUnavailable = errors.New("nvrtc: no CUDA compiler")
	// ErrCompile is in the chain where the source has errors: they are in the log.
	ErrCompile = errors.New("nvrtc: compilation failed")
)

// compilationError is NVRTC_ERROR_COMPILATION.
const compilationError = 6

var loaded struct {
	once sync.Once
	api  *C.api // in C's memory, since C gets its address and it holds pointers
	path string
	err  error
}

func library() (*C.api, error) {
	loaded.once.Do(func() { loaded.err = load() })
	return loaded.api, loaded.err
}

func load() error {
	lib, err := dl.Open(LibraryVariable, "libnvrtc.so.13", "libnvrtc.so.12")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	a := (*C.api)(C.calloc(1, C.sizeof_api))
	for _, f := range []struct {
		name string
		to   unsafe.Pointer
	}{
		{"nvrtcVersion", unsafe.Pointer(&a.Version)},
		{"nvrtcCreateProgram", unsafe.Pointer(&a.CreateProgram)},
		{"nvrtcCompileProgram", unsafe.Pointer(&a.CompileProgram)},
		{"nvrtcDestroyProgram", unsafe.Pointer(&a.DestroyProgram)},
		{"nvrtcGetCUBINSize", unsafe.Pointer(&a.GetCUBINSize)},
		{"nvrtcGetCUBIN", unsafe.Pointer(&a.GetCUBIN)},
		{"nvrtcGetProgramLogSize", unsafe.Pointer(&a.GetProgramLogSize)},
		{"nvrtcGetProgramLog", unsafe.Pointer(&a.GetProgramLog)},
		{"nvrtcGetErrorString", unsafe.Pointer(&a.GetErrorString)},
	} {
		p, err := lib.Symbol(f.name)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		*(*unsafe.Pointer)(f.to) = p
	}
	// NVRTC looks for its built-in functions when it compiles for the first time.
	var major, minor C.int
	if code := C.agr_version(a, &major, &minor); code == 0 {
		if err := lib.Beside(fmt.Sprintf("libnvrtc-builtins.so.%d.%d", major, minor)); err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	loaded.api, loaded.path = a, lib.Path()
	return nil
}

// Version returns NVRTC's version, as 12.6. It is the CUDA toolkit's.
func Version() (string, error) {
	a, err := library()
	if err != nil {
		return "", err
	}
	var major, minor C.int
	if code := C.agr_version(a, &major, &minor); code != 0 {
		return "", fail(a, "nvrtcVersion", code)
	}
	return fmt.Sprintf("%d.%d", major, minor), nil
}

// Path returns the file that NVRTC was loaded from.
func Path() (string, error) {
	_, err := library()
	return loaded.path, err
}

// Compile compiles the CUDA C++ text src for the architecture arch (sm_90) and
// returns the machine code, and the compiler's log, which may hold warnings. name
// stands for the file in the log. It may be called from several goroutines.
func Compile(src, name, arch string, opts ...string) (cubin []byte, log string, err error) {
	a, err := library()
	if err != nil {
		return nil, "", err
	}
	csrc, cname := C.CString(src), C.CString(name)
	defer C.free(unsafe.Pointer(csrc))
	defer C.free(unsafe.Pointer(cname))
	var p C.program
	if code := C.agr_create(a, &p, csrc, cname); code != 0 {
		return nil, "", fail(a, "nvrtcCreateProgram", code)
	}
	defer C.agr_destroy(a, p)

	options, free := cstrings(append([]string{"--gpu-architecture=" + arch}, opts...))
	defer free()
	compiled := C.agr_compile(a, p, C.int(len(options)), &options[0])
	if log, err = programLog(a, p); err != nil {
		return nil, "", err
	}
	switch compiled {
	case 0:
	case compilationError:
		return nil, log, fmt.Errorf("%w: %s for %s", ErrCompile, name, arch)
	default:
		return nil, log, fail(a, "nvrtcCompileProgram", compiled)
	}

	var n C.size_t
	if code := C.agr_cubin_size(a, p, &n); code != 0 {
		return nil, log, fail(a, "nvrtcGetCUBINSize", code)
	}
	if n == 0 {
		return nil, log, fmt.Errorf("%w: no machine code for %s: name a real architecture, such as sm_90", ErrCompile, arch)
	}
	cubin = make([]byte, n)
	if code := C.agr_cubin(a, p, (*C.char)(unsafe.Pointer(&cubin[0]))); code != 0 {
		return nil, log, fail(a, "nvrtcGetCUBIN", code)
	}
	return cubin, log, nil
}

func programLog(a *C.api, p C.program) (string, error) {
	var n C.size_t
	if code := C.agr_log_size(a, p, &n); code != 0 {
		return "", fail(a, "nvrtcGetProgramLogSize", code)
	}
	if n == 0 {
		return "", nil
	}
	text := make([]byte, n)
	if code := C.agr_log(a, p, (*C.char)(unsafe.Pointer(&text[0]))); code != 0 {
		return "", fail(a, "nvrtcGetProgramLog", code)
	}
	return strings.TrimSpace(strings.TrimRight(string(text), "\x00")), nil
}

// cstrings copies a list to C, where the pointers to the strings must lie too.
func cstrings(list []string) (out []*C.char, free func()) {
	n := len(list)
	mem := C.malloc(C.size_t(n) * C.size_t(unsafe.Sizeof((*C.char)(nil))))
	out = unsafe.Slice((**C.char)(mem), n)
	for i, s := range list {
		out[i] = C.CString(s)
	}
	return out, func() {
		for _, s := range out {
			C.free(unsafe.Pointer(s))
		}
		C.free(mem)
	}
}

func fail(a *C.api, call string, code C.int) error {
	return fmt.Errorf("nvrtc: %s: %s (%d)", call, C.GoString(C.agr_text(a, code)), code)
}
