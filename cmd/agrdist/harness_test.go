package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/metrics"
)

// limit is the patience with one process or event; only a hang takes so long.
const limit = 2 * time.Minute

// tiny is a model and a run small enough to train in a second, with everything
// in it that a run can have: dropout, flips, attention, clipping, the average.
// It has 4 chunks. The learning rate does not depend on train.steps, so that a
// run that is lengthened ends as one that was always as long.
var tiny = []string{
	"model.block_out_channels=[8,16]", "model.norm_num_groups=4", "model.dropout=0.1",
	"model.num_class_embeds=0", "data.label_dropout=0", "sample.guidance_scale=1", // unlike the quickstart's
	"diffusion.timesteps=100", "diffusion.schedule=linear", "diffusion.prediction=epsilon", "data.flip=true",
	"train.steps=32", "train.global_batch=8", "train.chunk=2", "train.digest_every=7",
	"lr.base=2e-3", "lr.warmup_steps=2", "lr.schedule=constant",
	"checkpoint.every=8", "sample.count=4", "sample.sampler=ddim", "sample.steps=2",
}

const tinySteps = 32

// training is the command line of a tiny run in dir.
func training(dir string, more ...string) []string {
	args := []string{"run", "--out", dir}
	for _, s := range tiny {
		args = append(args, "--set", s)
	}
	return append(args, more...)
}

// process is a running agrdist.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout buffer
	stderr buffer
	done   chan struct{}
}

// start starts agrdist. It is killed with the test at the latest.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	return startEnv(t, nil, args...)
}

// startEnv starts agrdist with more environment. That of the caller counts but
// for settings of agrdist.
func startEnv(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	return spawn(t, exec.Command(self, args...), env)
}

// spawn starts a command; its file descriptors from 3 on are the files.
func spawn(t *testing.T, cmd *exec.Cmd, env []string, files ...*os.File) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, done: make(chan struct{})}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "AGRDIST_") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(append(cmd.Env, runAs+"=1"), env...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &p.stdout, &p.stderr, files
	require.NoError(t, cmd.Start())
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // the exit code says it
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has ended, as a rule
		<-p.done
		if t.Failed() {
			t.Logf("%s\nstdout:\n%s\nstderr:\n%s", strings.Join(cmd.Args, " "), p.stdout.String(), p.stderr.String())
		}
		require.NotContains(t, p.stderr.String(), "DATA RACE")
		require.NotContains(t, p.stderr.String(), "panic:")
	})
	return p
}

// run runs agrdist to its end.
func run(t *testing.T, args ...string) *process {
	t.Helper()
	p := start(t, args...)
	p.wait()
	return p
}

// wait returns the exit code; of a process that was killed, minus the signal.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(limit):
		p.t.Fatalf("still running after %s", limit)
	}
	state := p.cmd.ProcessState
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return -int(ws.Signal())
	}
	return state.ExitCode()
}

// patient waits for an exit code for longer than limit.
func (p *process) patient(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(limit):
	}
	return p.wait()
}

// over tells whether the process has ended.
func (p *process) over() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// ended requires the process to end with a code.
func (p *process) ended(code int) *process {
	p.t.Helper()
	require.Equal(p.t, code, p.wait(), p.stderr.String())
	return p
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(s))
}

// await waits until found says yes, while the process runs.
func (p *process) await(what string, found func() bool) {
	p.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	late := time.After(limit)
	for !found() {
		select {
		case <-tick.C:
		case <-p.done:
			require.True(p.t, found(), "the process ended before %s", what)
			return
		case <-late:
			p.t.Fatalf("no %s within %s", what, limit)
		}
	}
}

// event waits for an event of the run in dir.
func (p *process) event(dir, what string, is func(metrics.Event) bool) (found metrics.Event) {
	p.t.Helper()
	p.await(what, func() bool {
		for _, e := range events(p.t, dir) {
			if is(e) {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

// step waits for a step to be committed.
func (p *process) step(dir string, n int64) {
	p.t.Helper()
	p.event(dir, fmt.Sprintf("step %d", n), func(e metrics.Event) bool { return e.Event == metrics.EventStep && e.Step >= n })
}

// generation waits for a generation and returns it.
func (p *process) generation(dir string, n uint64) metrics.Event {
	p.t.Helper()
	return p.event(dir, fmt.Sprintf("generation %d", n), func(e metrics.Event) bool {
		return e.Event == metrics.EventGeneration && e.Generation >= n
	})
}

// saved waits for a checkpoint.
func (p *process) saved(dir string) {
	p.t.Helper()
	p.event(dir, "checkpoint", func(e metrics.Event) bool { return e.Event == metrics.EventCheckpoint })
}

// says waits for a text on stderr and returns the submatch, if the pattern has
// one.
func (p *process) says(pattern string) (match string) {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	p.await(pattern, func() bool {
		m := re.FindStringSubmatch(p.stderr.String())
		if m != nil {
			match = m[len(m)-1]
		}
		return m != nil
	})
	return match
}

// eventSchema is what every line that a run writes must fit.
var eventSchema = sync.OnceValue(func() *jsonschema.Schema {
	return jsonschema.NewCompiler().MustCompile("../../metrics/events.schema.json")
})

// events reads what the run in dir has told so far.
func events(t *testing.T, dir string) []metrics.Event {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "events.jsonl"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	require.NoError(t, err)
	var out []metrics.Event
	for lines := bufio.NewScanner(bytes.NewReader(text[:bytes.LastIndexByte(text, '\n')+1])); lines.Scan(); {
		var e metrics.Event
		require.NoError(t, json.Unmarshal(lines.Bytes(), &e), lines.Text())
		whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(lines.Bytes()))
		require.NoError(t, err)
		require.NoError(t, eventSchema().Validate(whole), lines.Text())
		out = append(out, e)
	}
	return out
}

// pids are the process ids of a generation's members, by rank.
func pids(t *testing.T, e metrics.Event) []int {
	t.Helper()
	var out []int
	for _, m := range e.Members {
		_, text, _ := strings.Cut(m, "(pid ")
		pid, err := strconv.Atoi(strings.TrimSuffix(text, ")"))
		require.NoError(t, err, m)
		out = append(out, pid)
	}
	require.NotEmpty(t, out)
	return out
}

// reference is the run that every other one is compared with: one worker, never
// disturbed. Tests only read it.
func reference(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(scratch, "reference")
	once.Do(func() {
		run(t, training(dir, "--workers", "1")...).ended(exitOK)
	})
	require.NotEmpty(t, finish(t, dir).ModelDigest)
	return dir
}

var once sync.Once

// finish is the event that ended the run in dir.
func finish(t *testing.T, dir string) metrics.Event {
	t.Helper()
	list := events(t, dir)
	require.NotEmpty(t, list)
	e := list[len(list)-1]
	require.Equal(t, metrics.EventFinish, e.Event)
	return e
}

// requireSame holds a finished run against the reference: the same model, and
// the same loss, gradient norm and rate in every step that it tells of. It
// returns how often it tells of each step.
func requireSame(t *testing.T, dir string) (times map[int64]int) {
	t.Helper()
	want := map[int64]metrics.Event{}
	for _, e := range events(t, reference(t)) {
		if e.Event == metrics.EventStep {
			want[e.Step] = e
		}
	}
	require.Len(t, want, tinySteps)
	times = map[int64]int{}
	for _, e := range events(t, dir) {
		if e.Event == metrics.EventStep {
			w := want[e.Step]
			require.Equal(t, []float64{*w.Loss, *w.GradNorm, *w.LR}, []float64{*e.Loss, *e.GradNorm, *e.LR}, "step %d", e.Step)
			times[e.Step]++
		}
	}
	require.Equal(t, finish(t, reference(t)).ModelDigest, finish(t, dir).ModelDigest)
	requireQuiet(t, dir)
	return times
}

// requireOnce requires that an undisturbed run, or one that was stopped and
// resumed, tells of each step exactly once.
func requireOnce(t *testing.T, dir string, times map[int64]int) {
	t.Helper()
	for _, e := range events(t, dir) {
		if e.Event == metrics.EventGeneration && e.Generation > 1 {
			t.Logf("the machine is too busy to hold this against the run: %s", e.Reason)
			return
		}
	}
	for s := int64(1); s <= tinySteps; s++ {
		require.Equal(t, 1, times[s], "step %d", s)
	}
}

// requireQuiet requires that no process of the run reported a data race or a
// panic in its log.
func requireQuiet(t *testing.T, dir string) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(dir, "logs", "*.log"))
	require.NoError(t, err)
	require.NotEmpty(t, logs)
	for _, f := range logs {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		require.NotContains(t, string(text), "DATA RACE", f)
		require.NotContains(t, string(text), "panic:", f)
	}
}

// buffer collects output and may be read meanwhile.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
