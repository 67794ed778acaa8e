package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/eval/suite"
	"github.com/agrdist/agrdist/metrics"
)

// judged evaluates a model and returns the record without what differs from call to
// call.
func judged(t *testing.T, from string, more ...string) suite.Record {
	t.Helper()
	p := startEnv(t, []string{"XDG_CACHE_HOME=" + filepath.Join(scratch, "cache")}, evaluating(from, more...)...)
	p.wait()
	p.ended(exitOK)
	var r suite.Record
	require.NoError(t, json.Unmarshal([]byte(p.stdout.String()), &r))
	require.Equal(t, r.Digest(), r.ID)
	return timeless(r)
}

func timeless(r suite.Record) suite.Record {
	r.Time, r.Seconds, r.From = time.Time{}, 0, ""
	return r
}

func evaluating(from string, more ...string) []string {
	return append([]string{"eval", "--from", from, "-n", "48", "--batch", "8", "--steps", "5", "--json"}, more...)
}

// copyOf is a copy of the reference run, to write to.
func copyOf(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "run")
	require.NoError(t, os.CopyFS(dir, os.DirFS(reference(t))))
	return dir
}

// A result is a function of its definition: any number of workers, from the run or
// its checkpoint, killed in the middle or not.
func TestEval(t *testing.T) {
	t.Parallel()
	dir := copyOf(t)
	want := judged(t, dir, "--workers", "1")
	require.Equal(t, "ema", want.Weights)
	require.EqualValues(t, tinySteps, want.Step)
	for _, m := range []string{"digits-fd", "digits-is", "digits-kd", "digits-precision", "digits-recall", "digits-density", "digits-coverage", "digits-sure"} {
		require.Contains(t, want.Metrics, m)
	}
	again := run(t, "eval", "--from", dir, "-n", "48", "--batch", "8", "--steps", "5").ended(exitOK)
	require.Contains(t, again.stdout.String(), "--again computes it again")
	require.Equal(t, want, judged(t, dir, "--again", "--workers", "3"))

	other := copyOf(t)
	checkpoint := filepath.Join(other, "checkpoints", "step-"+itoa(tinySteps))
	args := evaluating(checkpoint, "--workers", "2")
	p := start(t, args...)
	work := filepath.Join(other, "eval", want.ID+".features")
	p.await("the first block", func() bool {
		info, err := os.Stat(work)
		_, done := os.Stat(filepath.Join(other, "eval.jsonl"))
		return err == nil && info.Size() > 0 || done == nil
	})
	_ = p.cmd.Process.Kill() // where the machine is fast, it has ended
	p.wait()
	require.Equal(t, want, judged(t, checkpoint, "--workers", "2"))
	require.NoFileExists(t, work)

	raw := judged(t, dir, "--raw")
	require.Equal(t, "raw", raw.Weights)
	require.NotEqual(t, want.WeightsDigest, raw.WeightsDigest)
	require.NotEqual(t, want.Metrics, raw.Metrics)
	list, err := suite.ReadRecords(filepath.Join(dir, "eval.jsonl"))
	require.NoError(t, err)
	require.Len(t, list, 3)
}

// Where images are held out the denoising loss is measured on them, and the reference
// is without them.
func TestEvalHeldOut(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	run(t, training(dir, "--set", "data.holdout=97", "--set", "train.steps=4")...).ended(exitOK)
	r := judged(t, dir)
	require.Equal(t, 1700, r.Reference.Images)
	require.Equal(t, 97, r.HeldOut.Images)
	require.InDelta(t, 1, r.Metrics["heldout-loss"].Value, 0.2, "a model that has learned nothing predicts nothing")
	require.Positive(t, *r.Metrics["heldout-loss"].Deviation)
	require.Equal(t, 97, judged(t, dir, "--reference", "heldout").Reference.Images)
}

// heldout.every measures the held-out loss during a run: the same numbers on any number of
// workers, those of agrdist eval, and no bit of the model is another.
func TestHeldOutLossWhileTraining(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	train := func(name string, more ...string) (losses []metrics.Event, digest string) {
		dir := filepath.Join(root, name)
		run(t, training(dir, append([]string{
			"--set", "data.holdout=97", "--set", "sample.count=0",
			"--set", "model.num_class_embeds=11", "--set", "data.label_dropout=0.1",
		}, more...)...)...).ended(exitOK)
		for _, e := range events(t, dir) {
			if e.Event == metrics.EventEval {
				e.Time = ""
				losses = append(losses, e)
			}
		}
		return losses, finish(t, dir).ModelDigest
	}
	none, digest := train("none", "--workers", "2")
	require.Empty(t, none)
	one, same := train("one", "--workers", "1", "--set", "heldout.every=10")
	require.Equal(t, digest, same)
	var steps []int64
	for _, e := range one {
		steps = append(steps, e.Step)
		require.Equal(t, 97, e.Images)
		require.Equal(t, "ema", e.Weights)
	}
	require.Equal(t, []int64{10, 20, 30, tinySteps}, steps)
	three, same := train("three", "--workers", "3", "--set", "heldout.every=10")
	require.Equal(t, digest, same)
	require.Equal(t, one, three)
	raw, same := train("raw", "--workers", "2", "--set", "heldout.every=1000", "--set", "heldout.raw=true")
	require.Equal(t, digest, same)
	require.Len(t, raw, 1)
	require.Equal(t, "raw", raw[0].Weights)

	for name, e := range map[string]metrics.Event{"--ema": one[3], "--raw": raw[0]} {
		r := judged(t, filepath.Join(root, "none"), name)
		want := r.Metrics["heldout-loss"]
		require.InEpsilon(t, want.Value, *e.HeldOutLoss, 1e-6, "agrdist eval %s", name)
		require.InEpsilon(t, *want.Deviation, *e.HeldOutStdErr, 1e-5)
	}
	// A conditional model's images are checked against the classes they were asked for.
	plain, guided := judged(t, filepath.Join(root, "none")), judged(t, filepath.Join(root, "none"), "--guidance", "3")
	require.Contains(t, plain.Metrics, "digits-accuracy")
	require.NotEqual(t, plain.ID, guided.ID)
	require.NotEqual(t, plain.Metrics["digits-fd"], guided.Metrics["digits-fd"])
	require.Equal(t, 3.0, *guided.Sampler.Guidance)
	refused(t, run(t, training(filepath.Join(root, "refused"), "--set", "heldout.every=10")...), exitConfig, "data.holdout")
}

func TestEvalRefusals(t *testing.T) {
	t.Parallel()
	dir := reference(t)
	refused(t, run(t, "eval"), exitUsage, "--from")
	refused(t, run(t, "eval", "--from", dir, "--raw", "--ema"), exitUsage, "--raw and --ema")
	refused(t, run(t, "eval", "--from", dir, "-n", "-1"), exitUsage, "-n -1")
	refused(t, run(t, "eval", "--from", dir, "-n", "1"), exitConfig, "at least 2")
	refused(t, run(t, "eval", "--from", dir, "--reference", "/no/such.npz"), exitConfig, "/no/such.npz", "--reference")
	refused(t, run(t, "eval", "--from", dir, "--reference", "../../eval/testdata/object.npz"), exitConfig, "Python objects")
	refused(t, run(t, "eval", "--from", dir, "--reference", "../../eval/testdata/statistics.npz"), exitConfig, "16 features", "64")
	refused(t, run(t, "eval", "--from", dir, "--inception", "../../checkpoint/pth/testdata/zip.pth"), exitConfig, "not the published file", "SHA-256")
	refused(t, run(t, "eval", "--from", dir, "--inception", "/no/such.pth"), exitConfig, "pt_inception-2015-12-05-6726825d.pth")
	refused(t, run(t, "eval", "--from", dir, "--reference", "heldout"), exitConfig, "data.holdout")
	refused(t, run(t, "eval", "--from", dir, "--reference", "test"), exitConfig, "the split is \"test\"; only cifar10 has one")
	refused(t, run(t, "eval", "--from", dir, "--sampler", "euler"), exitConfig, `"euler"`)
	refused(t, run(t, "eval", "--from", filepath.Join(dir, "nothing")), exitFailed, "no such directory")
}

// Images that were written to files score as the model that they come from does, from a
// directory and from an array; nothing of the work is left behind.
func TestEvalImages(t *testing.T) {
	t.Parallel()
	dir := copyOf(t)
	want := judged(t, dir)
	work := t.TempDir()
	for _, out := range []string{filepath.Join(work, "pngs"), filepath.Join(work, "a.npz")} {
		run(t, "sample", "--from", dir, "-n", "48", "--steps", "5", "--out", out).ended(exitOK)
		cache := filepath.Join(work, "cache")
		p := startEnv(t, []string{"XDG_CACHE_HOME=" + cache}, "eval", "--from", out, "--data", "digits", "--batch", "8", "--json")
		p.ended(exitOK)
		var r suite.Record
		require.NoError(t, json.Unmarshal([]byte(p.stdout.String()), &r))
		require.Equal(t, "images", r.Weights)
		require.Nil(t, r.Sampler)
		require.Equal(t, want.Metrics, r.Metrics)
		require.Equal(t, want.Reference, r.Reference)
		left, err := filepath.Glob(filepath.Join(cache, "agrdist", "eval-*"))
		require.NoError(t, err)
		require.Empty(t, left)
	}
	// Images as a reference, of themselves: no distance, all precise.
	p := run(t, "eval", "--from", filepath.Join(work, "a.npz"), "--data", "digits", "--reference", filepath.Join(work, "pngs"), "--json").ended(exitOK)
	var r suite.Record
	require.NoError(t, json.Unmarshal([]byte(p.stdout.String()), &r))
	require.InDelta(t, 0, r.Metrics["digits-fd"].Value, 1e-4)
	require.InDelta(t, 1, r.Metrics["digits-precision"].Value, 0)
	p = run(t, "eval", "--from", "digits", "--data", "digits", "-n", "20").ended(exitOK)
	require.Contains(t, p.stdout.String(), "digits, 20 images, against digits")

	npz := filepath.Join(work, "a.npz")
	refused(t, run(t, "eval", "--from", npz), exitUsage, "--data NAME,DIR", "--reference")
	refused(t, run(t, "eval", "--from", npz, "--data", "digits", "--steps", "5"), exitUsage, "--steps is for models")
	refused(t, run(t, "eval", "--from", npz, "--data", "digits", "-n", "49"), exitConfig, "49 images of npz "+npz+", which has 48")
	refused(t, run(t, "eval", "--from", "../../eval/testdata/object.npz", "--data", "digits"), exitFailed, `has arrays ["mu" "sigma"]; call the one with the images arr_0`)
	refused(t, run(t, "eval", "--from", "../../eval/testdata/features.npz", "--data", "digits"), exitFailed, `"logits"]; call the one with the images arr_0`)
	refused(t, run(t, "eval", "--from", t.TempDir(), "--data", "digits"), exitFailed, "is empty; give a directory of images")
	mixed := filepath.Join(work, "mixed")
	require.NoError(t, os.CopyFS(mixed, os.DirFS(filepath.Join(work, "pngs"))))
	run(t, "sample", "--from", dir, "-n", "3", "--steps", "2", "--out", filepath.Join(mixed, "grid.png")).ended(exitOK)
	refused(t, run(t, "eval", "--from", mixed, "--data", "digits"), exitFailed, "grid.png", "squares of one size")
	refused(t, run(t, "eval", "--from", dir, "--reference", mixed), exitConfig, "grid.png", "--reference")
	torn, err := os.ReadFile(npz)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(npz, torn[:len(torn)/2], 0o600))
	refused(t, run(t, "eval", "--from", npz, "--data", "digits"), exitFailed, "not a valid npz file")
}
