//go:build cuda

package cudnn

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/cuda/cublaslt"
	"github.com/agrdist/agrdist/internal/cuda/dl"
	"github.com/agrdist/agrdist/internal/cuda/nvrtc"
)

// The tests of this file check the bindings against NVIDIA's own files, which
// need no GPU for it. They run where the environment says where those are; pip
// has them: nvidia-cudnn-cu12, nvidia-cublas-cu12, nvidia-cuda-runtime-cu12 and,
// for the headers, nvidia-cuda-nvcc-cu12.
const (
	envInclude = "AGRDIST_TEST_CUDA_INCLUDE" // directories with headers
	envLib     = "AGRDIST_TEST_CUDA_LIB"     // directories with libraries
)

// TestHeaders compares api.h with the library's header: every value, every
// prototype, the layout of every structure.
func TestHeaders(t *testing.T) {
	list := os.Getenv(envInclude)
	if list == "" {
		t.Skip(envInclude + " is not set")
	}
	args := []string{"-std=gnu11", "-fsyntax-only", "-Wall", "-Werror"}
	for _, dir := range filepath.SplitList(list) {
		args = append(args, "-isystem", dir)
	}
	out, err := exec.CommandContext(t.Context(), "gcc", append(args, "testdata/headers.c")...).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// TestRealLibrary opens cuDNN itself: every function is there.
func TestRealLibrary(t *testing.T) {
	list := os.Getenv(envLib)
	if list == "" {
		t.Skip(envLib + " is not set")
	}
	for _, env := range []string{EnvLibrary, cublaslt.EnvLibrary, nvrtc.LibraryVariable} {
		t.Setenv(env, "")
	}
	t.Setenv(dl.PathVariable, list)
	lib, err := Open()
	require.NoError(t, err)
	require.Greater(t, lib.Version(), 90000)
	t.Logf("%s is version %d", lib.Path(), lib.Version())
	require.True(t, dl.Loaded("libcublasLt.so.13") || dl.Loaded("libcublasLt.so.12"), "cuDNN's engines look for it by name")
	require.True(t, dl.Loaded("libnvrtc.so.13") || dl.Loaded("libnvrtc.so.12"), "as above")
	require.NoError(t, lib.lib.Beside("libcudnn_engines_precompiled.so.9"), "what the engines need is found")
	require.EqualError(t, lib.err("op", 3000), "cudnn: op: CUDNN_STATUS_NOT_SUPPORTED")
}
