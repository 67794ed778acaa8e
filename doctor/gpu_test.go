//go:build cuda

package doctor

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/cuda/cudatest"
)

func TestMain(m *testing.M) {
	if err := os.Setenv("AGRDIST_FAKE_GPUS", "2"); err != nil {
		panic(err)
	}
	os.Exit(cudatest.Main(m))
}

func TestGPUs(t *testing.T) {
	if cudatest.Real() {
		t.Skip("the doubles' two GPUs are what is expected here")
	}
	found := map[string]Finding{}
	for _, f := range gpus() {
		found[f.Name] = f
		require.Equal(t, OK, f.Status, "%+v", f)
	}
	require.Contains(t, found["CUDA driver"].Text, "libcuda.so.1")
	require.Regexp(t, `GiB, sm_90, \d+ multiprocessors, GPU-`, found["GPU 1"].Text)
	require.NotEqual(t, found["GPU 0"].Text, found["GPU 1"].Text)
	require.Regexp(t, `^0-1 (NV|P2P|host)$`, found["GPU links"].Text)
	for _, name := range []string{"NVRTC", "cuBLASLt", "cuDNN", "NCCL"} {
		require.Regexp(t, `^\d+\.\d+.*, /`, found[name].Text, name)
	}
}

func TestMissingLibrary(t *testing.T) {
	t.Parallel()
	for _, l := range libraries {
		gone := library{l.name, l.without, func() (string, string, error) { return "", "", os.ErrNotExist }}
		f := gone.examine()
		require.Equal(t, Note, f.Status)
		require.True(t, strings.Contains(f.Mend, "AGRDIST_CUDA_PATH"), f.Mend)
	}
	require.Equal(t, "12.6.4", number(120604))
	require.Equal(t, "9.28.0", number(92800))
}
