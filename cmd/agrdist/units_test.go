package main

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/cluster"
)

func TestParseSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"4": 4, "4096": 4096, "4K": 4096, "4k": 4096, "4KB": 4096, "16M": 16 << 20, "1G": 1 << 30, "1024G": 1 << 40, "8b": 8,
	} {
		n, err := parseSize(text)
		require.NoError(t, err, text)
		require.Equal(t, want, n, text)
	}
	for _, text := range []string{"", "K", "0", "3", "-4K", "1.5M", "4T", "1025G", "4 K", "KK", "99999999999999999999", "9223372036854775807G"} {
		_, err := parseSize(text)
		require.ErrorContains(t, err, "4096, 4K or 64M", text)
	}
}

func TestRoundTime(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		1234 * time.Millisecond: "1.2s", 61*time.Second + 400*time.Millisecond: "1m1s", 2*time.Hour + 10*time.Minute + 31*time.Second: "2h11m0s",
	} {
		require.Equal(t, want, roundTime(d).String())
	}
}

func TestRate(t *testing.T) {
	t.Parallel()
	var r rate
	at := time.Unix(0, 0)
	r.observe(10, at)
	require.Zero(t, r.perSecond, "one look says nothing")
	r.observe(12, at.Add(500*time.Millisecond))
	require.Zero(t, r.perSecond, "nor does half a second")
	r.observe(30, at.Add(2*time.Second))
	require.InDelta(t, 10, r.perSecond, 1e-9)
	r.observe(50, at.Add(3*time.Second))
	require.InDelta(t, 10+0.3*10, r.perSecond, 1e-9)
	r.observe(5, at.Add(4*time.Second)) // went back to a checkpoint
	require.InDelta(t, 13, r.perSecond, 1e-9)
	r.observe(18, at.Add(5*time.Second))
	require.InDelta(t, 13, r.perSecond, 1e-9)
}

// Without a terminal the display prints a line every five seconds, one at the
// last step, and what the run waits for when that changes.
func TestPlainDisplay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		d := newDisplay(&out, 8)
		defer d.close()
		world := func(n int) cluster.Generation {
			return cluster.Generation{Number: uint64(n), Members: make([]cluster.Member, n), Reason: "because"}
		}
		shows := func(want string, s cluster.Status) {
			t.Helper()
			s.TotalSteps = 100
			out.Reset()
			d.update(s, true)
			require.Equal(t, want, out.String())
		}
		forming := cluster.Status{State: cluster.StateForming, Step: -1, Detail: "0 of 2 workers are here"}
		shows("", forming)
		time.Sleep(5 * time.Second)
		shows("agrdist: 0 of 2 workers are here\n", forming)
		shows("", forming)
		running := cluster.Status{State: cluster.StateRunning, Step: 10, Loss: 0.5, Generation: world(1)}
		shows("step 10/100  loss 0.5000  world 1\n", running)
		time.Sleep(2 * time.Second)
		running.Step = 20
		shows("", running)
		time.Sleep(3 * time.Second)
		running.Step = 35
		running.Workers = []cluster.WorkerStatus{{Report: cluster.Report{Phase: cluster.PhaseCheckpoint}}}
		shows("step 35/100  loss 0.5000  40 images/s  ETA 13s  world 1  checkpoint\n", running)
		running.Workers = nil
		shows("agrdist: no majority\n", cluster.Status{State: cluster.StateWaiting, Step: 35, Detail: "no majority"})
		running.Generation = world(2)
		shows("agrdist: generation 2, 2 workers: because\n", running)
		shows("", running)
		running.Step = 100
		shows("step 100/100  loss 0.5000  40 images/s  ETA 0s  world 2\n", running)
		shows("", running)

		out.Reset()
		_, err := d.Write([]byte("a line\n"))
		require.NoError(t, err)
		require.Equal(t, "a line\n", out.String())
	})
}
