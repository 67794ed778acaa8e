package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/checkpoint/mirror/s3/s3test"
	"github.com/agrdist/agrdist/metrics"
)

// mirrored is the command line of a tiny run with a mirror.
func mirrored(dir, endpoint string, more ...string) []string {
	return training(dir, append([]string{"--set", "checkpoint.mirror=" + s3test.Place(endpoint, "run")}, more...)...)
}

// inBucket are the steps that a bucket has, by their manifests.
func inBucket(t *testing.T, endpoint string) (steps []string) {
	t.Helper()
	for _, key := range s3test.Keys(t, endpoint) {
		if strings.HasSuffix(key, "/manifest.json") {
			steps = append(steps, filepath.Base(filepath.Dir(key)))
		}
	}
	return steps
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// A run that was stopped continues on a machine that has nothing of it but the bucket's
// name, and ends with the bits of a run that was left alone.
func TestMirrorCarriesARunElsewhere(t *testing.T) {
	t.Parallel()
	endpoint, root := s3test.Fake(t), t.TempDir()
	whole := filepath.Join(root, "whole")
	run(t, training(whole)...).ended(exitOK)

	first := filepath.Join(root, "first")
	p := startEnv(t, s3test.Environment(), mirrored(first, endpoint, "--set", "train.steps=100000")...)
	p.step(first, 11)
	p.signal(syscall.SIGTERM)
	p.ended(exitSignal)
	require.Contains(t, p.stderr.String(), "s3://checkpoints/run has it")
	last := lastStep(t, events(t, first)).Step
	require.Contains(t, inBucket(t, endpoint), "step-"+decimal(last))
	require.NoError(t, os.RemoveAll(first))

	second := filepath.Join(root, "second")
	p = startEnv(t, s3test.Environment(), mirrored(second, endpoint, "--set", "train.steps="+decimal(max(last+4, tinySteps)))...)
	p.ended(exitOK)
	require.Contains(t, p.stderr.String(), "fetched the checkpoint of step "+decimal(last)+" from s3://checkpoints/run")
	require.Regexp(t, `mirror +s3://checkpoints/run has it`, p.stdout.String())
	if last+4 <= tinySteps {
		require.Equal(t, finish(t, whole).ModelDigest, finish(t, second).ModelDigest)
	}
	for _, e := range events(t, second) {
		if e.Event == metrics.EventStart {
			require.Equal(t, last, *e.ResumedAt)
		}
	}
	require.LessOrEqual(t, len(inBucket(t, endpoint)), 3, "checkpoint.keep")

	// --resume never destroys nothing of it.
	p = startEnv(t, s3test.Environment(), mirrored(filepath.Join(root, "third"), endpoint, "--resume", "never")...)
	p.ended(exitConfig)
	require.Contains(t, p.stderr.String(), "has checkpoints of an earlier run, the newest of step")
}

// An object store that takes nothing changes nothing of a run: it is said once, and the
// end says what is not there. The next start makes up for it.
func TestMirrorThatRefuses(t *testing.T) {
	t.Parallel()
	endpoint, dir := s3test.Fake(t), filepath.Join(t.TempDir(), "run")
	var refuses atomic.Bool
	refuses.Store(true)
	front := s3test.Refuse(t, endpoint, http.StatusForbidden, func(r *http.Request) bool { return refuses.Load() && r.Method == http.MethodPut })
	p := startEnv(t, s3test.Environment(), mirrored(dir, front, "--set", "checkpoint.mirror_wait=0s")...)
	p.ended(exitOK)
	require.Equal(t, 1, strings.Count(p.stderr.String(), "is saved, but not copied"), "once")
	require.Contains(t, p.stderr.String(), "Training continues")
	require.Contains(t, p.stdout.String(), "s3://checkpoints/run does NOT have it")
	require.Empty(t, inBucket(t, endpoint))

	refuses.Store(false)
	p = startEnv(t, s3test.Environment(), mirrored(dir, front)...).ended(exitOK)
	require.Contains(t, p.stdout.String(), "is finished")
	require.Contains(t, p.stdout.String(), "s3://checkpoints/run has it")
	require.Equal(t, []string{"step-32"}, inBucket(t, endpoint))
}

// A start without any checkpoint needs the store: what cannot work is refused at once,
// and what may pass is waited for.
func TestMirrorAtTheStart(t *testing.T) {
	t.Parallel()
	endpoint, root := s3test.Real(t), t.TempDir()
	for name, c := range map[string]struct {
		env   []string
		place string
		want  string
	}{
		"no such bucket": {s3test.Environment(), "s3://nowhere/run?endpoint=" + endpoint, "make the bucket nowhere first"},
		"wrong password": {append(s3test.Environment(), "AWS_SECRET_ACCESS_KEY=guess"), s3test.Place(endpoint, "run"), "check the credentials"},
	} {
		p := startEnv(t, c.env, training(filepath.Join(root, name), "--set", "checkpoint.mirror="+c.place)...).ended(exitConfig)
		require.Contains(t, p.stderr.String(), c.want)
		require.Contains(t, p.stderr.String(), "checkpoint.mirror")
	}
	var asked atomic.Int32
	front := s3test.Refuse(t, endpoint, http.StatusServiceUnavailable, func(*http.Request) bool { return asked.Add(1) <= 6 })
	dir := filepath.Join(root, "busy")
	p := startEnv(t, s3test.Environment(), mirrored(dir, front)...).ended(exitOK)
	require.Contains(t, p.stderr.String(), "Waiting for it: there is no checkpoint in")

	// With one of its own the run does not depend on the store.
	dead := s3test.Place("http://127.0.0.1:1", "run")
	p = startEnv(t, s3test.Environment(), training(dir, "--set", "checkpoint.mirror="+dead, "--set", "train.steps=40", "--set", "checkpoint.mirror_wait=0s")...).ended(exitOK)
	require.Contains(t, p.stderr.String(), "The run continues from step 32, which is here")
}

// An agent that is killed while it copies leaves no checkpoint that is half there, and
// the next start copies it whole.
func TestMirrorKilledWhileCopying(t *testing.T) {
	t.Parallel()
	endpoint, dir := s3test.Real(t), filepath.Join(t.TempDir(), "run")
	reached, held := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	front := s3test.Refuse(t, endpoint, http.StatusServiceUnavailable, func(r *http.Request) bool {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "optimizer") && once.CompareAndSwap(false, true) {
			close(reached)
			<-held
		}
		return false
	})
	p := startEnv(t, s3test.Environment(), mirrored(dir, front, "--set", "train.steps=100000")...)
	<-reached
	p.step(dir, lastStep(t, events(t, dir)).Step+3) // no step waits for it
	p.signal(syscall.SIGKILL)
	p.wait()
	close(held)
	require.Empty(t, inBucket(t, endpoint))
	p = startEnv(t, s3test.Environment(), mirrored(dir, front, "--set", "train.steps="+decimal(lastStep(t, events(t, dir)).Step+5))...).ended(exitOK)
	require.Contains(t, p.stdout.String(), "has it")
	require.NotEmpty(t, inBucket(t, endpoint))
}
