package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/cluster"
)

// records decodes output that must be JSON, every line of it.
func records(t *testing.T, text string) (out []map[string]any) {
	t.Helper()
	for line := range strings.Lines(text) {
		var r map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &r), "%q", line)
		require.NotEmpty(t, r["time"])
		require.NotEmpty(t, r["level"])
		require.NotEmpty(t, r["msg"])
		out = append(out, r)
	}
	return out
}

// Every line that run prints as JSON is an object: news, progress, the end; on stdout.
func TestJSONRun(t *testing.T) {
	t.Parallel()
	p := start(t, training(t.TempDir(), "--set", "log.format=json", "--set", "cluster.node=pod-0")...)
	require.Equal(t, 0, p.wait())
	require.Empty(t, p.stderr.String())
	all := records(t, p.stdout.String())
	require.NotEmpty(t, all)
	last := all[len(all)-1]
	require.Equal(t, "finished", last["msg"])
	require.EqualValues(t, tinySteps, last["step"])
	require.Len(t, last["digest"], 64)
	for _, r := range all {
		require.Equal(t, "pod-0", r["node"])
		require.NotContains(t, r["msg"], "token=", "a log is kept, and read by many")
	}
	require.Equal(t, "progress", all[len(all)-2]["msg"], "the last step is reported")
}

// A configuration that cannot work is said in JSON where the environment asks for it:
// the configuration itself could not be read.
func TestJSONRefusal(t *testing.T) {
	t.Setenv("AGRDIST_LOG_FORMAT", "json")
	var stdout, stderr bytes.Buffer
	require.Equal(t, exitConfig, execute(t.Context(), []string{"run", "--set", "train.steps=0"}, &stdout, &stderr))
	require.Empty(t, stderr.String())
	all := records(t, stdout.String())
	require.Len(t, all, 1)
	require.Equal(t, "ERROR", all[0]["level"])
	require.EqualValues(t, exitConfig, all[0]["exit_code"])
	require.Contains(t, all[0]["msg"], "train.steps is 0")
}

// One voice: rank 0's node reports progress, no more often than every ten seconds and
// each percent, and not less than once a minute; the others are silent while they train.
func TestJSONProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		j := &jsonLines{newJSONLog(&out)}
		d := newDisplay(j, 8)
		says := func(s cluster.Status, leads bool) []map[string]any {
			t.Helper()
			out.Reset()
			s.TotalSteps, s.State = 10000, cluster.StateRunning
			s.Generation = cluster.Generation{Number: 1, Members: make([]cluster.Member, 2)}
			d.update(s, leads)
			return records(t, out.String())
		}
		require.Len(t, says(cluster.Status{Step: 1}, true), 1, "that it began")
		time.Sleep(9 * time.Second)
		require.Empty(t, says(cluster.Status{Step: 900}, true), "not yet ten seconds")
		time.Sleep(2 * time.Second)
		require.Empty(t, says(cluster.Status{Step: 950}, false), "another node's business")
		require.Len(t, says(cluster.Status{Step: 950}, true), 1)
		time.Sleep(20 * time.Second)
		require.Empty(t, says(cluster.Status{Step: 1000}, true), "half a percent")
		time.Sleep(45 * time.Second)
		r := says(cluster.Status{Step: 1001}, true)
		require.Len(t, r, 1, "a minute has passed")
		require.EqualValues(t, 1001, r[0]["step"])
		require.Empty(t, says(cluster.Status{Step: 10000}, false))
		require.Len(t, says(cluster.Status{Step: 10000}, true), 1, "the end")
	})
}
