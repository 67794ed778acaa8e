//go:build cuda

package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/internal/cuda/driver"
	"github.com/agrdist/agrdist/internal/cuda/selftest"
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
	require.Contains(t, found["NVRTC"].Text, "; compiled a kernel")
	require.Contains(t, found["cuBLASLt"].Text, "; multiplied two matrices")
	require.Contains(t, found["cuDNN"].Text, "; computed a convolution")
}

func TestMissingLibrary(t *testing.T) {
	t.Parallel()
	for _, l := range libraries(&tries{}) {
		gone := library{name: l.name, override: "AGRDIST_LIBNONE", without: l.without, find: func() (string, string, error) { return "", "", os.ErrNotExist }}
		f := gone.examine()
		require.Equal(t, Note, f.Status)
		require.Contains(t, f.Fix, "AGRDIST_CUDA_PATH")
	}
	require.Equal(t, "12.6.4", number(120604))
	require.Equal(t, "9.28.0", number(92800))
}

// A library that is there and does not work is not "ok".
func TestFoundAndBroken(t *testing.T) {
	var tried tries
	tried.add(0, selftest.Result{})
	tried.add(1, selftest.Result{DNN: selftest.ErrResult})
	tried.add(2, selftest.Result{Device: os.ErrPermission})
	for _, l := range libraries(&tried) {
		l.find = func() (string, string, error) { return "/lib/x.so", "1.2", nil }
		f := l.examine()
		if l.name != "cuDNN" {
			require.Equal(t, OK, f.Status, l.name)
			continue
		}
		require.Equal(t, Finding{
			Status: Note, Name: "cuDNN", Text: "1.2, /lib/x.so: GPU 1: selftest: wrong result",
			Fix: "without it no GPU trains: convolutions are its work; it was found and does not work: " +
				"install it again, from the same release of CUDA as the other libraries",
		}, f)
	}
}

// A path that was set by hand and is wrong is the first thing to look at.
func TestWrongOverride(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none.so")
	all := libraries(&tries{})
	for _, l := range all {
		t.Setenv(l.override, none)
		gone := library{name: l.name, override: l.override, without: l.without, find: func() (string, string, error) { return "", "", os.ErrNotExist }}
		require.Contains(t, gone.examine().Fix, l.override+" names "+none)
	}
	nccl := all[len(all)-1].examine()
	require.Equal(t, Note, nccl.Status)
	require.Contains(t, nccl.Text, none, "the override is the library's own")

	missing := fmt.Errorf("%w: not found", driver.ErrNoLibrary)
	t.Setenv(driver.LibraryVariable, none)
	require.Contains(t, driverFinding(driver.Info{}, missing).Fix, driver.LibraryVariable+" names "+none)
	t.Setenv(driver.LibraryVariable, "")
	require.NotContains(t, driverFinding(driver.Info{}, missing).Fix, driver.LibraryVariable)
}

// A driver that works and shows no GPU, or is too old, says so; what hides GPUs is named.
func TestDriverInPlainWords(t *testing.T) {
	for _, err := range []error{driver.ErrNoDevice, driver.ErrUnusable} {
		t.Setenv("CUDA_VISIBLE_DEVICES", "NoDevFiles")
		f := driverFinding(driver.Info{}, err)
		require.Equal(t, Note, f.Status)
		require.Equal(t, err.Error(), f.Text)
		require.Contains(t, f.Fix, `CUDA_VISIBLE_DEVICES is "NoDevFiles"`)
	}
}
