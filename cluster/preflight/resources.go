//go:build unix

package preflight

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrTooLittle reports a resource that is there, but not enough of it.
var ErrTooLittle = errors.New("preflight: too little")

// SharedMemory checks that the file system at path (/dev/shm) has need bytes
// free. Containers get 64 MiB unless told otherwise, and NCCL then fails with a
// bus error. A system without the path has no such limit and is fine.
func SharedMemory(path string, need uint64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return &Error{Check: "shm", Subject: path, Err: fmt.Errorf("statfs: %w", err), Mend: "mount a tmpfs there"}
	}
	free := st.Bavail * uint64(st.Bsize)
	if free >= need {
		return nil
	}
	return &Error{
		Check: "shm", Subject: path,
		Err: fmt.Errorf("%w: %s free, %s wanted", ErrTooLittle, mebibytes(free), mebibytes(need)),
		Mend: "docker run --shm-size=" + fmt.Sprintf("%dm", (need+1<<20-1)>>20) +
			"; in Kubernetes mount an emptyDir with medium: Memory at " + path + "; else remove stale files there",
	}
}

// OpenFiles checks that this process may have need files open at once. Go has
// raised the soft limit to the hard one already, so the hard one counts.
func OpenFiles(need uint64) error {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return &Error{Check: "files", Subject: "RLIMIT_NOFILE", Err: fmt.Errorf("getrlimit: %w", err), Mend: "see ulimit -Hn"}
	}
	if lim.Cur >= need {
		return nil
	}
	return &Error{
		Check: "files", Subject: "RLIMIT_NOFILE",
		Err:  fmt.Errorf("%w: %d open files allowed, %d wanted", ErrTooLittle, lim.Cur, need),
		Mend: fmt.Sprintf("ulimit -Hn %d, LimitNOFILE= of the systemd unit, or docker run --ulimit nofile=%d", need, need),
	}
}

func mebibytes(n uint64) string { return fmt.Sprintf("%d MiB", n>>20) }
