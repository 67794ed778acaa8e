package usage

import (
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// text reads a file; "" where there is none.
func text(root fs.FS, name string) string {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return ""
	}
	return string(b)
}

// number is field i of a line, counted from 0; 0 where it is no number.
func number(line string, i int) uint64 {
	fields := strings.Fields(line)
	if i >= len(fields) {
		return 0
	}
	n, err := strconv.ParseUint(fields[i], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// residentBytes: /proc/self/statm, in pages.
func residentBytes(root fs.FS) uint64 {
	return number(text(root, "proc/self/statm"), 1) * uint64(os.Getpagesize())
}

// runDelays: the second number of a thread's schedstat is the time that it spent on a
// run queue, in nanoseconds.
func runDelays(root fs.FS) map[string]uint64 {
	threads, err := fs.ReadDir(root, "proc/self/task")
	if err != nil {
		return nil
	}
	out := make(map[string]uint64, len(threads))
	for _, t := range threads {
		out[t.Name()] = number(text(root, path.Join("proc/self/task", t.Name(), "schedstat")), 1)
	}
	return out
}

// steal: the first line of /proc/stat is "cpu user nice system idle iowait irq softirq
// steal ...", in ticks of all CPUs.
func steal(root fs.FS) (stolen, all uint64) {
	line, _, _ := strings.Cut(text(root, "proc/stat"), "\n")
	for i := 1; i <= 8; i++ {
		all += number(line, i)
	}
	return number(line, 8), all
}

// retransmits: the Tcp lines of /proc/net/snmp are names, then values.
func retransmits(root fs.FS) uint64 {
	var names []string
	for line := range strings.Lines(text(root, "proc/net/snmp")) {
		switch {
		case !strings.HasPrefix(line, "Tcp:"):
		case names == nil:
			names = strings.Fields(line)
		default:
			return number(line, max(0, slices.Index(names, "RetransSegs")))
		}
	}
	return 0
}

// throttling reads cpu.stat of this process's cgroup and of those above it, of version 2
// or 1, and returns the one that was held back in most of its periods: a limit may stand
// at any level.
func throttling(root fs.FS) (periods, throttled uint64) {
	for line := range strings.Lines(text(root, "proc/self/cgroup")) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		base := "sys/fs/cgroup"
		if parts[0] != "0" { // version 1
			if !slices.Contains(strings.Split(parts[1], ","), "cpu") {
				continue
			}
			base = path.Join(base, "cpu")
		}
		for at := path.Clean("/" + parts[2]); ; at = path.Dir(at) {
			p, t := cpuStat(text(root, path.Join(base, at, "cpu.stat")))
			if t > throttled {
				periods, throttled = p, t
			}
			if at == "/" {
				break
			}
		}
	}
	return periods, throttled
}

func cpuStat(stat string) (periods, throttled uint64) {
	for line := range strings.Lines(stat) {
		switch name, _, _ := strings.Cut(line, " "); name {
		case "nr_periods":
			periods = number(line, 1)
		case "nr_throttled":
			throttled = number(line, 1)
		}
	}
	return periods, throttled
}
