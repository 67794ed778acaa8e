package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/isa"
)

// Nodes whose kernels differ train together where the run is portable, and another kind
// of processor resumes it, with the bits of one node. Plain Go stands for the other
// processor.
func TestPortableRun(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	dir := func(name string) string { return filepath.Join(root, name) }
	const portable = "train.cpu=portable"
	run(t, training(dir("whole"), "--set", portable, "--workers", "1")...).ended(exitOK)
	require.Equal(t, "cpu/portable", kernels(t, dir("whole")))

	node := func(name string, more ...string) []string {
		return training(dir(name), append([]string{"--set", portable, "--set", "train.steps=16", "--nodes", "2", "--workers", "1"}, more...)...)
	}
	a := start(t, node("mixed")...)
	b := startEnv(t, []string{"AGRDIST_CPU=portable-go"}, node("second", "--join", a.says(`--join (\S+)`))...)
	a.ended(exitOK)
	b.ended(exitOK)
	startEnv(t, []string{"AGRDIST_CPU=portable-go"}, training(dir("mixed"), "--set", portable, "--workers", "1")...).ended(exitOK)
	require.Equal(t, finish(t, dir("whole")).ModelDigest, finish(t, dir("mixed")).ModelDigest)

	p := startEnv(t, []string{"AGRDIST_CPU=go"}, training(dir("mixed"), "--set", portable, "--set", "train.steps=34")...)
	p.ended(exitConfig)
	require.Contains(t, p.stderr.String(), "AGRDIST_CPU=go is not portable, and train.cpu is")
}

// A worker with kernels that round otherwise is told how the two could train together.
func TestOtherKernelsAreRefused(t *testing.T) {
	t.Parallel()
	if isa.Best() == isa.Go {
		t.Skip("this processor has one set of kernels")
	}
	root := t.TempDir()
	node := func(name string, more ...string) []string {
		return training(filepath.Join(root, name), append([]string{"--nodes", "2", "--workers", "1", "--set", "cluster.start_timeout=1m"}, more...)...)
	}
	a := start(t, node("1")...)
	b := startEnv(t, []string{"AGRDIST_CPU=go"}, node("2", "--join", a.says(`--join (\S+)`))...)
	b.ended(exitConfig)
	require.Contains(t, b.stderr.String(), "their kernels round differently: start the run with train.cpu=portable")
}
