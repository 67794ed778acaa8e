//go:build cuda

package nvrtc_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/internal/cuda/nvrtc"
)

// probe makes the test binary print what Compile says and end: NVRTC is looked for
// once in a process.
const probe = "AGRDIST_TEST_PROBE"

func TestMain(m *testing.M) {
	if os.Getenv(probe) != "" {
		_, _, err := nvrtc.Compile("", "empty.cu", "sm_90")
		if err != nil {
			os.Stdout.WriteString(err.Error())
		}
		os.Exit(0)
	}
	os.Exit(cudatest.Main(m))
}

const good = `extern "C" __global__ void fill(float *x, float v) { x[threadIdx.x] = v; }`

func TestCompile(t *testing.T) {
	image, log, err := nvrtc.Compile(good, "fill.cu", "sm_90", "--std=c++17", "--fmad=false")
	require.NoError(t, err, log)
	require.NotEmpty(t, image)
	require.Empty(t, log)
	again, _, err := nvrtc.Compile(good, "fill.cu", "sm_90", "--std=c++17", "--fmad=false")
	require.NoError(t, err)
	require.Equal(t, image, again)

	v, err := nvrtc.Version()
	require.NoError(t, err)
	require.Regexp(t, `^\d+\.\d+$`, v)
	path, err := nvrtc.Path()
	require.NoError(t, err)
	require.FileExists(t, path)
}

func TestCompileErrors(t *testing.T) {
	_, log, err := nvrtc.Compile("extern \"C\" __global__ void fill(float *x) {\n  x[threadIdx.x] = w;\n}", "fill.cu", "sm_90")
	require.ErrorIs(t, err, nvrtc.ErrCompile)
	require.EqualError(t, err, "nvrtc: compilation failed: fill.cu for sm_90")
	require.Regexp(t, `fill\.cu[:(]2`, log, "the line is the source's")

	_, _, err = nvrtc.Compile(good, "fill.cu", "sm_90", "--no-such-option")
	require.Error(t, err)
	require.NotErrorIs(t, err, nvrtc.ErrCompile)
	require.Contains(t, err.Error(), "INVALID_OPTION")
}

// TestHostLambda: without a word on where it runs, a generic lambda is the host's; a
// plain one goes where the function around it goes.
func TestHostLambda(t *testing.T) {
	const src = `
extern "C" __global__ void fill(float *x) {
  auto f = [=](auto i) { x[i] = 1; };
  f(threadIdx.x);
}`
	_, log, err := nvrtc.Compile(src, "lambda.cu", "sm_90")
	require.ErrorIs(t, err, nvrtc.ErrCompile)
	require.Contains(t, log, "lambda.cu(3)")
	require.Contains(t, log, "-default-device")
	_, log, err = nvrtc.Compile(strings.Replace(src, "auto i", "int i", 1), "lambda.cu", "sm_90")
	require.NoError(t, err, log)
	_, log, err = nvrtc.Compile(src, "lambda.cu", "sm_90", "--device-as-default-execution-space")
	require.NoError(t, err, log)
}

// TestCompileAtOnce: from several goroutines, each gets its own result.
func TestCompileAtOnce(t *testing.T) {
	var wg sync.WaitGroup
	sizes, errs := make([]int, 4), make([]error, 4)
	for i := range sizes {
		wg.Go(func() {
			src := strings.ReplaceAll(good, "fill", "fill"+strings.Repeat("x", 100*i))
			var image []byte
			image, _, errs[i] = nvrtc.Compile(src, "fill.cu", "sm_90")
			sizes[i] = len(image)
		})
	}
	wg.Wait()
	for i, err := range errs {
		require.NoError(t, err)
		if i > 0 {
			require.Greater(t, sizes[i], sizes[i-1])
		}
	}
}

func TestNoCompiler(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.so")
	out, err := exec.CommandContext(t.Context(), "gcc", "-shared", "-o", empty, "-x", "c", os.DevNull).CombinedOutput()
	require.NoError(t, err, "%s", out)
	missing := filepath.Join(dir, "libnvrtc.so.12")
	for path, want := range map[string]string{
		missing: "nvrtc: no CUDA compiler: dl: not found: " + missing + " (from AGRDIST_LIBNVRTC)",
		empty:   "nvrtc: no CUDA compiler: dl: no such function: nvrtcVersion in " + empty,
	} {
		require.Equal(t, want, compileIn(t.Context(), t, nvrtc.LibraryVariable+"="+path))
	}
}

// compileIn returns what Compile says in a process of its own.
func compileIn(ctx context.Context, t *testing.T, env ...string) string {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(append(os.Environ(), probe+"=1"), env...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}
