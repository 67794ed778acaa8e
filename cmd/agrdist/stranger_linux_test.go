package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/allreduce/mesh"
	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/cluster/coordinator"
	"github.com/agrdist/agrdist/cluster/security"
	"github.com/agrdist/agrdist/metrics"
)

// listeners returns the TCP ports of 127.0.0.1 at which processes listen.
func listeners(t *testing.T, pids []int) (ports []string) {
	t.Helper()
	sockets := map[string]bool{}
	for _, pid := range pids {
		fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		require.NoError(t, err)
		for _, fd := range fds {
			if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:[") {
				sockets[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")] = true
			}
		}
	}
	table, err := os.ReadFile("/proc/net/tcp")
	require.NoError(t, err)
	for _, line := range strings.Split(string(table), "\n")[1:] {
		f := strings.Fields(line)
		if len(f) < 10 || f[3] != "0A" || !sockets[f[9]] { // 0A: listening
			continue
		}
		_, port, _ := strings.Cut(f[1], ":")
		n, err := strconv.ParseUint(port, 16, 16)
		require.NoError(t, err)
		ports = append(ports, fmt.Sprintf("127.0.0.1:%d", n))
	}
	return ports
}

// A run without a secret of its user's stays on 127.0.0.1, whose ports are open to
// every user of the machine. None of them can look at it, stop it, forge a death in
// it or join it: the run has a secret that only its user's processes can know.
func TestStrangersOnThisHost(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, training(dir, "--set", "train.steps=100000", "--set", "checkpoint.every=0", "--workers", "2")...)
	p.step(dir, 2)
	workers := pids(t, p.generation(dir, 1))
	all := append([]int{p.cmd.Process.Pid}, workers...)
	ports := listeners(t, all)
	require.Len(t, ports, 5, "gossip, coordinator, page and two workers")

	for _, addr := range ports {
		requireStrangerFails(t, addr)
	}
	requireHidden(t, dir, all)

	p.signal(syscall.SIGTERM)
	p.ended(exitSignal)
	for _, e := range events(t, dir) {
		require.NotContains(t, e.Reason, "forged")
	}
	requireQuiet(t, dir)
}

// A thousand strangers stand at each port of a run, say nonsense or nothing, and come again
// when they are sent away. They cost little memory and no log, and a worker that dies
// meanwhile is replaced.
func TestStrangersAtEveryPort(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, training(dir, "--set", "train.steps=1000000", "--set", "checkpoint.every=0", "--workers", "2")...)
	p.step(dir, 50)
	workers := pids(t, p.generation(dir, 1))
	all := append([]int{p.cmd.Process.Pid}, workers...)
	ports := listeners(t, all)
	require.Len(t, ports, 5, "gossip, coordinator, page and two workers")
	before := map[int]int{}
	for _, pid := range all {
		before[pid] = rss(t, pid)
	}

	const strangers = 1000
	ctx, cancel := context.WithCancel(t.Context())
	var crowd sync.WaitGroup
	var there atomic.Int64
	for _, addr := range ports {
		crowd.Go(func() {
			conns := make([]net.Conn, strangers)
			for i := 0; ctx.Err() == nil; i++ {
				if c, err := net.DialTimeout("tcp", addr, time.Second); err == nil { // a worker may be gone
					if i%2 == 0 {
						_ = c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
						_, _ = c.Write(append([]byte("AGRH\x03\x00"), bytes.Repeat([]byte{byte(i)}, 300)...))
					}
					if old := conns[i%strangers]; old != nil {
						_ = old.Close()
					}
					conns[i%strangers] = c
				}
				if i == strangers {
					there.Add(1)
				}
				if i >= strangers {
					time.Sleep(10 * time.Millisecond)
				}
			}
			for _, c := range conns {
				if c != nil {
					_ = c.Close()
				}
			}
		})
	}
	defer crowd.Wait()
	defer cancel()
	p.await("the crowd", func() bool { return there.Load() == int64(len(ports)) })
	limit := 64 << 20
	if race { // whose shadow of the memory is as large several times over
		limit *= 4
	}
	for _, pid := range all {
		require.Less(t, rss(t, pid)-before[pid], limit, "bytes that strangers cost process %d", pid)
	}

	require.NoError(t, syscall.Kill(workers[1], syscall.SIGKILL))
	found := p.event(dir, "a generation of both", func(e metrics.Event) bool {
		return e.Event == metrics.EventGeneration && e.Generation > 1 && len(e.Members) == 2
	})
	p.event(dir, "a step of it", func(e metrics.Event) bool { return e.Event == metrics.EventStep && e.Generation >= found.Generation })
	require.Less(t, rss(t, all[0])-before[all[0]], limit)
	cancel()
	crowd.Wait()
	p.signal(syscall.SIGTERM)
	p.ended(exitSignal)
	logs, err := filepath.Glob(filepath.Join(dir, "logs", "*.log"))
	require.NoError(t, err)
	for _, f := range logs {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		require.Less(t, len(text), 256<<10, "%s: strangers fill a log", f)
	}
	require.NotContains(t, p.stderr.String(), "refused", "nor the terminal")
	requireQuiet(t, dir)
}

// rss is the memory that a process has, in bytes.
func rss(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	require.NoError(t, err)
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	require.NoError(t, err)
	return pages * os.Getpagesize()
}

// requireStrangerFails tries at an address what hurts a run without a secret.
func requireStrangerFails(t *testing.T, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // to no avail; a member needs milliseconds
	defer cancel()
	wrong, err := security.Derive(security.GenerateSecret(), security.Identity{RunID: "agrdist", Node: "evil"})
	require.NoError(t, err)
	for _, c := range []coordinator.ClientConfig{{Addr: addr}, {Addr: addr, Credentials: wrong.ClientCredentials()}} {
		client, err := coordinator.Dial(c)
		require.NoError(t, err)
		_, err = client.Status(ctx)
		require.Error(t, err)
		require.Error(t, client.RequestStop(ctx, "forged"))
		_, err = client.ReportExit(ctx, cluster.Exit{Code: cluster.ExitBadConfig, Message: "forged"})
		require.Error(t, err)
		_ = client.Close()
	}
	plan, err := allreduce.NewPlan(4, 2)
	require.NoError(t, err)
	for _, secret := range [][]byte{nil, wrong.DataKeys()[0]} {
		e, err := mesh.Listen(mesh.EndpointConfig{RunID: "agrdist", Secret: secret})
		require.NoError(t, err)
		_, err = e.Connect(ctx, allreduce.GroupConfig{Generation: 1, Rank: 1, Plan: plan, Peers: []string{addr, e.Addr()}})
		require.Error(t, err)
		_ = e.Close()
	}
}

// requireHidden requires that the run's secret is nowhere but in a file of its user.
func requireHidden(t *testing.T, dir string, pids []int) {
	t.Helper()
	path := filepath.Join(dir, "secret")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	secret := strings.TrimSpace(string(text))
	require.Greater(t, len(secret), 40)
	for _, name := range []string{"secret", "lock"} {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), name)
	}
	for _, pid := range pids {
		for _, f := range []string{"cmdline", "environ"} {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, f))
			require.NoError(t, err)
			require.NotContains(t, string(text), secret, "%d %s", pid, f)
		}
	}
	require.NoError(t, filepath.WalkDir(dir, func(f string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || f == path {
			return err
		}
		text, err := os.ReadFile(f)
		if err == nil {
			require.NotContains(t, string(text), secret, f)
		}
		return nil
	}))
	if os.Getuid() != 0 {
		t.Log("not root: what another user can read is not tried, only the files' modes")
		return
	}
	for _, f := range []string{path, filepath.Join(dir, "lock"), fmt.Sprintf("/proc/%d/environ", pids[1]), fmt.Sprintf("/proc/%d/fd", pids[1])} {
		cmd := exec.Command("ls", "-l", f+"/.")
		if strings.HasPrefix(f, dir) {
			cmd = exec.Command("cat", f)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		require.Error(t, err, "nobody reads %s: %s", f, out)
	}
}

// Two nodes of one user on one machine need no secret either, in any order.
func TestTwoNodesFindTheirSecret(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	first := training(filepath.Join(root, "1"), "--nodes", "2", "--workers", "1")
	a := start(t, first...)
	addr := a.says(`--join (\S+)`)
	path := filepath.Join(fmt.Sprintf("/tmp/agrdist-%d", os.Getuid()), strings.Replace(addr, ":", "_", 1)+".secret")
	if _, err := os.Stat(fmt.Sprintf("/run/user/%d", os.Getuid())); err == nil {
		path = filepath.Join(fmt.Sprintf("/run/user/%d/agrdist", os.Getuid()), filepath.Base(path))
	}
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	b := start(t, training(filepath.Join(root, "2"), "--nodes", "2", "--workers", "1", "--join", addr)...)
	a.ended(exitOK)
	b.ended(exitOK)
	dir := filepath.Join(root, "1")
	requireSame(t, dir)
	require.NoFileExists(t, path, "the run is over")
}

// A program that differs in one byte says the same version, and is not let in.
func TestPatchedProgramIsRefused(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	self, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	patched := filepath.Join(root, "patched")
	require.NoError(t, os.WriteFile(patched, append(self, 0), 0o700))
	node := func(name string, more ...string) []string {
		return training(filepath.Join(root, name), append([]string{"--nodes", "2", "--workers", "1", "--set", "cluster.start_timeout=1m"}, more...)...)
	}
	a := start(t, node("1")...)
	b := spawn(t, exec.Command(patched, node("2", "--join", a.says(`--join (\S+)`))...), nil)
	b.ended(exitConfig)
	require.Contains(t, b.stderr.String(), "install the same program file on every node")
}

// A secret among the arguments is one that everybody on the machine can read.
func TestSecretIsNoArgument(t *testing.T) {
	for _, set := range []string{"cluster.secret=0123456789abcdef0123", " cluster.secret =x"} {
		p := run(t, training(t.TempDir(), "--set", set)...)
		refused(t, p, exitUsage, "every user of this machine", "AGRDIST_CLUSTER_SECRET")
		require.NotContains(t, p.stderr.String(), "0123456789")
	}
}
