package main

import (
	"os"
	"os/exec"
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

// Any number of signals within a second is one request: process managers signal a
// process and then its group.
func TestBurstOfSignalsSaves(t *testing.T) {
	t.Parallel()
	for _, list := range [][]syscall.Signal{
		{syscall.SIGTERM, syscall.SIGTERM, syscall.SIGTERM},
		{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT},
		{syscall.SIGHUP, syscall.SIGCONT, syscall.SIGHUP},
	} {
		dir := filepath.Join(t.TempDir(), "run")
		p := start(t, training(dir)...)
		p.step(dir, 3)
		for _, s := range list {
			p.signal(s)
		}
		p.ended(exitSignal)
		require.Contains(t, p.stderr.String(), "saving a checkpoint and stopping")
		list := events(t, dir)
		stop := list[len(list)-1]
		require.Equal(t, metrics.EventStop, stop.Event)
		run(t, "checkpoint", "verify", filepath.Join(dir, "checkpoints", "step-"+itoa(stop.Step))).ended(exitOK)
	}
}

// SIGTERM and kill -9 of workers at about the same time: whoever is left saves, and
// "saved" is true. Where nobody is left, nobody says it.
func TestStopWhileWorkersDie(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		victims []int
		before  bool // they die before the signal
	}{
		"rank 0":           {[]int{0}, false},
		"rank 0, before":   {[]int{0}, true},
		"another":          {[]int{1}, false},
		"two of three":     {[]int{0, 1}, false},
		"all three":        {[]int{0, 1, 2}, false},
		"all, just before": {[]int{0, 1, 2}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "run")
			p := start(t, training(dir, "--workers", "3", "--set", "train.steps=100000", "--set", "checkpoint.every=0")...)
			members := pids(t, p.generation(dir, 1))
			p.step(dir, 3)
			kill := func() {
				for _, v := range c.victims {
					_ = syscall.Kill(members[v], syscall.SIGKILL) // it may have left already
				}
			}
			if c.before {
				kill()
				p.signal(syscall.SIGTERM)
			} else {
				p.signal(syscall.SIGTERM)
				kill()
			}
			code := p.wait()
			saved := regexp.MustCompile(`stopped after step (\d+) of \d+; saved in `).FindStringSubmatch(p.stderr.String())
			if len(c.victims) < 3 {
				require.Equal(t, exitSignal, code, "a survivor saves")
			}
			if code == exitSignal {
				require.NotNil(t, saved)
				run(t, "checkpoint", "verify", filepath.Join(dir, "checkpoints", "step-"+saved[1])).ended(exitOK)
				return
			}
			require.Nil(t, saved)
			require.Equal(t, exitFailed, code)
			require.Regexp(t, "NOTHING WAS SAVED|was not saved", p.stderr.String()) // as the coordinator, or this node, knows
		})
	}
}

// SIGUSR1 writes a checkpoint, and training continues.
func TestCheckpointOnSignal(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, training(dir, "--set", "train.steps=100000", "--set", "checkpoint.every=0", "--set", "checkpoint.keep=9")...)
	p.says(`step \d+/`) // the agent knows that there is something to save
	p.signal(syscall.SIGUSR1)
	p.saved(dir)
	first := p.event(dir, "checkpoint", func(e metrics.Event) bool { return e.Event == metrics.EventCheckpoint })
	p.step(dir, first.Step+2)
	p.signal(syscall.SIGTERM)
	p.ended(exitSignal)
	require.Contains(t, p.stderr.String(), "SIGUSR1: writing a checkpoint")
	good := run(t, "checkpoint", "verify", dir).ended(exitOK).stdout.String()
	require.Equal(t, 2, strings.Count(good, ": verified"))
	require.Contains(t, good, "step "+itoa(first.Step)+": verified")
}

// nohup's SIGHUP changes nothing.
func TestIgnoredHangup(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	self, err := os.Executable()
	require.NoError(t, err)
	p := spawn(t, exec.Command("sh", append([]string{"-c", `trap '' HUP; exec "$@"`, "sh", self}, training(dir)...)...), nil)
	p.step(dir, 2)
	p.signal(syscall.SIGHUP)
	p.ended(exitOK)
	requireSame(t, dir)
}

// Nobody reads the output any more: the run does not end over it.
func TestReaderGoesAway(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	self, err := os.Executable()
	require.NoError(t, err)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, r.Close())
	defer w.Close()
	// The shell's own stderr is read; the program's two streams are the broken pipe.
	p := spawn(t, exec.Command("sh", append([]string{"-c", `"$@" >&3 2>&3; echo "code $?" >&2`, "sh", self}, training(dir)...)...), nil, w)
	p.ended(exitOK)
	require.Contains(t, p.stderr.String(), "code 0")
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
