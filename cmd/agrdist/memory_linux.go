package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// freeMemory is what this process can still allocate: what the machine has available,
// or what its cgroup leaves. 0: not known.
func freeMemory() int64 {
	free := int64(0)
	for line := range strings.Lines(readText("/proc/meminfo")) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "MemAvailable:" {
			kb, _ := strconv.ParseInt(f[1], 10, 64) // 0: not known
			free = kb << 10
		}
	}
	for line := range strings.Lines(readText("/proc/self/cgroup")) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 {
			continue
		}
		dir, limit, usage := "/sys/fs/cgroup", "memory.max", "memory.current" // version 2
		if part[1] == "memory" {
			dir, limit, usage = "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
		} else if part[1] != "" {
			continue
		}
		for _, at := range []string{filepath.Join(dir, part[2]), dir} { // within a container its own is the root
			most, err1 := strconv.ParseInt(strings.TrimSpace(readText(filepath.Join(at, limit))), 10, 64)
			used, err2 := strconv.ParseInt(strings.TrimSpace(readText(filepath.Join(at, usage))), 10, 64)
			if err1 == nil && err2 == nil {
				if left := max(1, most-used); free == 0 || left < free {
					free = left
				}
			}
		}
	}
	return free
}

func readText(path string) string {
	b, _ := os.ReadFile(path) // "" where it is not there
	return string(b)
}
