package checkpoint

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/leaktest"
	"github.com/agrdist/agrdist/internal/vfs"
	"github.com/agrdist/agrdist/internal/vfs/vfstest"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(helperMode); mode != "" {
		os.Exit(helper(mode))
	}
	leaktest.Main(m)
}

// state is the state of an imaginary run after a step: a function of the step.
func state(step int64) *Snapshot {
	keys := []Tensor{
		{Name: "conv_in.weight", Shape: []int{4, 3, 3, 3}},
		{Name: "conv_in.bias", Shape: []int{4}},
		{Name: "down_blocks.0.attentions.0.to_q.weight", Shape: []int{16, 16}},
		{Name: "scale", Shape: []int{}},
	}
	fill := func(prefix string, salt int64) []Tensor {
		var list []Tensor
		for i, k := range keys {
			n, _ := elements(k.Shape)
			t := Tensor{Name: prefix + k.Name, Shape: k.Shape, Data: make([]float32, n)}
			for j := range t.Data {
				t.Data[j] = float32(math.Sin(float64(step*1000+salt*100+int64(i*10+j)))) * 0.1
			}
			list = append(list, t)
		}
		return list
	}
	return &Snapshot{
		Step: step, Updates: step - step/10, Seed: 1<<63 + 42, ConfigHash: "c0ffee", DataCursor: uint64(step) * 32,
		Config: []byte("seed: 42\n"), UNetConfig: []byte(`{"_class_name":"UNet2DModel"}`), SchedulerConfig: []byte(`{"_class_name":"DDPMScheduler"}`),
		Meta:  map[string]string{"dataset": "digits <8x8> \u2603"},
		Model: fill("", 1), EMA: fill("", 2),
		Optimizer: append(fill("exp_avg.", 3), fill("neg_pre_grad.", 4)...),
	}
}

var testTime = time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)

func testOptions(keep int) Options {
	return Options{Keep: keep, RequireEMA: true, Version: "v0.1.0", Now: func() time.Time { return testTime }}
}

// requireNewest reads the newest checkpoint and requires it to be that of step.
func requireNewest(t *testing.T, s *Store, step int64) {
	t.Helper()
	snap, info, _, err := s.Newest(t.Context())
	require.NoError(t, err)
	require.Equal(t, step, info.Step)
	requireState(t, state(step), snap)
}

// requireState compares all of two states but the order of the tensors.
func requireState(t *testing.T, want, got *Snapshot) {
	t.Helper()
	norm := func(s *Snapshot) Snapshot {
		c := *s
		c.Model, c.EMA, c.Optimizer = sortedByName(s.Model), sortedByName(s.EMA), sortedByName(s.Optimizer)
		for _, list := range [][]Tensor{c.Model, c.EMA, c.Optimizer} {
			for i := range list {
				list[i].Shape = append([]int{}, list[i].Shape...)
			}
		}
		return c
	}
	require.Equal(t, norm(want), norm(got))
	require.Equal(t, Digest(want), Digest(got))
}

func mustSave(t *testing.T, s *Store, step int64) Info {
	t.Helper()
	info, err := s.Save(t.Context(), state(step))
	require.NoError(t, err)
	return info
}

func names(t *testing.T, fsys vfs.FS, dir string) []string {
	t.Helper()
	list, err := fsys.ReadDir(dir)
	require.NoError(t, err)
	return list
}

func steps(t *testing.T, s *Store) []int64 {
	t.Helper()
	infos, bad, err := s.List()
	require.NoError(t, err)
	require.Empty(t, bad)
	var out []int64
	for _, i := range infos {
		out = append(out, i.Step)
	}
	return out
}

// calls returns the calls of f on a file system in memory, so that a test can
// visit every one of them.
func calls(t *testing.T, f func(vfs.FS)) []vfstest.Call {
	t.Helper()
	var list []vfstest.Call
	h := &vfstest.Hooked{FS: vfstest.NewMem(), Hook: func(c vfstest.Call) error {
		list = append(list, c)
		return nil
	}}
	f(h)
	return list
}

func oneLine(t *testing.T, err error) {
	t.Helper()
	require.NotContains(t, err.Error(), "\n")
	require.True(t, strings.HasPrefix(err.Error(), "checkpoint: "), err.Error())
}

func rewrite(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, change(b), 0o600))
}

func background() context.Context { return context.Background() }

func stepPath(dir string, step int64, file string) string {
	return filepath.Join(dir, fmt.Sprintf("step-%d", step), file)
}
