package main

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// refused requires an exit code and one clear line on stderr (a second one sends
// a mistaken command line to the help), and nothing on stdout.
func refused(t *testing.T, p *process, code int, parts ...string) {
	t.Helper()
	p.ended(code)
	text := strings.TrimSuffix(p.stderr.String(), "\n")
	if code == exitUsage {
		text = seeHelp.ReplaceAllString(text, "")
	}
	require.NotContains(t, text, "\n", "one line")
	require.True(t, strings.HasPrefix(text, "agrdist: "), text)
	require.NotContains(t, text, "goroutine ")
	require.Empty(t, p.stdout.String())
	for _, part := range parts {
		require.Contains(t, text, part)
	}
}

var seeHelp = regexp.MustCompile(`\nagrdist: see agrdist.* --help$`)

func TestRefusals(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(root, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.NoError(t, os.Chmod(path, mode)) // whatever the umask is
		return path
	}
	secret := strings.Repeat("0123456789abcdef", 2)
	open, weak := write("open", secret, 0o644), write("weak", "short", 0o600)
	file := write("file", "", 0o600)
	typo := write("typo.yaml", "train:\n  stepz: 3\n", 0o600)

	for name, c := range map[string]struct {
		args []string
		env  string
		code int
		want []string
	}{
		"unknown key":         {args: []string{"--set", "train.stpes=3"}, code: exitConfig, want: []string{`"train.stpes"`, `did you mean "train.steps"`}},
		"unknown key in file": {args: []string{"-c", typo}, code: exitConfig, want: []string{typo + ":2: ", `"train.steps"`}},
		"missing file":        {args: []string{"-c", filepath.Join(root, "no.yaml")}, code: exitConfig, want: []string{"no.yaml: cannot read it"}},
		"chunk":               {args: []string{"--set", "train.chunk=3"}, code: exitConfig, want: []string{"train.global_batch 8", "train.chunk 3", "1, 2, 4, 8"}},
		"environment":         {env: "AGRDIST_SEED=many", code: exitConfig, want: []string{"AGRDIST_SEED", `"many" is not an integer`}},
		"no workers":          {args: []string{"--workers", "0"}, code: exitConfig, want: []string{"cluster.workers is 0", "--workers N"}},
		"missing folder":      {args: []string{"--set", "data.name=folder", "--set", "data.dir=/no/such"}, code: exitConfig, want: []string{"/no/such", "data.dir"}},
		"missing records":     {args: []string{"--set", "data.name=cifar10", "--set", "data.dir=/no/such"}, code: exitConfig, want: []string{"/no/such", "data_batch_1.bin", "data.dir"}},
		"odd size":            {args: []string{"--set", "model.sample_size=9"}, code: exitConfig, want: []string{"model.sample_size 9", "divisible by 2"}},
		"unknown flag":        {args: []string{"--wrokers", "2"}, code: exitUsage, want: []string{"--wrokers"}},
		"argument":            {args: []string{"now"}, code: exitUsage, want: []string{`"now"`}},
		"out below a file":    {args: []string{"--out", filepath.Join(file, "run")}, code: exitFailed, want: []string{file, "not a directory", "--out"}},
		"beyond loopback":     {args: []string{"--set", "cluster.bind=0.0.0.0"}, code: exitConfig, want: []string{"cluster.bind", "AGRDIST_CLUSTER_SECRET", "127.0.0.1"}},
		"readable secret":     {args: []string{"--set", "cluster.secret_file=" + open}, code: exitConfig, want: []string{open, "0644", "chmod 600"}},
		"weak secret":         {args: []string{"--set", "cluster.secret_file=" + weak}, code: exitConfig, want: []string{weak, "at least 16"}},
		"missing secret":      {args: []string{"--set", "cluster.secret_file=/no/such"}, code: exitConfig, want: []string{"cluster.secret_file", "/no/such"}},
		"weak secret in env":  {env: "AGRDIST_CLUSTER_SECRET=short", code: exitConfig, want: []string{"cluster.secret", "at least 16"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "run")
			var env []string
			if c.env != "" {
				env = append(env, c.env)
			}
			p := startEnv(t, env, training(dir, c.args...)...)
			refused(t, p, c.code, c.want...)
			require.NoDirExists(t, filepath.Join(dir, "checkpoints"))
		})
	}
}

func TestUnknownCommand(t *testing.T) {
	t.Parallel()
	refused(t, run(t, "rnu"), exitUsage, `"rnu"`)
	refused(t, run(t, "checkpoint", "list"), exitUsage, "an argument is missing: agrdist checkpoint list RUN")
	refused(t, run(t, "sample"), exitUsage, "--from", "--out")
	refused(t, run(t, "bench", "allreduce", "-b", "1Q"), exitUsage, `"1Q"`)
	refused(t, run(t, "worker"), exitUsage, "started by agrdist run")
	refused(t, run(t, "checkpoint", "list", "/no/such"), exitFailed, "/no/such")
	refused(t, run(t, "sample", "--from", t.TempDir(), "--out", "x.png"), exitFailed, "nothing that can be read is in it")
}

// A port that somebody else has is named, with the way out.
func TestPortInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	for key, more := range map[string]string{"rpc_port": "in use", "gossip_port": "in use", "data_port": "another process has this port"} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "run")
			p := run(t, training(dir, "--workers", "1", "--set", "cluster."+key+"="+port)...).ended(exitFailed)
			if key != "data_port" { // known before any worker is started
				refused(t, p, exitFailed)
			}
			text := p.stderr.String()
			require.Contains(t, text, "127.0.0.1:"+port)
			require.Contains(t, text, more)
			require.Contains(t, text, "free one")
		})
	}
}

// A second run in the same directory is told who has it, and harms nothing.
func TestDirectoryInUse(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	first := start(t, training(dir, "--set", "train.steps=100000")...)
	first.step(dir, 1)
	for _, more := range []string{"auto", "never"} {
		refused(t, run(t, training(dir, "--resume", more)...), exitFailed,
			dir, "pid "+itoa(int64(first.cmd.Process.Pid)), "stop that process or choose another directory")
	}
	seen := lastStep(t, events(t, dir)).Step
	first.step(dir, seen+1)
	first.signal(syscall.SIGTERM)
	first.ended(exitSignal)
	require.Equal(t, 1, starts(t, dir))
}

// Settings that the model's bits depend on cannot change in the middle of a run.
func TestContradiction(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(reference(t))))
	p := run(t, training(dir, "--set", "seed=7", "--set", "lr.base=0.5", "--set", "train.steps=64")...)
	refused(t, p, exitConfig, filepath.Join(dir, "checkpoints", "step-32"),
		"seed is 7, the checkpoint has 42", "lr.base is 0.5, the checkpoint has 0.002", "--resume never")
	require.Equal(t, finish(t, reference(t)), finish(t, dir), "the run is as it was")
}

// Two nodes that do not belong together end, both with an understandable line.
func TestNodesThatDoNotFit(t *testing.T) {
	t.Parallel()
	secret := func(c string) []string {
		return []string{"AGRDIST_CLUSTER_SECRET=" + strings.Repeat(c+"0123456789abcdef", 2)}
	}
	for name, c := range map[string]struct {
		env1, env2 []string
		args2      []string
		code       int
		one, two   string
	}{
		"secret": {
			env1: secret("a"), env2: secret("b"), code: exitFailed,
			one: "1 of 2 workers registered within 20s", two: "AGRDIST_CLUSTER_SECRET or cluster.secret_file, and cluster.run_id, must be the same on every node",
		},
		"no secret": {
			env1: secret("a"), code: exitFailed,
			one: "1 of 2 workers registered within 20s", two: "AGRDIST_CLUSTER_SECRET or cluster.secret_file must be the same on every node",
		},
		"run": {
			args2: []string{"--set", "cluster.run_id=another"}, code: exitFailed,
			one: "1 of 2 workers registered within 20s", two: "run_id",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			node := func(dir string, more ...string) []string {
				return training(filepath.Join(root, dir), append([]string{"--nodes", "2", "--workers", "1"}, more...)...)
			}
			// The first one waits for longer, so that it is there as long as the second one tries.
			a := startEnv(t, c.env1, node("one", "--set", "cluster.start_timeout=20s")...)
			b := startEnv(t, c.env2, node("two", append([]string{"--set", "cluster.start_timeout=8s", "--join", a.says(`--join (\S+)`)}, c.args2...)...)...)
			b.ended(c.code)
			a.ended(c.code)
			require.Contains(t, a.stderr.String(), c.one)
			require.Contains(t, b.stderr.String(), c.two)
			require.Empty(t, events(t, filepath.Join(root, "one")))
		})
	}
}

// A node that was given other settings is sent away by name of each key, and the others
// wait on; one that was given none takes those of the run.
func TestSettingsOfTheRun(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	one, two, three := filepath.Join(root, "one"), filepath.Join(root, "two"), filepath.Join(root, "three")
	a := start(t, training(one, "--nodes", "2", "--workers", "1")...)
	addr := a.says(`--join (\S+)`)
	b := start(t, training(two, "--workers", "1", "--join", addr, "--set", "seed=7", "--set", "train.steps=64", "--set", "cluster.node=two")...)
	b.ended(exitConfig)
	require.Contains(t, b.stderr.String(), "seed is 7 here and 42 in the run")
	require.Contains(t, b.stderr.String(), "train.steps is 64 here and 32 in the run")

	c := start(t, "run", "--workers", "1", "--join", addr, "--out", three, "--set", "cluster.node=three", "--set", "train.threads=1")
	a.ended(0)
	c.ended(0)
	require.Equal(t, finish(t, reference(t)).ModelDigest, finish(t, one).ModelDigest)
	own, err := os.ReadFile(filepath.Join(three, "config.yaml"))
	require.NoError(t, err)
	require.Contains(t, string(own), "steps: 32", "what is trained here, not what a bare command would")
}
