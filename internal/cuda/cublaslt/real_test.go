//go:build cuda

package cublaslt

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
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

// TestRealLibrary opens cuBLASLt itself: every function is there.
func TestRealLibrary(t *testing.T) {
	list := os.Getenv(envLib)
	if list == "" {
		t.Skip(envLib + " is not set")
	}
	t.Setenv(EnvLibrary, "")
	t.Setenv("AGRDIST_CUDA_PATH", list)
	lib, err := Open()
	require.NoError(t, err)
	require.Greater(t, lib.Version(), 120000)
	t.Logf("%s is version %d", lib.Path(), lib.Version())
	require.EqualError(t, lib.err("op", 15), "cublaslt: op: the requested functionality is not supported (CUBLAS_STATUS_NOT_SUPPORTED)")
}
