//go:build unix

package supervise

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"strconv"
	"syscall"
	"time"
)

// A worker's fourth file is the record pipe: what it tells its supervisor in lines,
// apart from the output that people read.
const (
	recordFD  = 3
	maxRecord = 64 << 10 // bytes of a line; longer ones are dropped
)

// Records is for the worker: the writing end of its record pipe. A record is one line,
// in one Write, of at most 64 KiB. It is nil in a process that no Supervisor started.
func Records() *os.File {
	return inherited(recordFD, "records")
}

// inherited returns a pipe that this process has from its supervisor, or nil.
func inherited(fd int, name string) *os.File {
	if os.Getenv(envSupervised) != strconv.Itoa(os.Getppid()) {
		return nil
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil || st.Mode&syscall.S_IFMT != syscall.S_IFIFO {
		return nil
	}
	syscall.CloseOnExec(fd) // what the worker starts has no part in it
	return os.NewFile(uintptr(fd), name)
}

// records reads a worker's record pipe.
type records struct {
	pipe *os.File
	read chan struct{} // closed when the pipe has ended
	last []byte        // valid then
}

func readRecords(pipe *os.File, each func(line []byte)) *records {
	r := &records{pipe: pipe, read: make(chan struct{})}
	go func() {
		defer close(r.read)
		in := bufio.NewReaderSize(pipe, maxRecord)
		for {
			line, err := in.ReadSlice('\n')
			switch {
			case errors.Is(err, bufio.ErrBufferFull):
				if skipLine(in) != nil {
					return
				}
				continue
			case err != nil: // a line without an end was cut off by the process's death
				return
			}
			r.last = bytes.Clone(bytes.TrimSuffix(line, []byte("\n")))
			if each != nil {
				each(r.last)
			}
		}
	}()
	return r
}

func skipLine(in *bufio.Reader) error {
	for {
		_, err := in.ReadSlice('\n')
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// drain waits for the end of the pipe and closes it, as child.drain.
func (r *records) drain() {
	timer := time.NewTimer(drainWait)
	defer timer.Stop()
	select {
	case <-r.read:
	case <-timer.C:
		_ = r.pipe.SetReadDeadline(time.Now())
		<-r.read
	}
	_ = r.pipe.Close()
}
