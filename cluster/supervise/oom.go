//go:build unix

package supervise

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// oomCount is how many processes the out-of-memory killer has ended so far.
type oomCount struct {
	n     uint64
	known bool
}

// readOOM reads the counter of this process's cgroup (v2), which counts kills
// for any reason in it and below, else the machine's.
func readOOM() oomCount {
	if data, err := os.ReadFile("/proc/self/cgroup"); err == nil {
		if path, ok := cgroupPath(data); ok {
			events, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", path, "memory.events"))
			if c := parseOOM(events); err == nil && c.known {
				return c
			}
		}
	}
	data, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return oomCount{}
	}
	return parseOOM(data)
}

// cgroupPath finds the path of cgroup v2, "0::/path", in /proc/self/cgroup.
func cgroupPath(data []byte) (string, bool) {
	for line := range strings.Lines(string(data)) {
		if path, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "0::"); ok {
			return filepath.Clean("/" + path), true
		}
	}
	return "", false
}

// parseOOM finds "oom_kill N" in memory.events or /proc/vmstat.
func parseOOM(data []byte) oomCount {
	for sc := bufio.NewScanner(bytes.NewReader(data)); sc.Scan(); {
		if text, ok := strings.CutPrefix(sc.Text(), "oom_kill "); ok {
			n, err := strconv.ParseUint(text, 10, 64)
			return oomCount{n: n, known: err == nil}
		}
	}
	return oomCount{}
}

// since compares two readings.
func (c oomCount) since(before oomCount) OOM {
	switch {
	case !c.known || !before.known:
		return OOMUnknown
	case c.n > before.n:
		return OOMLikely
	default:
		return OOMNo
	}
}
