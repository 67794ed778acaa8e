package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/metrics"
	"github.com/agrdist/agrdist/status"
)

// secretFile replaces a node's secret file, as people do: at once.
func secretFile(t *testing.T, path string, secrets ...string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", []byte(strings.Join(secrets, "\n")+"\n"), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

// accepted is what the page of the run in dir says of the secrets of each node.
func accepted(t *testing.T, dir string) map[string]string {
	t.Helper()
	said := map[string]string{}
	for _, e := range status.Endpoints(dir) {
		v, err := (status.Client{URL: e.URL, Token: e.Token, TLS: e.TLS()}).View(t.Context(), e.Run)
		if err != nil {
			continue // it is starting
		}
		for _, n := range v.Nodes {
			said[n.Name] = n.Secrets
		}
	}
	return said
}

// The secret of a run on two nodes is replaced while it trains, in three phases, one node
// after the other. No step is lost, no generation is formed for it, whoever is started
// meanwhile is let in, and the model is that of a run that nothing happened to. Who has the
// old secret alone is refused then.
func TestSecretIsReplacedWhileTraining(t *testing.T) {
	t.Parallel()
	oldSecret, newSecret := "old: 0123456789abcdef0123456789abcdef", "new: fedcba9876543210fedcba9876543210"
	root := t.TempDir()
	names := []string{"one", "two"}
	dirs, files, agents := make([]string, 2), make([]string, 2), make([]*process, 2)
	command := func(dir, file, name string, more ...string) []string {
		return training(dir, append([]string{
			"--nodes", "2:3", "--workers", "1", "--set", "train.steps=1000000", "--set", "cluster.form_wait=1ms",
			"--set", "cluster.secret_file=" + file, "--set", "cluster.node=" + name,
		}, more...)...)
	}
	for i, name := range names {
		dirs[i], files[i] = filepath.Join(root, name), filepath.Join(root, name+".secret")
		secretFile(t, files[i], oldSecret)
		var join []string
		if i > 0 {
			join = []string{"--join", agents[0].says(`--join (\S+)`)}
		}
		agents[i] = start(t, command(dirs[i], files[i], name, join...)...)
	}
	a := agents[0]
	addr := a.says(`--join (\S+)`)
	a.step(dirs[0], 2)

	before := map[string]string{}
	a.await("the nodes' fingerprints", func() bool {
		before = accepted(t, dirs[0])
		return len(before) == 2 && before["one"] != "" && before["two"] == before["one"]
	})
	was := before["one"]
	is := ""
	for phase, secrets := range [][]string{{oldSecret, newSecret}, {newSecret, oldSecret}, {newSecret}} {
		for i, name := range names {
			secretFile(t, files[i], secrets...)
			if phase != 1 && i == 0 {
				continue // both at once; the second phase goes from node to node
			}
			a.await(fmt.Sprintf("nodes in phase %d", phase+1), func() bool {
				time.Sleep(50 * time.Millisecond) // each look is a TLS handshake
				said := accepted(t, dirs[0])
				if is == "" && strings.HasPrefix(said["one"], was+" ") {
					is = said["one"][len(was)+1:]
				}
				want := []string{was + " " + is, is + " " + was, is}[phase]
				return said[name] == want && said["one"] == want
			})
		}
	}
	for _, p := range agents {
		require.Regexp(t, "(?s)"+was+" on this node.*"+is+" on this node.*"+is+" on this node", p.stderr.String(), "each phase is told")
	}
	formed := 0
	for _, e := range events(t, dirs[0]) {
		if e.Event == metrics.EventGeneration {
			formed++
		}
	}
	if formed != 1 {
		requireOnlyLoad(t, dirs[0])
	}

	// The processes that have seen the change, and one that is started after it, form a
	// group under the new secret.
	last := a.generation(dirs[0], 1)
	for _, e := range events(t, dirs[0]) {
		if e.Event == metrics.EventGeneration {
			last = e
		}
	}
	require.NoError(t, syscall.Kill(pids(t, last)[1], syscall.SIGKILL))
	found := a.event(dirs[0], "a generation of both", func(e metrics.Event) bool {
		return e.Event == metrics.EventGeneration && e.Generation > last.Generation && len(e.Members) == 2
	})
	a.event(dirs[0], "a step of it", func(e metrics.Event) bool { return e.Event == metrics.EventStep && e.Generation == found.Generation })

	// What was the secret opens nothing, and a file that makes no sense changes nothing.
	stale := filepath.Join(root, "stale.secret")
	secretFile(t, stale, oldSecret)
	late := start(t, command(filepath.Join(root, "late"), stale, "late", "--join", addr, "--set", "cluster.start_timeout=3s")...)
	require.NotEqual(t, exitOK, late.wait())
	require.Contains(t, late.stderr.String(), "another secret")
	secretFile(t, files[0], oldSecret)
	a.says("cannot be used, so the secrets of before stay in force: .*the secret in use is not in the file")

	processes := []int{agents[0].cmd.Process.Pid, agents[1].cmd.Process.Pid}
	requireNoTrace(t, dirs, append(processes, pids(t, found)...), oldSecret, newSecret)
	a.signal(syscall.SIGINT)
	for _, p := range agents {
		p.ended(exitSignal)
	}
	step := requireReplicas(t, dirs...)
	_, digest := newestOn(t, dirs[0])
	requireAlone(t, step, digest)
}

// requireOnlyLoad requires that all generations but the first were formed because a busy
// machine was slow, and none because somebody was refused.
func requireOnlyLoad(t *testing.T, dir string) {
	t.Helper()
	for _, e := range events(t, dir) {
		if e.Event == metrics.EventGeneration && e.Generation > 1 {
			require.NotContains(t, e.Reason, "secret")
			require.NotContains(t, e.Reason, "refused")
			t.Logf("generation %d: %s", e.Generation, e.Reason)
		}
	}
}

// requireNoTrace requires that secrets are in no file of a run, and in no argument or
// environment of its processes.
func requireNoTrace(t *testing.T, dirs []string, pids []int, secrets ...string) {
	t.Helper()
	clean := func(where string, text []byte) {
		for _, s := range secrets {
			require.NotContains(t, string(text), s, where)
		}
	}
	for _, dir := range dirs {
		require.NoError(t, filepath.WalkDir(dir, func(f string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				if text, err := os.ReadFile(f); err == nil { // checkpoints come and go
					clean(f, text)
				}
			}
			return nil
		}))
	}
	for _, pid := range pids {
		for _, f := range []string{"cmdline", "environ"} {
			path := fmt.Sprintf("/proc/%d/%s", pid, f)
			if text, err := os.ReadFile(path); err == nil {
				clean(path, text)
			}
		}
	}
}
