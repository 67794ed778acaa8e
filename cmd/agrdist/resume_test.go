package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/metrics"
)

// copied is a finished run that a test may change.
func copied(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "run")
	require.NoError(t, os.CopyFS(dir, os.DirFS(reference(t))))
	return dir
}

// damage cuts the model's file of a checkpoint short.
func damage(t *testing.T, dir, step string) {
	t.Helper()
	require.NoError(t, os.Truncate(filepath.Join(dir, "checkpoints", step, "model.safetensors"), 1000))
}

// A damaged newest checkpoint is passed over, aloud, and the run goes on from the
// one before it to the same end.
func TestDamagedNewestCheckpoint(t *testing.T) {
	t.Parallel()
	dir := copied(t)
	damage(t, dir, "step-32")
	p := run(t, "checkpoint", "verify", dir).ended(exitFailed)
	require.Contains(t, p.stdout.String(), "step 32: DAMAGED: model.safetensors has 1000 bytes")
	require.Contains(t, p.stdout.String(), "step 24: verified")
	require.Contains(t, p.stderr.String(), "1 of 3 checkpoints")

	p = run(t, training(dir)...).ended(exitOK)
	require.Contains(t, p.stderr.String(), "agrdist: passed over "+filepath.Join(dir, "checkpoints", "step-32")+": model.safetensors has 1000 bytes")
	require.Contains(t, p.stderr.String(), "agrdist: resuming "+dir+" at step 24 of 32")
	times := requireSame(t, dir)
	require.Equal(t, 1, times[24])
	require.Equal(t, 2, times[25])
	p = run(t, "checkpoint", "verify", dir).ended(exitOK)
	require.Contains(t, p.stdout.String(), "step 32: verified")
}

// Where every checkpoint is damaged the run ends before anything is touched: it
// is never mistaken for a new one.
func TestAllCheckpointsDamaged(t *testing.T) {
	t.Parallel()
	dir := copied(t)
	for _, step := range []string{"step-16", "step-24", "step-32"} {
		damage(t, dir, step)
	}
	files := func() map[string]int64 {
		list := map[string]int64{}
		require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || d.Name() == "lock" {
				return err
			}
			info, err := d.Info()
			list[path] = info.Size()
			return err
		}))
		return list
	}
	before := files()
	refused(t, run(t, training(dir)...), exitFailed, "none of the 3 checkpoints", "step 32:", "step 24:", "step 16:", "1000 bytes")
	require.Equal(t, before, files(), "nothing is deleted, nothing is written")
	require.Contains(t, run(t, "checkpoint", "verify", dir).ended(exitFailed).stderr.String(), "--resume never")

	p := run(t, training(dir, "--resume", "never")...).ended(exitOK)
	require.Contains(t, p.stderr.String(), "was moved to")
	requireSame(t, dir)
}

// A finished run says so, and how to go on; the proposal works, and so does a
// longer run that was begun at once.
func TestFinishedRunGoesOn(t *testing.T) {
	t.Parallel()
	dir := copied(t)
	before := events(t, dir)
	p := run(t, training(dir)...).ended(exitOK)
	require.Contains(t, p.stdout.String(), dir+" is finished: 32 of 32 steps, digest "+short(finish(t, dir).ModelDigest))
	require.Contains(t, p.stdout.String(), "add --set train.steps=64")
	require.Contains(t, p.stdout.String(), "add --resume never")
	require.Empty(t, p.stderr.String())
	require.Equal(t, before, events(t, dir))

	p = run(t, training(dir, "--set", "train.steps=36")...).ended(exitOK)
	require.Contains(t, p.stderr.String(), "agrdist: resuming "+dir+" at step 32 of 36")
	longer := filepath.Join(t.TempDir(), "run")
	run(t, training(longer, "--set", "train.steps=36", "--set", "checkpoint.every=0")...).ended(exitOK)
	require.Equal(t, finish(t, longer).ModelDigest, finish(t, dir).ModelDigest)
	require.NotEqual(t, finish(t, reference(t)).ModelDigest, finish(t, dir).ModelDigest)
}

// Starting anew moves the old run aside and destroys nothing of it.
func TestResumeNever(t *testing.T) {
	t.Parallel()
	dir := copied(t)
	p := run(t, training(dir, "--resume", "never")...).ended(exitOK)
	requireOnce(t, dir, requireSame(t, dir))
	aside := p.says(`was moved to (\S+)`)
	require.Equal(t, dir, filepath.Dir(aside))
	require.Equal(t, events(t, reference(t)), events(t, aside))
	run(t, "checkpoint", "verify", aside).ended(exitOK)
	require.FileExists(t, filepath.Join(aside, "samples", "step-32.png"))
	require.FileExists(t, filepath.Join(aside, "config.yaml"))
}

// A run can start from another one's checkpoint.
func TestResumeFromAnotherRun(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	from := filepath.Join(reference(t), "checkpoints", "step-24")
	run(t, training(dir, "--resume", from)...).ended(exitOK)
	times := requireSame(t, dir)
	require.Zero(t, times[24])
	require.Equal(t, 1, times[25])
	require.Equal(t, int64(24), *events(t, dir)[1].ResumedAt)
	require.Equal(t, metrics.EventStart, events(t, dir)[1].Event)
}
