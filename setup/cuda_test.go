//go:build cuda

package setup

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/internal/cuda/cudatest"
)

func TestMain(m *testing.M) { os.Exit(cudatest.Main(m)) }

func TestOpenGPU(t *testing.T) {
	for _, device := range []string{"cuda", "auto"} {
		d, err := Open(DeviceConfig{Device: device})
		require.NoError(t, err)
		require.NoError(t, d.Fallback)
		require.Nil(t, d.CPU())
		require.Regexp(t, `^cuda/sm_\d+ with \d+ multiprocessors, NVRTC \d+\.\d+, cuDNN \d+, cuBLASLt \d+$`, d.Rounding)
		require.NoError(t, d.Close())
	}
	_, err := Open(DeviceConfig{Device: "auto", Slot: 9, Workers: 10})
	require.ErrorContains(t, err, "set cluster.workers=", "a wrong number of workers is no reason for the CPU")
}

// A driver and a GPU without NVIDIA's libraries: auto takes the CPU and says why, cuda is
// refused.
func TestNoLibraries(t *testing.T) {
	none := filepath.Join(t.TempDir(), "libcudnn.so.9")
	t.Setenv("AGRDIST_LIBCUDNN", none)
	require.Positive(t, GPUs("auto"))
	d, err := Open(DeviceOf(&config.Config{Device: "auto"}, 0))
	require.NoError(t, err)
	require.NotNil(t, d.CPU())
	require.ErrorContains(t, d.Fallback, none)
	require.NoError(t, d.Close())
	_, err = Open(DeviceConfig{Device: "cuda"})
	require.ErrorContains(t, err, none)
}

// AGR before the clip is refused before anything starts, where a GPU would train.
func TestGPUsRefuseAGRBeforeTheClip(t *testing.T) {
	set := []string{"optimizer.agr_order=before_clip"}
	_, err := Load(config.Source{Set: set, Environ: []string{}})
	require.ErrorContains(t, err, "optimizer.agr_order is before_clip, which GPUs do not have")
	_, err = Load(config.Source{Set: append(set, "device=cpu"), Environ: []string{}})
	require.NoError(t, err)
	_, err = Load(config.Source{Set: append(set, "optimizer.agr=false"), Environ: []string{}})
	require.NoError(t, err)
}
