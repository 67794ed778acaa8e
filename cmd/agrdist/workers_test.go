package main

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/metrics"
)

// The number of workers is no part of the model: 2, 3, 4 and 5 give the bits of
// 1. There are 4 chunks, so 3 have unequal shares and the fifth has none.
func TestAnyNumberOfWorkersTrainsTheSameModel(t *testing.T) {
	t.Parallel()
	for workers := 2; workers <= 5; workers++ {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "run")
			p := run(t, training(dir, "--workers", fmt.Sprint(workers))...).ended(exitOK)
			requireOnce(t, dir, requireSame(t, dir))
			require.Len(t, p.generation(dir, 1).Members, workers)

			out := p.stdout.String()
			last := events(t, dir)
			for _, want := range []string{
				fmt.Sprintf("finished: %d steps", tinySteps),
				fmt.Sprintf("loss %.4f, %d workers", *lastStep(t, last).Loss, workers),
				finish(t, dir).ModelDigest,
				filepath.Join(dir, "checkpoints", fmt.Sprintf("step-%d", tinySteps)) + " (verified)",
				filepath.Join(dir, "samples", fmt.Sprintf("step-%d.png", tinySteps)),
				filepath.Join(dir, "events.jsonl"),
				" sample --from " + dir,
			} {
				require.Contains(t, out, want)
			}
			for _, f := range []string{"config.yaml", "samples/step-32.png", "checkpoints/step-32/manifest.json"} {
				require.FileExists(t, filepath.Join(dir, f))
			}
		})
	}
}

func lastStep(t *testing.T, list []metrics.Event) (last metrics.Event) {
	t.Helper()
	for _, e := range list {
		if e.Event == metrics.EventStep {
			last = e
		}
	}
	require.Equal(t, metrics.EventStep, last.Event)
	return last
}

// The ring's sums are its own for each number of workers; with 2 they happen to
// be the tree's, as the sum of two numbers has one order only.
func TestRing(t *testing.T) {
	t.Parallel()
	for _, workers := range []int{2, 3} {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "run")
			run(t, training(dir, "--workers", fmt.Sprint(workers), "--set", "allreduce.order=ring")...).ended(exitOK)
			require.Equal(t, int64(tinySteps), finish(t, dir).Steps)
			require.Equal(t, "ring", events(t, dir)[1].Order)
			tree := finish(t, reference(t)).ModelDigest
			if workers == 2 {
				require.Equal(t, tree, finish(t, dir).ModelDigest)
			} else {
				require.NotEqual(t, tree, finish(t, dir).ModelDigest)
			}
		})
	}
}

// Two agents with their own directories, one of which joins the other.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	a := start(t, training(one, "--nodes", "2", "--workers", "1")...)
	b := start(t, training(two, "--nodes", "2", "--workers", "1", "--join", a.says(`--join (\S+)`))...)
	a.ended(exitOK)
	b.ended(exitOK)
	requireOnce(t, one, requireSame(t, one))
	requireQuiet(t, two)
	require.Len(t, a.generation(one, 1).Members, 2)
	digest := finish(t, one).ModelDigest
	require.Contains(t, a.stdout.String(), digest)
	require.Contains(t, b.stdout.String(), digest)
	require.Contains(t, b.stdout.String(), "samples and events are on node ")
	requireReplicas(t, one, two)
	require.Regexp(t, `checkpoint  .*step-\d+ \(verified, on nodes \S+ and \S+\)`, a.stdout.String())
	require.NoFileExists(t, filepath.Join(two, "events.jsonl"))
}
