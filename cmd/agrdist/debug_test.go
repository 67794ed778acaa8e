package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/flight"
	"github.com/agrdist/agrdist/rundir"
)

// One worker of three is stopped as a hang in the kernel would stop it. It is killed and
// writes nothing; its records and those of the others name it.
func TestExplainNamesTheHungWorker(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, training(dir, "--workers", "3", "--set", "train.steps=1000000", "--set", "cluster.step_deadline=2s")...)
	members := pids(t, p.generation(dir, 1))
	p.step(dir, 3)
	hung := members[1]
	require.NoError(t, syscall.Kill(hung, syscall.SIGSTOP))
	p.await("the records of the hang", func() bool {
		dumps, err := flight.ReadDumps(rundir.Dir(dir).Debug())
		if err != nil {
			return false
		}
		living := map[int]bool{}
		dead := false
		for _, d := range dumps {
			dead = dead || d.PID == hung && d.Ended != ""
			living[d.PID] = living[d.PID] || d.Ended == "" && d.Reason != "the coordinator has a worker killed"
		}
		return dead && living[members[0]] && living[members[2]]
	})
	out := run(t, "debug", "explain", dir)
	out.ended(exitOK)
	text := out.stdout.String()
	require.Regexp(t, `rank 1 (\(\S+, pid `+itoa(int64(hung))+`\) )?stopped first`, text)
	require.Contains(t, text, "SIGKILL")

	out = run(t, "debug", "explain", dir, "--json")
	out.ended(exitOK)
	require.Contains(t, out.stdout.String(), `"Culprit":1`)

	// SIGQUIT writes records of a run that is well, and training continues.
	before := len(dumpsOf(t, dir))
	p.signal(syscall.SIGQUIT)
	p.await("records", func() bool { return len(dumpsOf(t, dir)) >= before+3 })
	require.FileExists(t, stacksOf(t, dir))
	require.False(t, p.over())
	p.signal(syscall.SIGTERM)
	p.ended(exitSignal)
	require.Contains(t, p.stderr.String(), "agrdist debug explain")
}

func dumpsOf(t *testing.T, dir string) []flight.Dump {
	t.Helper()
	dumps, err := flight.ReadDumps(rundir.Dir(dir).Debug())
	require.NoError(t, err)
	return dumps
}

func stacksOf(t *testing.T, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "debug", "agent-*.stacks"))
	require.NoError(t, err)
	require.Len(t, names, 1)
	return names[0]
}

// A bundle has what a bug report needs and nothing that must not leave.
func TestBundle(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	start(t, training(dir, "--workers", "2")...).ended(exitOK)
	const secret, token = "a-secret-of-the-run", "0123456789abcdef0123456789abcdef"
	write := func(name, text string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("secret", secret+"\n")
	write("dashboard-n.json", `{"url":"http://x","token":"`+token+`"}`)
	write("logs/agent.log", "GET /?token=abcdef01 "+token+" "+secret+" Authorization: Bearer xyzxyz\nsecret: hunter22\n")
	archive := filepath.Join(t.TempDir(), "b.tar.gz")
	run(t, "debug", "bundle", dir, "--out", archive).ended(exitOK)

	names, all := map[string]string{}, ""
	f, err := os.Open(archive)
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		b, err := io.ReadAll(r)
		require.NoError(t, err)
		names[h.Name] = string(b)
		all += string(b)
	}
	for _, want := range []string{"config.yaml", "events.jsonl", "logs/agent.log", "logs/worker-0.log", "version.txt", "explain.txt", "files.txt"} {
		require.Contains(t, names, want)
	}
	require.Contains(t, names["files.txt"], "model.safetensors")
	for name := range names {
		require.False(t, strings.HasPrefix(name, "samples") || strings.HasPrefix(name, "checkpoints") || strings.HasPrefix(name, "dashboard") || name == "secret", name)
	}
	for _, bad := range []string{secret, token, "abcdef01", "xyzxyz", "hunter22"} {
		require.NotContains(t, all, bad)
	}
	run(t, "debug", "bundle", dir, "--out", archive).ended(exitFailed)
	require.Contains(t, run(t, "debug", "bundle", t.TempDir()).stderr.String(), "no run's directory")
	require.Contains(t, run(t, "debug", "explain", dir).stderr.String(), "nothing went wrong so far")
}
