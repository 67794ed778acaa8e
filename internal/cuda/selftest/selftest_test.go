//go:build cuda

package selftest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/internal/cuda/selftest"
)

// inner makes the test binary run the selftest in a process of its own and print what
// failed: libraries are opened once in a process.
const inner = "AGRDIST_TEST_SELFTEST"

func TestMain(m *testing.M) {
	if os.Getenv(inner) != "" {
		r := selftest.Run(0)
		for name, err := range map[string]error{"device": r.Device, "nvrtc": r.NVRTC, "blas": r.BLAS, "dnn": r.DNN} {
			if err != nil {
				os.Stdout.WriteString(name + ": " + err.Error() + "\n")
			}
		}
		os.Exit(0)
	}
	os.Exit(cudatest.Main(m))
}

func TestAllWork(t *testing.T) {
	require.Equal(t, selftest.Result{}, selftest.Run(0))
	require.Error(t, selftest.Run(99).Device)
}

// A library that is not what its name says fails by itself.
func TestOneFails(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.so")
	out, err := exec.CommandContext(t.Context(), "gcc", "-shared", "-o", empty, "-x", "c", os.DevNull).CombinedOutput()
	require.NoError(t, err, "%s", out)
	for variable, want := range map[string]string{
		"AGRDIST_LIBNVRTC": "nvrtc", "AGRDIST_LIBCUBLASLT": "blas", "AGRDIST_LIBCUDNN": "dnn",
	} {
		self, err := os.Executable()
		require.NoError(t, err)
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), inner+"=1", variable+"="+empty)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Regexp(t, "^"+want+": .*no such function.*\n$", string(out))
	}
}
