package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/status"
)

// agrdist stop saves and ends a run on all its nodes, whichever directory it is given,
// elastic or not.
func TestStopCommand(t *testing.T) {
	t.Parallel()
	s := startNodes(t, 2, "--set", "train.steps=100000")
	whole := s.world(s.agents[0], 2, 0)
	s.step(s.agents[0], whole.Generation, whole.Step+2)
	p := run(t, "stop", s.dirs[1]).ended(exitOK)
	require.Contains(t, p.stdout.String(), "has ended")
	s.agents[0].ended(exitSignal)
	s.agents[1].ended(exitSignal)
	step, digest := s.saved()
	requireAlone(t, step, digest)

	p = run(t, "stop", s.dirs[1]).ended(exitFailed)
	require.Contains(t, p.stderr.String(), "it does not run here")
	run(t, "stop", filepath.Join(t.TempDir(), "nowhere")).ended(exitUsage)
}

// A page beyond loopback is asked over https, by whoever has the run's secret: the key
// and the token follow from it.
func TestRemotePage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret := []string{"AGRDIST_CLUSTER_SECRET=" + strings.Repeat("0123456789abcdef", 2)}
	p := startEnv(t, secret, training(dir, "--workers", "1", "--set", "train.steps=100000",
		"--set", "dashboard.bind=0.0.0.0:0", "--set", "cluster.run_id=afar")...)
	p.await("its page", func() bool { return len(status.Endpoints(dir)) > 0 })
	p.step(dir, 2)
	_, port, _ := strings.Cut(strings.TrimPrefix(status.Endpoints(dir)[0].URL, "https://"), ":")
	where := "https://127.0.0.1:" + port

	as := func(env []string, command string, args ...string) *process {
		q := startEnv(t, env, append([]string{command, where}, args...)...)
		q.wait()
		return q
	}
	other := []string{"AGRDIST_CLUSTER_SECRET=" + strings.Repeat("fedcba9876543210", 2)}
	require.Contains(t, as(other, "stop", "--set", "cluster.run_id=afar").ended(exitFailed).stderr.String(), "does not follow from this secret")
	require.Contains(t, as(secret, "stop", "--set", "cluster.run_id=near").ended(exitFailed).stderr.String(), "does not follow from this secret")
	require.Contains(t, as(nil, "stop").ended(exitFailed).stderr.String(), "give the run's secret")
	require.Contains(t, as(secret, "status", "--set", "cluster.run_id=afar").ended(exitOK).stdout.String(), "healthy")
	require.Contains(t, as(secret, "stop", "--set", "cluster.run_id=afar").ended(exitOK).stdout.String(), "has ended")
	p.ended(exitSignal)
}
