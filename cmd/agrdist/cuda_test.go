//go:build cuda

package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/internal/cuda/driver"
	"github.com/agrdist/agrdist/metrics"
)

// onGPUs is the environment of a run on so many GPUs: doubles, or the machine's own
// where it has as many.
func onGPUs(t *testing.T, n int, more ...string) []string {
	t.Helper()
	if cudatest.Real() {
		info, err := driver.Status()
		require.NoError(t, err)
		if n > len(info.Devices) {
			t.Skipf("%d GPUs, the test wants %d", len(info.Devices), n)
		}
		var env, visible []string
		for _, kv := range os.Environ() { // runs get none of ours otherwise
			if strings.HasPrefix(kv, "AGRDIST_LIB") || strings.HasPrefix(kv, "AGRDIST_CUDA_PATH=") || strings.HasPrefix(kv, "AGRDIST_FAKE_") {
				env = append(env, kv)
			}
		}
		for _, d := range info.Devices[:n] {
			visible = append(visible, d.UUID)
		}
		return append(append(env, "CUDA_VISIBLE_DEVICES="+strings.Join(visible, ",")), more...)
	}
	env, err := cudatest.Env(t.Context())
	require.NoError(t, err)
	return append(append(env, "AGRDIST_FAKE_GPUS="+strconv.Itoa(n)), more...)
}

// gpuSteps is the length of a tiny run on GPUs.
const gpuSteps = 10

func onDevice(dir string, more ...string) []string {
	return training(dir, append([]string{
		"--set", "device=cuda", "--set", "train.steps=" + strconv.Itoa(gpuSteps), "--set", "checkpoint.every=3", "--set", "sample.count=2", "--set", "log.measure_every=5", "--set", "train.ema_profiles=[0.1]",
	}, more...)...)
}

func begin(t *testing.T, dir string) metrics.Event {
	t.Helper()
	for _, e := range events(t, dir) {
		if e.Event == metrics.EventStart {
			return e
		}
	}
	require.Fail(t, "no start event")
	return metrics.Event{}
}

// One worker on one GPU, two on two through NCCL, and two that copy through the
// host train the same model, one that is killed on the way included.
func TestGPUs(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	one := filepath.Join(root, "one")
	startEnv(t, onGPUs(t, 1), onDevice(one)...).ended(exitOK)
	want := finish(t, one).ModelDigest
	require.Equal(t, "one device", begin(t, one).Transport)
	require.Contains(t, begin(t, one).Backend, "cuda:0 ")
	require.Len(t, events(t, one)[0].Members, 1, "one worker a GPU is the default")
	requireQuiet(t, one)
	for _, e := range events(t, one) {
		if e.Event == metrics.EventStep {
			require.InDelta(t, 0.95, *e.AGR, 0.0499)
			require.Equal(t, e.Step%5 == 0, e.UpdateNorm != nil, "step %d", e.Step)
		}
		if e.UpdateNorm != nil {
			require.Positive(t, *e.UpdateNorm)
			require.Positive(t, *e.EMADistance)
			require.Greater(t, *e.ParamNorm, *e.UpdateNorm)
		}
	}

	t.Run("nccl", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(root, "two")
		env := onGPUs(t, 2)
		if !cudatest.Real() {
			env = onGPUs(t, 3, "CUDA_VISIBLE_DEVICES=2,1")
		}
		startEnv(t, env, onDevice(dir)...).ended(exitOK)
		require.Len(t, events(t, dir)[0].Members, 2)
		if !cudatest.Real() {
			require.Equal(t, "cuda:0 Double 2", begin(t, dir).Backend)
		}
		require.Contains(t, begin(t, dir).Transport, "nccl 2.")
		require.Equal(t, want, finish(t, dir).ModelDigest)
		requireQuiet(t, dir)
	})
	t.Run("through the host", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(root, "host")
		p := startEnv(t, onGPUs(t, 2, "AGRDIST_LIBNCCL="+filepath.Join(root, "none.so")), onDevice(dir)...).ended(exitOK)
		require.Equal(t, "copies through the host", begin(t, dir).Transport)
		require.Contains(t, p.stderr.String(), "no NCCL: gradients are copied through the host")
		require.Equal(t, want, finish(t, dir).ModelDigest)
	})
	t.Run("ring", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(root, "ring")
		startEnv(t, onGPUs(t, 2), onDevice(dir, "--set", "allreduce.order=ring", "--set", "train.steps=2")...).ended(exitOK)
		require.Regexp(t, "^nccl 2.*its own all-reduce$", begin(t, dir).Transport)
		require.Equal(t, int64(2), finish(t, dir).Steps)
	})
	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(root, "killed")
		p := startEnv(t, onGPUs(t, 2), onDevice(dir)...)
		members := pids(t, p.generation(dir, 1))
		p.step(dir, 2)
		require.NoError(t, syscall.Kill(members[1], syscall.SIGKILL))
		p.ended(exitOK)
		require.Equal(t, members[0], pids(t, p.generation(dir, 2))[0], "the survivor went on")
		require.Equal(t, want, finish(t, dir).ModelDigest)
		requireQuiet(t, dir)
	})
	t.Run("stopped and resumed", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(root, "stopped")
		p := startEnv(t, onGPUs(t, 2), onDevice(dir)...)
		p.step(dir, 2)
		p.signal(syscall.SIGTERM)
		p.ended(exitSignal)
		startEnv(t, onGPUs(t, 1), onDevice(dir)...).ended(exitOK)
		require.Equal(t, want, finish(t, dir).ModelDigest)
	})
}

// What cannot be trained with is refused in plain words, and never retried.
func TestGPURefusals(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	none := "AGRDIST_LIBCUDA=" + filepath.Join(root, "none.so")
	for name, c := range map[string]struct {
		env, args, want []string
	}{
		"more workers than GPUs": {onGPUs(t, 1), []string{"--workers", "2"}, []string{"worker 1 has no GPU", "CUDA shows 1", "cluster.workers=1"}},
		"too little memory": {
			onGPUs(t, 1, "AGRDIST_FAKE_GPU_MEMORY="+strconv.Itoa(64<<20)),
			[]string{"--set", "train.global_batch=4096", "--set", "train.chunk=4096"},
			[]string{"GiB of memory free, training needs", "activations of 4096 images", "train.chunk"},
		},
		"no driver": {[]string{none}, nil, []string{"none.so", "agrdist doctor"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if cudatest.Real() && name == "too little memory" {
				t.Skip("this machine's GPU has enough")
			}
			p := startEnv(t, c.env, onDevice(filepath.Join(root, name), c.args...)...).ended(exitConfig)
			for _, part := range c.want {
				require.Contains(t, p.stderr.String(), part)
			}
		})
	}
	t.Run("device auto", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(root, "auto")
		startEnv(t, []string{none}, training(dir, "--set", "train.steps=1")...).ended(exitOK)
		require.Contains(t, begin(t, dir).Backend, "cpu/")
		require.Equal(t, "host", begin(t, dir).Transport)
	})
}
