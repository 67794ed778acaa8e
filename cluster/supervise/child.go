//go:build unix

package supervise

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// drainWait is how long the output may stay open after the whole process group
// is gone: only something that left the group can hold it.
const drainWait = time.Second

// child is one incarnation of a worker.
type child struct {
	slot, incarnation, pid int
	name                   string
	started                time.Time
	proc                   *os.Process
	stdin                  *os.File // our end; its closing is the end of file the worker waits for
	stdout                 *os.File
	output                 *output
	records                *records
	read                   chan struct{} // closed when the output has ended
	oomBefore              oomCount

	mu    sync.Mutex
	gone  bool // about to be reaped: its id must not be signalled any more
	asked Ask
	late  bool // SIGKILL after the grace
	timer *time.Timer
}

// spawn starts a process and the reading of its output.
func (s *Supervisor) spawn(slot, incarnation int, cmd Command) (c *child, err error) {
	path, err := lookPath(cmd)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	defer func() {
		if err != nil {
			for _, f := range files {
				_ = f.Close()
			}
		}
	}()
	pipe := func() (r, w *os.File, err error) {
		if r, w, err = os.Pipe(); err != nil {
			return nil, nil, fmt.Errorf("supervise: start %s: %w", cmd.Name, err)
		}
		files = append(files, r, w)
		return r, w, nil
	}
	inR, inW, err := pipe()
	if err != nil {
		return nil, err
	}
	outR, outW, err := pipe()
	if err != nil {
		return nil, err
	}
	recR, recW, err := pipe()
	if err != nil {
		return nil, err
	}
	given, fed, err := inputPipe(cmd.Input, pipe)
	if err != nil {
		return nil, err
	}
	out := s.newOutput(cmd.Name)
	env := cmd.Env
	if env == nil {
		env = os.Environ()
	}
	env = append(slices.Clip(env), fmt.Sprintf("%s=%d", envSupervised, os.Getpid()))
	attr := &os.ProcAttr{
		Dir: cmd.Dir, Files: append([]*os.File{0: inR, 1: outW, 2: outW, recordFD: recW, inputFD: given}, cmd.Keep...), Sys: sysProcAttr(),
		Env: (&exec.Cmd{Env: env}).Environ(), // of a variable given twice, the last counts
	}
	argv := append([]string{cmp.Or(cmd.Argv0, path)}, cmd.Args...)
	before := readOOM()
	proc, err := s.fork(path, argv, attr)
	if err != nil {
		out.close()
		return nil, fmt.Errorf("supervise: start %s: %w", cmd.Name, err)
	}
	_, _, _ = inR.Close(), outW.Close(), recW.Close()
	if given != nil {
		_ = given.Close()
		go feed(fed, cmd.Input)
	}
	c = &child{
		slot: slot, incarnation: incarnation, pid: proc.Pid, name: cmd.Name, started: time.Now(), proc: proc,
		stdin: inW, stdout: outR, output: out, read: make(chan struct{}), oomBefore: before,
	}
	c.records = readRecords(recR, func(line []byte) {
		if s.cfg.Record != nil {
			s.cfg.Record(slot, line)
		}
	})
	out.header(c)
	go func() {
		defer close(c.read)
		_, _ = io.Copy(out, outR) // ends at end of file or by reap's deadline
		out.close()
	}()
	return c, nil
}

// fork starts the process on the locked thread; see the package's doc.
func (s *Supervisor) fork(path string, argv []string, attr *os.ProcAttr) (proc *os.Process, err error) {
	done := make(chan struct{})
	s.forks <- func() {
		defer close(done)
		proc, err = os.StartProcess(path, argv, attr)
	}
	<-done
	return proc, err
}

// lookPath finds the program before the working directory changes.
func lookPath(cmd Command) (string, error) {
	path, err := exec.LookPath(cmd.Path)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return "", fmt.Errorf("supervise: start %s: %w", cmd.Name, err)
	}
	return path, nil
}

// signal sends sig to the group. The leader is unreaped while gone is false, so
// its id, which is the group's, belongs to nobody else.
func (c *child) signal(sig syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.signalLocked(sig)
}

func (c *child) signalLocked(sig syscall.Signal) error {
	if c.gone {
		return fmt.Errorf("%w: %s", ErrNotRunning, c.name)
	}
	if err := syscall.Kill(-c.pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("supervise: send %s to the group of %s (%d): %w", sig, c.name, c.pid, err)
	}
	return nil
}

// stop sends SIGTERM and arranges for SIGKILL. A second stop changes nothing.
func (c *child) stop(grace time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.signalLocked(syscall.SIGTERM); err != nil {
		return err
	}
	if c.asked == NotAsked {
		c.asked = AskedStop
	}
	if c.timer == nil {
		c.timer = time.AfterFunc(grace, func() { _ = c.kill(AskedStop) })
	}
	return nil
}

// kill sends SIGKILL: as asked by Kill, or as the end of a Stop's grace.
func (c *child) kill(why Ask) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.signalLocked(syscall.SIGKILL); err != nil {
		return err
	}
	if c.asked == NotAsked || why == AskedKill {
		c.asked = why
	}
	c.late = c.late || why == AskedStop
	return nil
}

// reap waits for the process, ends what is left of its group, waits for its
// output and says how it ended.
func (c *child) reap() Exit {
	state, err := c.await()
	ended := time.Now()
	_ = c.stdin.Close()
	reapGroup(c.pid)
	c.drain()
	c.records.drain()
	c.mu.Lock()
	asked, late := c.asked, c.late
	c.mu.Unlock()

	e := Exit{
		Slot: c.slot, Name: c.name, Incarnation: c.incarnation, PID: c.pid, Code: -1,
		Started: c.started, Ended: ended, Asked: asked, GraceOver: late, Err: err,
		LastWords: c.output.last.lines(), Record: c.records.last,
	}
	if err == nil {
		if ws, ok := state.Sys().(syscall.WaitStatus); ok {
			e.decode(ws)
		}
		if asked == AskedKill && e.sig != syscall.SIGKILL {
			e.Asked = NotAsked // it was faster: it ended by itself
		}
		if e.sig == syscall.SIGKILL && e.Asked == NotAsked {
			e.OOM = readOOM().since(c.oomBefore)
		}
	}
	return e
}

// await waits for the process and ends what is left of its group.
func (c *child) await() (*os.ProcessState, error) {
	if awaitZombie(c.pid) {
		c.retire()           // its id is still ours: nobody else is hit
		return c.proc.Wait() //nolint:wrapcheck // goes into Exit.Err
	}
	// Elsewhere the id is free for some microseconds before its group is
	// signalled. It is not given out again while the group has a member, and
	// process ids are handed out in turn.
	state, err := c.proc.Wait()
	c.retire()
	return state, err //nolint:wrapcheck // goes into Exit.Err
}

// retire ends what is left of the group and bars further signals.
func (c *child) retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = syscall.Kill(-c.pid, syscall.SIGKILL)
	c.gone = true
	if c.timer != nil {
		c.timer.Stop()
	}
}

// drain waits for the end of the output and closes it.
func (c *child) drain() {
	timer := time.NewTimer(drainWait)
	defer timer.Stop()
	select {
	case <-c.read:
	case <-timer.C:
		_ = c.stdout.SetReadDeadline(time.Now())
		<-c.read
	}
	_ = c.stdout.Close()
}
