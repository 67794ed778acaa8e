//go:build unix

package doctor

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A run of two workers opens about 40 files in its agent. Below minFiles it fails
// before the first step; each worker more takes some 10 more.
const (
	minFiles  = 64
	fewFiles  = 1024
	fewBytes  = 1 << 30
	fewInodes = 1000
)

// openFiles looks at ulimit -n. Go has raised the soft limit to the hard one.
func openFiles() Finding {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return Finding{Status: Note, Name: "open files", Text: err.Error()}
	}
	return filesFinding(uint64(lim.Cur)) //nolint:unconvert // signed on some systems
}

func filesFinding(limit uint64) Finding {
	f := Finding{Status: OK, Name: "open files", Text: fmt.Sprintf("%d allowed", limit)}
	if limit > 1<<40 {
		f.Text = "no limit"
	}
	const fix = "raise it: ulimit -n 4096, LimitNOFILE= of a systemd unit, or docker run --ulimit nofile=4096"
	switch {
	case limit < minFiles:
		f.Status, f.Text, f.Fix = Fail, fmt.Sprintf("%d allowed (ulimit -n); a run needs at least %d", limit, minFiles), fix
	case limit < fewFiles:
		f.Status, f.Fix = Note, "enough for a few workers; for many, "+fix
	}
	return f
}

// addressSpace looks at ulimit -v.
func addressSpace() Finding {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_AS, &lim); err != nil {
		return Finding{Status: Note, Name: "address space", Text: err.Error()}
	}
	return spaceFinding(uint64(lim.Cur)) //nolint:unconvert // signed on some systems
}

func spaceFinding(limit uint64) Finding {
	f := Finding{Status: OK, Name: "address space", Text: "no limit"}
	if limit < 1<<50 {
		f.Text = size(int64(limit)) + " a process (ulimit -v)"
		if limit < 4<<30 {
			f.Status, f.Fix = Note, "Go reserves addresses that it does not use and ends with a stack trace where it gets none: ulimit -v unlimited, and limit memory by a cgroup"
		}
	}
	return f
}

// disk looks at the file system that runs of this directory are written to.
func disk(dir string) Finding {
	f := Finding{Status: OK, Name: "disk"}
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return Finding{Status: Note, Name: f.Name, Text: fmt.Sprintf("%s: %v", dir, err)}
	}
	free := uint64(st.Bavail) * uint64(st.Bsize)                                                  //nolint:unconvert // signed on some systems
	return diskFinding(dir, free, st.Files, uint64(st.Ffree), unix.Access(dir, unix.W_OK) == nil) //nolint:unconvert // signed on some systems
}

func diskFinding(dir string, free, inodes, freeInodes uint64, writable bool) Finding {
	f := Finding{Status: OK, Name: "disk", Text: fmt.Sprintf("%s free at %s", size(int64(min(free, 1<<62))), dir)}
	switch {
	case !writable:
		f.Status, f.Text, f.Fix = Note, dir+" cannot be written to", "give runs another directory with --out"
	case free < fewBytes:
		f.Status, f.Fix = Note, "a checkpoint of the full CIFAR-10 model takes about 700 MB, one of the digits 14 MB: make room, lower checkpoint.keep, or choose another directory with --out"
	case inodes > 0 && freeInodes < fewInodes: // 0: the file system does not count them
		f.Status, f.Text = Note, fmt.Sprintf("%s, but only %d files more (inodes)", f.Text, freeInodes)
		f.Fix = "remove small files, or choose another directory with --out"
	}
	return f
}
