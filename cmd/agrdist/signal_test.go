package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/metrics"
)

// A signal in the middle saves and ends with 143; the same command goes on, with
// another number of workers too, and ends where an undisturbed run does.
func TestStopAndResume(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "run")
			args := training(dir, "--workers", "2")
			p := start(t, args...)
			p.step(dir, 3)
			p.signal(s)
			p.ended(exitSignal)

			list := events(t, dir)
			stop := list[len(list)-1]
			require.Equal(t, metrics.EventStop, stop.Event)
			require.Less(t, stop.Step, int64(tinySteps), "it stopped at once")
			require.DirExists(t, filepath.Join(dir, "checkpoints", "step-"+itoa(stop.Step)))
			require.Contains(t, p.stderr.String(), "agrdist: stopped after step "+itoa(stop.Step)+" of "+itoa(tinySteps)+"; saved in "+filepath.Join(dir, "checkpoints"))
			require.Equal(t, args, resumeArgs(t, p), "the program says how to go on")

			p = run(t, training(dir, "--workers", "3")...).ended(exitOK)
			require.Contains(t, p.stderr.String(), "agrdist: resuming "+dir+" at step "+itoa(stop.Step)+" of "+itoa(tinySteps))
			requireOnce(t, dir, requireSame(t, dir))
		})
	}
}

// resumeArgs are the arguments of the command that the program proposes, as a
// shell reads them.
func resumeArgs(t *testing.T, p *process) []string {
	t.Helper()
	_, hint, found := strings.Cut(p.stderr.String(), "agrdist: resume with: ")
	require.True(t, found, p.stderr.String())
	hint, _, _ = strings.Cut(hint, "\n")
	var args []string
	for _, w := range regexp.MustCompile(`'[^']*'|\S+`).FindAllString(hint, -1)[1:] {
		args = append(args, strings.Trim(w, "'"))
	}
	return args
}

func TestResumeHintIsForAShell(t *testing.T) {
	t.Parallel()
	require.Equal(t, "go run ./cmd/agrdist run", resumeHint([]string{"/tmp/go-build1/b001/exe/agrdist", "run"}))
	require.Equal(t, `./agrdist run --set 'model.block_out_channels=[8, 16]' --out 'it'\''s' ''`,
		resumeHint([]string{"./agrdist", "run", "--set", "model.block_out_channels=[8, 16]", "--out", "it's", ""}))
}

// A second signal ends everything at once and leaves what was saved alone. One
// worker is held still, so that the first signal's stop cannot complete before.
func TestSecondSignalKills(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, training(dir)...)
	members := pids(t, p.generation(dir, 1))
	p.saved(dir)
	require.NoError(t, syscall.Kill(members[1], syscall.SIGSTOP))
	p.signal(syscall.SIGTERM)
	p.await("stopping", func() bool {
		log, err := os.ReadFile(filepath.Join(dir, "logs", "agent.log"))
		return err == nil && strings.Contains(string(log), "msg=stopping signal=SIGTERM")
	})
	p.signal(syscall.SIGINT)
	p.ended(exitFailed)
	require.Contains(t, p.stderr.String(), "agrdist: killed by a second signal (SIGINT); what was saved is kept")
	for _, pid := range members {
		requireGone(t, pid)
	}

	run(t, "checkpoint", "verify", dir).ended(exitOK)
	p = run(t, training(dir)...).ended(exitOK)
	require.Contains(t, p.stderr.String(), "agrdist: resuming")
	requireSame(t, dir)
}

// A signal before the first step has nothing to save, and says so.
func TestSignalWhileAlone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, training(dir, "--nodes", "2", "--workers", "1", "--set", "cluster.node=first")...)
	p.await("a worker", func() bool {
		log, err := os.ReadFile(filepath.Join(dir, "logs", "first-agent.log"))
		return err == nil && strings.Contains(string(log), "1 of 2 workers are here")
	})
	p.says("1 of 2 workers are here; missing: 1 of nodes that have not joined") // after some seconds, as it takes long
	p.signal(syscall.SIGTERM)
	p.ended(exitSignal)
	require.Contains(t, p.stderr.String(), "agrdist: stopped before a step was made\nagrdist: start again with: ")
	require.NoDirExists(t, filepath.Join(dir, "checkpoints"))
}
