package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// smallExperiment writes an experiment of a few seconds.
func smallExperiment(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	text.WriteString("title: Small\nsteps: 6\nat: [3, 6]\nseeds: [1, 2]\neval: {images: 16, steps: 2, weights: [raw, ema]}\n")
	text.WriteString("tune: {keys: {lr.base: [1e-3, 5e-3]}, steps: 2}\nvary: {optimizer.name: [adan, sgdm]}\nset:\n  data.holdout: 20\n")
	for _, s := range tiny {
		key, value, _ := strings.Cut(s, "=")
		if key != "train.steps" {
			fmt.Fprintf(&text, "  %s: %s\n", key, value)
		}
	}
	path := filepath.Join(t.TempDir(), "experiment.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text.String()), 0o600))
	return path
}

// reported is every file of a report.
func reported(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, pattern := range []string{"report.*", "figures/*"} {
		list, err := filepath.Glob(filepath.Join(dir, pattern))
		require.NoError(t, err)
		for _, f := range list {
			text, err := os.ReadFile(f)
			require.NoError(t, err)
			out[strings.TrimPrefix(f, dir)] = string(text)
		}
	}
	return out
}

// An experiment that is killed twice and continues leaves the report of an undisturbed
// one, byte for byte.
func TestCompareKilled(t *testing.T) {
	t.Parallel()
	file, root := smallExperiment(t), t.TempDir()
	env := []string{"XDG_CACHE_HOME=" + filepath.Join(scratch, "cache")}
	whole := filepath.Join(root, "whole")
	p := startEnv(t, env, "compare", file, "--out", whole, "--parallel", "2")
	require.Zero(t, p.patient(5*time.Minute), p.stderr.String()) // eight runs: minutes, on a busy machine
	require.Contains(t, p.stdout.String(), filepath.Join(whole, "report.md"))
	want := reported(t, whole)
	require.Contains(t, want["/report.md"], "Paired tests: heldout-loss")
	require.Contains(t, want["/report.md"], "| sgdm | 2 |")

	broken := filepath.Join(root, "broken")
	for _, at := range []string{"2/8", "6/8"} {
		p := startEnv(t, env, "compare", file, "--out", broken, "--parallel", "2")
		p.says("(?m)^" + at)
		_ = p.cmd.Process.Kill() // on a fast machine it has ended
		p.wait()
	}
	startEnv(t, env, "compare", file, "--out", broken, "--parallel", "1").ended(exitOK)
	require.Equal(t, want, reported(t, broken))
	startEnv(t, env, "compare", file, "--out", broken).ended(exitOK)
	require.Equal(t, want, reported(t, broken), "a finished experiment, again")
}

func TestCompareRefusals(t *testing.T) {
	t.Parallel()
	out := t.TempDir()
	refused(t, run(t, "compare"), exitUsage, "--out")
	refused(t, run(t, "compare", "--out", out), exitConfig, "nothing to compare")
	refused(t, run(t, "compare", "--out", out, "--vary", "optimizer.name"), exitUsage, "key=value,value")
	refused(t, run(t, "compare", "--out", out, "--vary", "optimizer.name=adan,adm"), exitConfig, `"adm"`)
	refused(t, run(t, "compare", "--out", out, "--vary", "lr.bas=1"), exitConfig, `did you mean "lr.base"`)
	refused(t, run(t, "compare", "--out", out, "--seeds", "4..1", "--vary", "seed=1"), exitUsage, "4..1")
	refused(t, run(t, "compare", filepath.Join(out, "no.yaml"), "--out", out), exitConfig, "no.yaml")
}
