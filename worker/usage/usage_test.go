package usage

import (
	"runtime"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/leaktest"
)

func verify(m *testing.M) { leaktest.Main(m) }

func system(files map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, content := range files {
		out[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return out
}

func TestRates(t *testing.T) {
	before := system(map[string]string{
		"proc/self/statm": "100 50 3", "proc/stat": "cpu 100 0 100 700 0 0 0 100 0 0\ncpu0 1\n",
		"proc/self/task/1/schedstat": "5 1000000000 9", "proc/self/task/2/schedstat": "5 500000000 9",
		"proc/net/snmp":              "Tcp: RtoMin OutSegs RetransSegs InErrs\nTcp: 200 1000 10 7\n",
		"proc/self/cgroup":           "0::/pod/container\n",
		"sys/fs/cgroup/cpu.stat":     "usage_usec 1\n",
		"sys/fs/cgroup/pod/cpu.stat": "usage_usec 5\nnr_periods 100\nnr_throttled 20\nthrottled_usec 9\n",
	})
	after := system(map[string]string{
		"proc/self/statm": "100 60 3", "proc/stat": "cpu 130 0 120 820 0 0 0 130 0 0\ncpu0 1\n",
		"proc/self/task/1/schedstat": "5 2000000000 9", "proc/self/task/3/schedstat": "5 3000000000 9", // 2 has ended
		"proc/net/snmp":              "Tcp: RtoMin OutSegs RetransSegs InErrs\nTcp: 200 1000 30 7\n",
		"proc/self/cgroup":           "0::/pod/container\n",
		"sys/fs/cgroup/cpu.stat":     "usage_usec 1\n",
		"sys/fs/cgroup/pod/cpu.stat": "usage_usec 5\nnr_periods 120\nnr_throttled 35\nthrottled_usec 9\n",
	})
	a, b := read(before), read(after)
	a.at, b.at = time.Unix(100, 0), time.Unix(102, 0)
	a.majorFaults, b.majorFaults, a.preempted, b.preempted = 10, 20, 5, 105
	u := b.since(a)
	require.Positive(t, u.RSSBytes)
	require.InDelta(t, 2.0, u.Runnable, 1e-12, "4 thread seconds in 2 seconds")
	require.InDelta(t, 5.0, u.MajorFaults, 1e-12)
	require.InDelta(t, 50.0, u.Preempted, 1e-12)
	require.InDelta(t, 10.0, u.Retransmits, 1e-12)
	require.InDelta(t, 0.75, u.Throttled, 1e-12)
	require.InDelta(t, 0.15, u.Steal, 1e-12)
}

func TestThrottlingOfVersion1(t *testing.T) {
	root := system(map[string]string{
		"proc/self/cgroup":                  "5:cpuset:/x\n4:cpu,cpuacct:/docker/abc\n1:memory:/y\n0::/\n",
		"sys/fs/cgroup/cpu/docker/cpu.stat": "nr_periods 9\nnr_throttled 3\nthrottled_time 77\n",
	})
	periods, throttled := throttling(root)
	require.EqualValues(t, 9, periods)
	require.EqualValues(t, 3, throttled)
}

// What a system does not tell is 0, and no counter that starts again makes a rate.
func TestNothingToRead(t *testing.T) {
	a, b := read(system(nil)), read(system(map[string]string{"proc/net/snmp": "Tcp:", "proc/stat": "cpu x", "proc/self/cgroup": "no colons\n0::\n", "proc/self/statm": "1"}))
	a.at, b.at = time.Unix(1, 0), time.Unix(2, 0)
	a.retransmitted, a.majorFaults, b.majorFaults, a.preempted, b.preempted = 5, 0, 0, 0, 0
	require.Zero(t, b.since(a))
	require.Zero(t, a.since(a))
}

func TestThisProcess(t *testing.T) {
	s := Start()
	if u := s.Usage(); runtime.GOOS == "linux" {
		require.Positive(t, u.RSSBytes)
	}
	require.NoError(t, s.Close())
}

func FuzzRead(f *testing.F) {
	f.Add("Tcp: a RetransSegs\nTcp: 1 2\n", "cpu 1 2 3", "0::/a/b\n1:cpu:/../..", "nr_periods 3\nnr_throttled 2")
	f.Fuzz(func(t *testing.T, net, stat, cgroup, cpu string) {
		c := read(system(map[string]string{"proc/net/snmp": net, "proc/stat": stat, "proc/self/cgroup": cgroup, "sys/fs/cgroup/cpu.stat": cpu}))
		u := c.since(counters{at: c.at.Add(-time.Second)})
		require.LessOrEqual(t, u.Throttled, 1.0)
		require.LessOrEqual(t, u.Steal, 1.0)
	})
}
