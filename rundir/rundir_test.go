package rundir_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/nn/weights"
	"github.com/agrdist/agrdist/rundir"
)

func tensor(name string, v float32) []weights.Tensor {
	return []weights.Tensor{{Name: name, Shape: []int{2}, Data: []float32{v, v}}}
}

// save writes a checkpoint of a step whose weights are v, averaged v+1.
func save(t *testing.T, d rundir.Dir, step int64, v float32, ema bool) {
	t.Helper()
	s := d.Store(checkpoint.Options{})
	snap := &checkpoint.Snapshot{
		Step: step, Updates: step, Seed: 7, ConfigHash: "h", Config: []byte("seed: 7\n"),
		UNetConfig:      []byte(`{"_class_name": "UNet2DModel"}`),
		SchedulerConfig: []byte(`{"_class_name": "DDPMScheduler"}`),
		Model:           tensor("w", v), Optimizer: tensor("m.w", 0),
	}
	if ema {
		snap.EMA = tensor("w", v+1)
	}
	_, err := s.Save(context.Background(), snap)
	require.NoError(t, err)
	require.NoError(t, s.Close())
}

func at(t *testing.T) rundir.Dir {
	t.Helper()
	d, err := rundir.At(filepath.Join(t.TempDir(), "run"))
	require.NoError(t, err)
	require.NoError(t, d.Make())
	return d
}

func TestOpen(t *testing.T) {
	d := at(t)
	save(t, d, 10, 1, true)
	save(t, d, 20, 2, true)
	lock, err := d.Lock()
	require.NoError(t, err)
	defer func() { require.NoError(t, lock.Unlock()) }()

	exported := filepath.Join(t.TempDir(), "pipe")
	all, err := rundir.Open(t.Context(), string(d), checkpoint.All)
	require.NoError(t, err)
	p, err := all.State.Pipeline(false)
	require.NoError(t, err)
	require.NoError(t, checkpoint.Export(exported, p))

	for _, c := range []struct {
		name, path string
		raw        bool
		kind       rundir.Kind
		read       string
		value      float32
	}{
		{"run, averaged", string(d), false, rundir.Run, d.Checkpoint(20), 3},
		{"run, raw", string(d), true, rundir.Run, d.Checkpoint(20), 2},
		{"its checkpoints", d.Checkpoints(), false, rundir.Run, d.Checkpoint(20), 3},
		{"a checkpoint", d.Checkpoint(10), false, rundir.Checkpoint, d.Checkpoint(10), 2},
		{"diffusers", exported, false, rundir.Pipeline, exported, 3},
		{"diffusers, unet alone", filepath.Join(exported, "unet"), true, rundir.Pipeline, filepath.Join(exported, "unet"), 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := rundir.OpenWeights(t.Context(), c.path, c.raw)
			require.NoError(t, err)
			require.Equal(t, c.kind, s.Kind)
			require.Equal(t, c.read, s.Path)
			require.Equal(t, tensor("w", c.value), s.Weights())
			require.NotEmpty(t, s.State.UNetConfig)
			if c.kind == rundir.Pipeline {
				require.Nil(t, s.Manifest)
				require.False(t, s.Averaged())
				return
			}
			require.Equal(t, !c.raw, s.Averaged())
			require.Equal(t, uint64(7), s.Manifest.Seed)
			require.Equal(t, "seed: 7\n", string(s.State.Config))
		})
	}
}

func TestOpenWithoutAverageIsRaw(t *testing.T) {
	d := at(t)
	save(t, d, 10, 1, false)
	for _, path := range []string{string(d), d.Checkpoint(10)} {
		s, err := rundir.OpenWeights(t.Context(), path, false)
		require.NoError(t, err)
		require.False(t, s.Averaged())
		require.Equal(t, tensor("w", 1), s.Weights())
	}
}

func TestOpenSkipsTheDamaged(t *testing.T) {
	d := at(t)
	save(t, d, 10, 1, true)
	save(t, d, 20, 2, true)
	require.NoError(t, os.Truncate(filepath.Join(d.Checkpoint(20), checkpoint.EMAFile), 9))
	s, err := rundir.OpenWeights(t.Context(), string(d), false)
	require.NoError(t, err)
	require.Equal(t, d.Checkpoint(10), s.Path)
	require.Len(t, s.Skipped, 1)
	require.Equal(t, int64(20), s.Skipped[0].Step)
	require.NoError(t, os.Remove(filepath.Join(d.Checkpoint(10), checkpoint.ManifestFile)))
	_, err = rundir.OpenWeights(t.Context(), string(d), false)
	var none *checkpoint.NoneValidError
	require.ErrorAs(t, err, &none)
	_, err = rundir.Open(t.Context(), d.Checkpoint(10), checkpoint.All)
	require.ErrorContains(t, err, "no manifest.json")
}

func TestWhatCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.txt")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	fresh := at(t)
	require.NoError(t, os.WriteFile(fresh.Config(), nil, 0o600))
	for _, c := range []struct {
		path string
		want error
		text string
	}{
		{filepath.Join(dir, "none"), rundir.ErrMissing, "give a run's directory"},
		{file, rundir.ErrFile, "give a run's directory"},
		{dir, rundir.ErrEmpty, "give a run's directory"},
		{string(fresh), checkpoint.ErrNoCheckpoint, "has not saved any yet"},
	} {
		for _, open := range []func(string) error{
			func(p string) error { _, err := rundir.Find(p); return err },
			func(p string) error { _, err := rundir.Open(t.Context(), p, checkpoint.All); return err },
			func(p string) error { _, err := rundir.OpenWeights(t.Context(), p, false); return err },
			func(p string) error { _, err := rundir.Checkpoints(p); return err },
		} {
			err := open(c.path)
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.path)
			require.ErrorContains(t, err, c.text)
		}
	}
	save(t, fresh, 1, 1, true)
	_, err := rundir.Checkpoints(fresh.Checkpoint(1))
	require.ErrorContains(t, err, "is a checkpoint, not a run's directory")
}

func TestSetAside(t *testing.T) {
	d := at(t)
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	moved, err := d.SetAside(now)
	require.NoError(t, err)
	require.Empty(t, moved, "there was nothing")
	var dirs []string
	for step := range int64(3) { // within one second
		save(t, d, step+1, 1, true)
		require.NoError(t, os.WriteFile(d.Events(), []byte("{}\n"), 0o600))
		moved, err := d.SetAside(now)
		require.NoError(t, err)
		dirs = append(dirs, filepath.Base(moved))
		kind, err := rundir.Find(moved)
		require.NoError(t, err)
		require.Equal(t, rundir.Run, kind, "a run that was set aside can be opened")
		require.FileExists(t, filepath.Join(moved, "events.jsonl"))
		require.NoFileExists(t, d.Events())
		require.NoDirExists(t, d.Checkpoints())
	}
	require.Equal(t, []string{"earlier-20261128-120000", "earlier-20261128-120000-2", "earlier-20261128-120000-3"}, dirs)
}

func TestTidy(t *testing.T) {
	d := at(t)
	require.NoError(t, d.Tidy(t.Context(), true), "nothing is there")
	save(t, d, 1, 1, true)
	require.NoError(t, os.MkdirAll(d.Nodes(), 0o755))
	files := []string{
		filepath.Join(string(d), ".config.yaml.17-1.tmp"), filepath.Join(string(d), ".coordinator.json.17-2.tmp"), filepath.Join(d.Nodes(), ".n.json.17-3.tmp"),
	}
	for _, f := range files {
		require.NoError(t, os.WriteFile(f, []byte("half"), 0o600))
	}
	half := filepath.Join(d.Checkpoints(), ".tmp-step-2-17-1")
	require.NoError(t, os.Mkdir(half, 0o755))
	require.NoError(t, os.WriteFile(d.Config(), []byte("seed: 7\n"), 0o600))

	require.NoError(t, d.Tidy(t.Context(), false))
	for _, f := range files {
		require.NoFileExists(t, f)
	}
	require.DirExists(t, half, "somebody may be writing it")
	for _, n := range []string{"n0", "n1"} {
		one, err := d.OneNode()
		require.NoError(t, err)
		require.True(t, one)
		require.NoError(t, os.WriteFile(filepath.Join(d.Nodes(), n+".json"), []byte("{}"), 0o600))
	}
	one, err := d.OneNode()
	require.NoError(t, err)
	require.False(t, one)
	require.NoError(t, d.Tidy(t.Context(), true))
	require.NoDirExists(t, half)
	require.FileExists(t, d.Config())
	require.DirExists(t, d.Checkpoint(1))
}

// Whoever sees the same directory finds the same name; a copy has another one.
func TestPlace(t *testing.T) {
	d := at(t)
	first, err := d.Place()
	require.NoError(t, err)
	again, err := d.Place()
	require.NoError(t, err)
	require.Equal(t, first, again)
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(string(d), link))
	other, err := rundir.Dir(link).Place()
	require.NoError(t, err)
	require.Equal(t, first, other, "by another path")

	copied := filepath.Join(t.TempDir(), "copy")
	require.NoError(t, os.CopyFS(copied, os.DirFS(string(d))))
	other, err = rundir.Dir(copied).Place()
	require.NoError(t, err)
	require.NotEqual(t, first, other)
	other, err = at(t).Place()
	require.NoError(t, err)
	require.NotEqual(t, first, other)

	// Many at once, as nodes that start together in a shared directory.
	fresh := at(t)
	names := make([]string, 8)
	var wg sync.WaitGroup
	for i := range names {
		wg.Go(func() { names[i], _ = fresh.Place() })
	}
	wg.Wait()
	last, err := fresh.Place()
	require.NoError(t, err)
	require.Contains(t, names, last)
}

func TestWritable(t *testing.T) {
	d := at(t)
	require.NoError(t, d.Writable(), "nothing is there yet")
	for _, dir := range []string{d.Checkpoints(), d.Samples()} {
		require.NoError(t, os.Mkdir(dir, 0o755))
	}
	require.NoError(t, os.WriteFile(d.Events(), []byte("{}\n"), 0o600))
	require.NoError(t, d.Writable())
	entries, err := os.ReadDir(d.Checkpoints())
	require.NoError(t, err)
	require.Empty(t, entries, "nothing is left behind")
	told, err := os.ReadFile(d.Events())
	require.NoError(t, err)
	require.Equal(t, "{}\n", string(told))

	require.NoError(t, os.Remove(d.Checkpoints()))
	require.NoError(t, os.Symlink(filepath.Join(string(d), "gone"), d.Checkpoints()))
	require.ErrorContains(t, d.Writable(), "cannot write to "+d.Checkpoints()+": no such file or directory; give")
	require.NoError(t, os.Remove(d.Checkpoints()))
	require.NoError(t, os.WriteFile(d.Checkpoints(), nil, 0o600))
	require.ErrorContains(t, d.Writable(), "cannot write to "+d.Checkpoints()+": not a directory")
	require.NoError(t, os.Remove(d.Checkpoints()))
	require.NoError(t, os.Remove(d.Events()))
	require.NoError(t, os.Mkdir(d.Events(), 0o755))
	require.ErrorContains(t, d.Writable(), "cannot write to "+d.Events()+": is a directory")
}
