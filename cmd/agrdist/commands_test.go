package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/bench"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/doctor"
)

func TestCheckpointCommands(t *testing.T) {
	t.Parallel()
	dir := reference(t)
	digest := finish(t, dir).ModelDigest

	lines := strings.Split(strings.TrimSpace(run(t, "checkpoint", "list", dir).ended(exitOK).stdout.String()), "\n")
	require.Len(t, lines, 4)
	require.Equal(t, []string{"STEP", "CREATED", "MiB", "DIGEST", "PATH"}, strings.Fields(lines[0]))
	for i, step := range []string{"32", "24", "16"} { // keep is 3
		require.Equal(t, step, strings.Fields(lines[i+1])[0])
		require.True(t, strings.HasSuffix(lines[i+1], filepath.Join(dir, "checkpoints", "step-"+step)))
	}
	require.Contains(t, lines[1], short(digest))

	p := run(t, "checkpoint", "verify", dir).ended(exitOK)
	require.Contains(t, p.stdout.String(), "step 32: verified, 6 files, digest "+digest)
	require.Equal(t, 3, strings.Count(p.stdout.String(), "verified"))
	p = run(t, "checkpoint", "verify", filepath.Join(dir, "checkpoints", "step-32")).ended(exitOK)
	require.Equal(t, "step 32: verified, 6 files, digest "+digest+"\n", p.stdout.String())
}

// What config print writes is a configuration of the same run.
func TestConfigCommands(t *testing.T) {
	t.Parallel()
	args := append([]string{"config", "print"}, training("x")[3:]...)
	first := run(t, args...).ended(exitOK).stdout.String()
	file := filepath.Join(t.TempDir(), "run.yaml")
	require.NoError(t, os.WriteFile(file, []byte(first), 0o600))
	plain := regexp.MustCompile(`(?m) # .*$`)
	again := run(t, "config", "print", "-c", file).ended(exitOK).stdout.String()
	require.Equal(t, plain.ReplaceAllString(first, ""), plain.ReplaceAllString(again, ""))
	for _, line := range []string{
		`steps: 32 # optimizer steps .* \[from --set train.steps=32; default 1200\]`, `eps: null # .* \[default 1e-08 of adan\]`,
		`momentum: null # .* \[default none: adan does not take it\]`, `seed: 42 # .* \[default\]`, `secret: ""`,
	} {
		require.Regexp(t, line, first)
	}
	require.Regexp(t, `steps: 32 # .* \[from .*run.yaml:\d+; default 1200\]`, again)
	for _, k := range config.Keys() {
		require.Contains(t, first, k.Name[strings.LastIndex(k.Name, ".")+1:]+": ")
	}
	hidden := startEnv(t, []string{"AGRDIST_CLUSTER_SECRET=0123456789abcdefX"}, "config", "print").ended(exitOK).stdout.String()
	require.NotContains(t, hidden, "0123456789abcdefX")
	require.Contains(t, hidden, "[hidden; from AGRDIST_CLUSTER_SECRET]")
	require.Contains(t, first, "block_out_channels: [8, 16] # channels of each level")
	require.Contains(t, first, "steps: 32 # optimizer steps of the run")

	of := func(args ...string) string {
		text := run(t, append([]string{"config", "validate"}, args...)...).ended(exitOK).stdout.String()
		require.Contains(t, text, "valid: 32 steps of 8 images in chunks of 2, hash ")
		return text
	}
	require.Equal(t, of("-c", file), of("-c", filepath.Join(reference(t), "config.yaml")))
	require.Equal(t, of("-c", file), of("-c", file, "--set", "cluster.workers=7"))
	require.NotEqual(t, of("-c", file), of("-c", file, "--set", "seed=7"))
	refused(t, run(t, "config", "validate", "-c", file, "--set", "train.chunk=3"), exitConfig, "train.chunk 3")
}

func TestVersion(t *testing.T) {
	t.Parallel()
	text := run(t, "version").ended(exitOK).stdout.String()
	require.Regexp(t, `^agrdist \S+ \S+/\S+ go\S+\n$`, text)
	require.Equal(t, text, run(t, "--version").ended(exitOK).stdout.String())
}

func TestBench(t *testing.T) {
	t.Parallel()
	text := run(t, "bench", "step", "--preset", "digits", "--batch", "2", "--threads", "1", "--steps", "1", "--json").ended(exitOK).stdout.String()
	var step bench.StepResult
	require.NoError(t, strict(text, &step))
	require.Equal(t, 701345, step.Parameters)
	require.Equal(t, 2, step.Batch)
	require.Positive(t, step.ImagesPerS)
	refused(t, run(t, "bench", "step", "--preset", "huge"), exitUsage, "huge", "digits")

	text = run(t, "bench", "allreduce", "-n", "3", "-b", "4K", "-e", "64K", "-f", "4", "-i", "1", "--json").ended(exitOK).stdout.String()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	require.Len(t, lines, 3)
	for i, line := range lines {
		var r bench.AllReduceResult
		require.NoError(t, strict(line, &r))
		require.Equal(t, int64(4096)<<(2*i), r.Bytes)
		require.Equal(t, 3, r.World)
		require.Equal(t, "tree", r.Order)
		require.InEpsilon(t, r.AlgBW*4/3, r.BusBW, 1e-9)
	}
	table := run(t, "bench", "allreduce", "-b", "4K", "-e", "4K", "-i", "1", "--order", "ring").ended(exitOK).stdout.String()
	require.Regexp(t, `(?s)^# 2 ranks, order ring, f32 sum\n +bytes +time \(ms\) +algbw \(GB/s\) +busbw \(GB/s\)\n +4096 +[\d.]+ +[\d.]+ +[\d.]+\n$`, table)
}

// strict decodes one JSON object without unknown fields.
func strict(text string, into any) error {
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	text := run(t, "doctor").ended(exitOK).stdout.String()
	for _, line := range []string{`ok +processor +\S`, `ok +cores +\d`, `ok +loopback +127\.0\.0\.1`, `\w+ +(GPU|CUDA)`} {
		require.Regexp(t, `(?m)^`+line, text)
	}
	p := startEnv(t, []string{"AGRDIST_CPU=sse"}, "doctor", "--json").ended(exitFailed)
	var found struct {
		Findings []doctor.Finding
	}
	require.NoError(t, json.Unmarshal([]byte(p.stdout.String()), &found))
	require.Equal(t, doctor.Fail, found.Findings[0].Status)
	require.Contains(t, found.Findings[0].Text, `"sse"`)
	require.Contains(t, found.Findings[0].Fix, "AGRDIST_CPU")
	require.Empty(t, p.stderr.String())
}

func TestHelp(t *testing.T) {
	t.Parallel()
	text := run(t).ended(exitOK).stdout.String()
	for _, c := range []string{"run", "sample", "checkpoint", "config", "bench", "doctor", "version"} {
		require.Contains(t, text, "\n  "+c+" ")
	}
	require.NotContains(t, text, "\n  worker ", "an inner matter")
	require.Contains(t, run(t, "run", "--help").ended(exitOK).stdout.String(), "143 stopped by a signal")
}
