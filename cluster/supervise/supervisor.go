//go:build unix

package supervise

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	exitRoom = 1024            // exits that may wait unread
	killWait = 5 * time.Second // for the kernel to end what was sent SIGKILL
)

// Supervisor runs at most one process in each slot. Its methods are safe for
// concurrent use.
type Supervisor struct {
	cfg   Config
	log   *slog.Logger
	exits chan Exit
	forks chan func() // to the locked thread
	forkG sync.WaitGroup
	out   sync.Mutex // serialises cfg.Output

	mu      sync.Mutex
	closed  bool
	slots   map[int]*child
	count   map[int]int // incarnations started, by slot
	reapers sync.WaitGroup
	done    chan struct{} // closed when Close has finished
}

// New returns a supervisor with no process. Close it.
func New(cfg Config) (*Supervisor, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if cfg.LogDir != "" {
		if err := os.MkdirAll(cfg.LogDir, 0o750); err != nil {
			return nil, fmt.Errorf("supervise: make the log directory: %w", err)
		}
	}
	s := &Supervisor{
		cfg: cfg, log: cfg.Logger, exits: make(chan Exit, exitRoom), forks: make(chan func()),
		slots: map[int]*child{}, count: map[int]int{}, done: make(chan struct{}),
	}
	s.forkG.Go(func() {
		// Never unlocked: the thread ends with this goroutine, after the last
		// child, so that no child gets its parent-death signal too early.
		runtime.LockOSThread()
		for f := range s.forks {
			f()
		}
	})
	return s, nil
}

// Exits reports each started process exactly once, when it and its output have
// ended. Close closes the channel; exits not yet read stay readable.
func (s *Supervisor) Exits() <-chan Exit { return s.exits }

// Start starts the slot's command. An error means that nothing runs and no Exit
// will come.
func (s *Supervisor) Start(slot int) error {
	cmd, err := s.cfg.Command(slot)
	if err != nil {
		return fmt.Errorf("supervise: command of slot %d: %w", slot, err)
	}
	if err := cmd.validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if old := s.slots[slot]; old != nil {
		return fmt.Errorf("%w: slot %d, process %d", ErrRunning, slot, old.pid)
	}
	if len(s.slots)+len(s.exits) >= exitRoom {
		// Whatever runs must find room for its Exit: reporting never blocks.
		return fmt.Errorf("%w: %d are waiting", ErrUnread, len(s.exits))
	}
	c, err := s.spawn(slot, s.count[slot]+1, cmd)
	if err != nil {
		return err
	}
	s.count[slot]++
	s.slots[slot] = c
	s.reapers.Go(func() {
		exit := c.reap()
		s.mu.Lock()
		delete(s.slots, slot)
		s.exits <- exit // there is room, see above; under mu, so that Start counts right
		s.mu.Unlock()
		s.logExit(exit)
	})
	s.log.Info("worker started", slog.Int("slot", slot), slog.String("name", cmd.Name),
		slog.Int("pid", c.pid), slog.Int("incarnation", c.incarnation))
	return nil
}

func (s *Supervisor) logExit(e Exit) {
	attrs := []any{
		slog.Int("slot", e.Slot), slog.String("name", e.Name), slog.Int("pid", e.PID),
		slog.Int("incarnation", e.Incarnation), slog.String("reason", e.Reason()),
	}
	if e.Failed() {
		s.log.Warn("worker failed", attrs...)
	} else {
		s.log.Info("worker ended", attrs...)
	}
}

// Stop asks the slot's process group to end: SIGTERM now, SIGKILL after
// KillGrace. It does not wait; the Exit tells.
func (s *Supervisor) Stop(slot int) error {
	c, err := s.child(slot)
	if err != nil {
		return err
	}
	return c.stop(s.cfg.KillGrace)
}

// Kill ends the slot's process group with SIGKILL. It does not wait; the Exit tells.
func (s *Supervisor) Kill(slot int) error {
	c, err := s.child(slot)
	if err != nil {
		return err
	}
	return c.kill(AskedKill)
}

// Signal sends sig to the slot's process group.
func (s *Supervisor) Signal(slot int, sig syscall.Signal) error {
	c, err := s.child(slot)
	if err != nil {
		return err
	}
	return c.signal(sig)
}

func (s *Supervisor) child(slot int) (*child, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.slots[slot]
	if c == nil {
		return nil, fmt.Errorf("%w: slot %d", ErrNotRunning, slot)
	}
	return c, nil
}

// Status is one running process.
type Status struct {
	Slot        int
	Name        string
	PID         int
	Incarnation int // 1 for the slot's first process
	Started     time.Time
}

// Running returns the processes not yet reported as ended, by slot.
func (s *Supervisor) Running() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Status, 0, len(s.slots))
	for _, c := range s.slots {
		list = append(list, Status{Slot: c.slot, Name: c.name, PID: c.pid, Incarnation: c.incarnation, Started: c.started})
	}
	slices.SortFunc(list, func(a, b Status) int { return a.Slot - b.Slot })
	return list
}

// Close stops everything, as Stop does, and waits for it; when ctx ends before
// KillGrace, SIGKILL comes then. It is idempotent. An error names the processes
// that the kernel did not end within seconds of SIGKILL (a hung driver, usually).
func (s *Supervisor) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		<-s.done
		return nil
	}
	s.closed = true
	var running []*child
	for _, c := range s.slots {
		running = append(running, c)
	}
	s.mu.Unlock()
	defer close(s.done)

	for _, c := range running {
		_ = c.stop(s.cfg.KillGrace) // it may just have ended
	}
	reaped := make(chan struct{})
	go func() {
		// Ends with the last process; with a survivor, when that dies at last.
		s.reapers.Wait()
		close(s.exits)
		close(s.forks) // ends the forking thread, now that nobody hangs on it
		s.forkG.Wait()
		close(reaped)
	}()
	grace := time.NewTimer(s.cfg.KillGrace)
	defer grace.Stop()
	select {
	case <-reaped:
		return nil
	case <-grace.C: // each child's own timer has fired
	case <-ctx.Done():
		for _, c := range running {
			_ = c.kill(AskedStop)
		}
	}
	last := time.NewTimer(killWait)
	defer last.Stop()
	select {
	case <-reaped:
		return nil
	case <-last.C:
		var left []string
		for _, r := range s.Running() {
			left = append(left, fmt.Sprintf("%s (process %d)", r.Name, r.PID))
		}
		return fmt.Errorf("%w: %s: see the kernel's log (dmesg)", ErrSurvivors, strings.Join(left, ", "))
	}
}
