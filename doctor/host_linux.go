package doctor

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// processorModel is the name that the kernel gives the processor; "" where it
// has none.
func processorModel() string { return field("/proc/cpuinfo", "model name") }

func memory() Finding {
	f := Finding{Status: OK, Name: "memory"}
	total, free := kilobytes("MemTotal"), kilobytes("MemAvailable")
	if total == 0 {
		return Finding{Status: Note, Name: f.Name, Text: "/proc/meminfo cannot be read"}
	}
	f.Text = fmt.Sprintf("%s, %s available", gib(total), gib(free))
	if limit := cgroupLimit("/sys/fs/cgroup", "/proc/self/cgroup"); limit > 0 && limit < total {
		f.Text += fmt.Sprintf("; limited to %s by the cgroup", size(limit))
		if limit < 1<<30 {
			f.Status, f.Fix = Note, "a worker of the full CIFAR-10 model takes about 1.4 GB, one of the digits 90 MB: raise the container's memory limit"
		}
	}
	return f
}

// cgroupLimit is the least memory limit of the process's cgroups, of version 1 and
// 2, and of those above them; 0: none. In a container the path may be that of the
// host, and what counts lies at the root of what is mounted.
func cgroupLimit(root, self string) int64 {
	text, err := os.ReadFile(self)
	if err != nil {
		return 0
	}
	least := int64(0)
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3) // number:controllers:path
		if len(parts) != 3 {
			continue
		}
		base, file := root, "memory.max"
		if parts[1] != "" {
			if !slices.Contains(strings.Split(parts[1], ","), "memory") {
				continue
			}
			base, file = filepath.Join(root, "memory"), "memory.limit_in_bytes"
		}
		for dir := filepath.Clean("/" + parts[2]); ; dir = filepath.Dir(dir) {
			if n := limitIn(filepath.Join(base, dir, file)); n > 0 && (least == 0 || n < least) {
				least = n
			}
			if dir == "/" {
				break
			}
		}
	}
	return least
}

// limitIn reads a limit in bytes; 0: none. Version 1 writes none as a number near
// the largest.
func limitIn(path string) int64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil || n >= math.MaxInt64>>1 {
		return 0 // "max"
	}
	return n
}

// kilobytes reads a line of /proc/meminfo, in bytes.
func kilobytes(name string) int64 {
	n, err := strconv.ParseInt(strings.TrimSuffix(field("/proc/meminfo", name), " kB"), 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}

// field reads the first "name : value" of a file.
func field(path, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // read only
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, value, ok := strings.Cut(lines.Text(), ":")
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// sharedMemory tries what the all-reduce within a host does: memory without a
// name that another process of the user opens through /proc.
func sharedMemory() Finding {
	f := Finding{Status: OK, Name: "shared memory", Text: "workers of one host exchange gradients through memory"}
	if err := tryMemfd(); err != nil {
		return Finding{
			Status: Note, Name: f.Name, Text: err.Error(),
			Fix: "workers of one host will use TCP, which is slower; allow memfd_create and /proc to this container",
		}
	}
	return f
}

func tryMemfd() error {
	fd, err := unix.MemfdCreate("agrdist-doctor", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return fmt.Errorf("memfd_create: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	again, err := unix.Open(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("memory of a process cannot be opened through /proc: %w", err)
	}
	return unix.Close(again)
}
