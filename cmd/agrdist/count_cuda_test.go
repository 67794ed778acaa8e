//go:build cuda

package main

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/cuda/cudatest"
)

var updateCounts = flag.Bool("update-counts", false, "write what TestGPUCounts counts to testdata")

// What a training step asks of the GPU is what testdata says: kernels, calls, bytes and
// waits. A change is a change of the step's time; -update-counts writes it down.
func TestGPUCounts(t *testing.T) {
	t.Parallel()
	cudatest.Doubles(t, "a GPU's libraries have other algorithms")
	file := filepath.Join("testdata", "count-full-128-bf16.txt")
	env := onGPUs(t, 1, "AGRDIST_FAKE_COMPUTE=none", "AGRDIST_FAKE_GPU_MEMORY=85899345920") // 80 GiB
	p := startEnv(t, env, "bench", "count", "--preset", "full", "--batch", "128", "--precision", "bf16").ended(exitOK)
	if *updateCounts {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(p.stdout.String()), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), p.stdout.String(), "go test -tags cuda ./cmd/agrdist -run TestGPUCounts -update-counts writes the new counts")
}
