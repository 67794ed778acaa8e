//go:build unix

package supervise

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// logFile is NAME.log, appended to over all incarnations; beyond limit bytes it
// becomes NAME.log.1.
type logFile struct {
	path  string
	limit int64
	size  int64
	f     *os.File
}

func openLog(dir, name string, limit int64) (*logFile, error) {
	l := &logFile{path: filepath.Join(dir, name+".log"), limit: limit}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

// open makes the directory too, should somebody have removed it.
func (l *logFile) open() error {
	const flags = os.O_CREATE | os.O_APPEND | os.O_WRONLY
	f, err := os.OpenFile(l.path, flags, 0o640)
	if errors.Is(err, fs.ErrNotExist) && os.MkdirAll(filepath.Dir(l.path), 0o750) == nil {
		f, err = os.OpenFile(l.path, flags, 0o640)
	}
	if err != nil {
		return fmt.Errorf("supervise: open the log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return fmt.Errorf("supervise: open the log: %w", err)
	}
	l.f, l.size = f, info.Size()
	return nil
}

func (l *logFile) write(p []byte) error {
	if l.size > 0 && l.size+int64(len(p)) > l.limit {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	n, err := l.f.Write(p)
	l.size += int64(n)
	if err != nil {
		return fmt.Errorf("supervise: write the log: %w", err)
	}
	return nil
}

func (l *logFile) rotate() error {
	_ = l.f.Close()
	if err := os.Rename(l.path, l.path+".1"); err != nil {
		return fmt.Errorf("supervise: rotate the log: %w", err)
	}
	return l.open()
}

func (l *logFile) close() { _ = l.f.Close() }

// MaxOwnLogBytes is where a log of OpenLog starts again.
const MaxOwnLogBytes = 16 << 20

// OpenLog opens NAME.log in dir as the Supervisor opens those of its workers: appended
// to, and beyond MaxOwnLogBytes moved to NAME.log.1. One goroutine at a time may write,
// whole lines at once.
func OpenLog(dir, name string) (io.WriteCloser, error) {
	l, err := openLog(dir, name, MaxOwnLogBytes)
	if err != nil {
		return nil, err
	}
	return ownLog{l}, nil
}

type ownLog struct{ *logFile }

func (l ownLog) Write(p []byte) (int, error) {
	if err := l.write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (l ownLog) Close() error {
	l.close()
	return nil
}
