//go:build cuda

package cudatest

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// GPUVariable names the environment variable that makes Main leave the real
// libraries in place.
const GPUVariable = "AGRDIST_TEST_GPU"

//go:embed doubles
var sources embed.FS

// library is one double: its file, the variable that points the loader at it, and
// what it is made of.
type library struct {
	file, env        string
	sources, headers []string
}

const compiler = "libnvrtc.so.12"

// Variables that let the doubles run under an emulator of another processor: what
// compiles for that processor, and what a process of the test's own is started with.
const (
	gxxVariable = "AGRDIST_FAKE_CXX"
	runVariable = "AGRDIST_TEST_EXEC"
)

// gxx is the compiler of the doubles, and of the kernels that they run.
func gxx() string {
	if v := os.Getenv(gxxVariable); v != "" {
		return v
	}
	return "g++"
}

// Command is exec.CommandContext of a program that was built for this processor, such as
// the test itself.
func Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	line := append(strings.Fields(os.Getenv(runVariable)), program)
	line = append(line, args...)
	return exec.CommandContext(ctx, line[0], line[1:]...)
}

var libraries = []library{
	{
		"libcuda.so.1", "AGRDIST_LIBCUDA",
		[]string{"device.cc", "context.cc", "stream.cc", "graph.cc", "memory.cc", "module.cc", "simt.cc", "races.cc"},
		[]string{"fakecuda.h", "device.h", "simt.h", "simt_run.h", "switch.h", "races.h"},
	},
	{compiler, "AGRDIST_LIBNVRTC", []string{"nvrtc.cc"}, []string{"simt.h", "kernel_prelude.h", "kernel_math.h", "kernel_races.h"}},
	{"libcudnn.so.9", "AGRDIST_LIBCUDNN", []string{"libcudnn.cc"}, []string{"fakecuda.h", "library.h"}},
	{"libcublasLt.so.12", "AGRDIST_LIBCUBLASLT", []string{"libcublaslt.cc"}, []string{"fakecuda.h", "library.h"}},
	{"libnccl.so.2", "AGRDIST_LIBNCCL", []string{"libnccl.cc"}, []string{"fakecuda.h", "library.h", "libnccl_ranks.h"}},
}

// Main is the body of a TestMain: it sets the doubles up and runs the tests. The
// result is for os.Exit.
func Main(m *testing.M) int {
	if err := Setup(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// Real reports whether the tests run on the real libraries.
func Real() bool { return os.Getenv(GPUVariable) != "" }

// Setup builds the doubles where that was not done yet and sets the environment to
// them, unless the tests shall run on a GPU. It comes before the first use of a
// library.
func Setup() error {
	if Real() {
		return nil
	}
	env, err := Env(context.Background())
	if err != nil {
		return err
	}
	for _, kv := range env {
		k, v, _ := strings.Cut(kv, "=")
		if err := os.Setenv(k, v); err != nil {
			return fmt.Errorf("cudatest: %w", err)
		}
	}
	return nil
}

// Env returns what to add to the environment of a process that shall use the
// doubles, and builds them where that was not done yet. On a GPU there is nothing to
// add.
func Env(ctx context.Context) ([]string, error) {
	if Real() {
		return nil, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("cudatest: %w", err)
	}
	cache = filepath.Join(cache, "agrdist", "cudatest")
	var env []string
	for _, l := range libraries {
		if !l.present() {
			continue
		}
		dir, err := l.build(ctx, cache)
		if err != nil {
			return nil, fmt.Errorf("cudatest: %s: %w", l.file, err)
		}
		env = append(env, l.env+"="+filepath.Join(dir, l.file))
		if l.file == compiler {
			kernels := filepath.Join(cache, "kernels")
			if err := os.MkdirAll(kernels, 0o755); err != nil {
				return nil, fmt.Errorf("cudatest: %w", err)
			}
			env = append(env, "AGRDIST_FAKE_PRELUDE="+filepath.Join(dir, "kernel_prelude.h"), "AGRDIST_FAKE_CACHE="+kernels)
		}
	}
	return env, nil
}

// build makes the library in a directory of the cache that is named by the hash of
// its sources, once a version of them: the lock keeps test binaries that start at the
// same time from doing it twice.
func (l library) build(ctx context.Context, cache string) (string, error) {
	files := slices.Concat(l.sources, l.headers)
	stamp, err := hash(files)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, l.file+"-"+stamp)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(dir, l.file)); err == nil {
		return dir, nil
	}
	for _, name := range files {
		text, err := sources.ReadFile("doubles/" + name)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return "", err
		}
	}
	return dir, l.compile(ctx, dir, stamp)
}

// present tells whether the double exists.
func (l library) present() bool {
	_, err := fs.Stat(sources, "doubles/"+l.sources[0])
	return err == nil
}

func hash(files []string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, flags, "soname", gxx(), runtime.GOARCH)
	for _, name := range files {
		text, err := sources.ReadFile("doubles/" + name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n", name, len(text))
		h.Write(text)
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}

var flags = []string{
	"-std=c++17", "-O2", "-fPIC", "-shared", "-pthread", "-U_FORTIFY_SOURCE", "-ffp-contract=off", "-Wl,-Bsymbolic",
}

// compile makes the library. A failure carries the compiler's words.
func (l library) compile(ctx context.Context, dir, stamp string) error {
	args := append(slices.Clone(flags), "-Wl,-soname,"+l.file, "-DAGR_STAMP="+number(stamp), "-o", l.file+".part")
	args = append(append(args, l.sources...), "-ldl")
	cmd := exec.CommandContext(ctx, gxx(), args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("the doubles are built with %s: %w", gxx(), err)
	}
	if err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return os.Rename(filepath.Join(dir, l.file+".part"), filepath.Join(dir, l.file))
}

// number is the stamp as a version number for the compiler's double.
func number(stamp string) string {
	v, err := strconv.ParseUint(stamp[:7], 16, 64)
	if err != nil {
		panic(err) // a hash is hexadecimal
	}
	return strconv.FormatUint(v, 10)
}
