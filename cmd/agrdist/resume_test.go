package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/metrics"
	"github.com/agrdist/agrdist/recipe"
	"github.com/agrdist/agrdist/rundir"
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

// A checkpoint is not continued with other kernels without a word.
func TestResumeOnOtherKernels(t *testing.T) {
	t.Parallel()
	dir := copied(t)
	args := training(dir, "--set", "train.steps=34")
	if kernels(t, dir) == "cpu/go" {
		t.Skip("this processor has one set of kernels")
	}
	other := []string{"AGRDIST_CPU=go"}
	p := startEnv(t, other, args...)
	p.ended(exitConfig)
	require.Contains(t, p.stderr.String(), "was computed on "+kernels(t, dir)+"; here it would be continued on cpu/go")
	require.Contains(t, p.stderr.String(), "Either set AGRDIST_CPU="+strings.TrimPrefix(kernels(t, dir), "cpu/")+", or accept that with --allow-other-bits")
	require.Equal(t, int64(32), finish(t, dir).Step, "nothing was done")

	p = startEnv(t, other, append(args, "--allow-other-bits")...)
	p.ended(exitOK)
	require.Contains(t, p.stderr.String(), "the model will not be the same as an undisturbed run's")
	require.Equal(t, "cpu/go", kernels(t, dir))
	p = startEnv(t, other, append(args, "--set", "train.steps=35")...)
	p.ended(exitOK) // it is that machine's now
}

// kernels is what computed the newest checkpoint.
func kernels(t *testing.T, dir string) string {
	t.Helper()
	store, err := rundir.Checkpoints(dir)
	require.NoError(t, err)
	infos, _, err := store.List()
	require.NoError(t, err)
	return infos[0].Meta[recipe.MetaRounding]
}

// A run's config.yaml means the run that it lies in, wherever that is now.
func TestMovedRun(t *testing.T) {
	t.Parallel()
	was := copied(t)
	dir := was + "-moved"
	require.NoError(t, os.Rename(was, dir))
	p := run(t, "run", "-c", filepath.Join(dir, "config.yaml"), "--set", "train.steps=34").ended(exitOK)
	require.Contains(t, p.stderr.String(), "lies in a run's directory, which is used")
	require.Contains(t, p.stderr.String(), "agrdist: resuming "+dir+" at step 32 of 34")
	require.NoDirExists(t, was)

	other := filepath.Join(t.TempDir(), "other")
	p = run(t, "run", "-c", filepath.Join(dir, "config.yaml"), "--set", "train.steps=2", "--out", other).ended(exitOK)
	require.NotContains(t, p.stderr.String(), "lies in a run's directory")
	require.DirExists(t, filepath.Join(other, "checkpoints", "step-2"))
}

// A directory to resume from that is none is refused before anything is made.
func TestResumeFromNothing(t *testing.T) {
	t.Parallel()
	for _, from := range []string{"/no/such/run", t.TempDir(), filepath.Join(reference(t), "config.yaml")} {
		dir := filepath.Join(t.TempDir(), "run")
		refused(t, run(t, training(dir, "--resume", from)...), exitConfig, "checkpoint.resume: "+from, "give a run's directory")
		require.NoDirExists(t, dir)
	}
}

// Starting from scratch twice within a second sets two runs aside.
func TestResumeNeverTwice(t *testing.T) {
	t.Parallel()
	dir := copied(t)
	short := training(dir, "--resume", "never", "--set", "train.steps=1", "--set", "sample.count=0")
	first := run(t, short...).ended(exitOK).says(`was moved to (\S+)`)
	second := run(t, short...).ended(exitOK).says(`was moved to (\S+)`)
	require.NotEqual(t, first, second)
}

// A directory that is deleted under the run is made again, aloud.
func TestDirectoryDeletedUnderTheRun(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, training(dir, "--set", "train.steps=100000", "--set", "checkpoint.every=0")...)
	p.step(dir, 2)
	require.NoError(t, os.RemoveAll(dir))
	p.says("the run's directory was deleted or moved while it trains")
	p.step(dir, 3)
	p.signal(syscall.SIGTERM)
	p.ended(exitSignal)
	run(t, "checkpoint", "verify", dir).ended(exitOK)
}

// A run that is begun again under another id, as a Kubernetes Job that was deleted and
// applied again, continues in the directory of the first.
func TestDirectoryOfAnotherRunID(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, training(dir, "--set", "cluster.run_id=first", "--set", "checkpoint.every=4")...)
	p.saved(dir)
	require.NoError(t, p.cmd.Process.Kill())
	p.wait()
	p = run(t, training(dir, "--set", "cluster.run_id=second", "--set", "checkpoint.every=4")...).ended(exitOK)
	require.Contains(t, p.stderr.String(), "agrdist: resuming "+dir)
	requireSame(t, dir)
}
