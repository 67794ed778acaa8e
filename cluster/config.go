package cluster

import (
	"errors"
	"fmt"
	"time"
)

// Config holds the rules of the machine. Start from DefaultConfig.
type Config struct {
	RunID      string // refused at registration if different; empty: the first worker's
	ConfigHash string // as RunID
	Build      string // as RunID
	TotalSteps int64  // length of the run, for progress displays only

	// MayBegin says that this coordinator may form the run's first generation. It is
	// true on the node that starts the run and on no other: before a generation there
	// is no majority that could keep two coordinators apart.
	MayBegin bool

	MinWorkers int // workers needed to form a generation from nothing; at least 1
	MinNodes   int // of an elastic run: it pauses while fewer live; 0: it continues with any that have a quorum
	MaxWorkers int // that compute; further workers are spares, or wait
	MaxSpares  int // that take part without computing, to take a lost worker's place at once

	// FormationTimeout is how long a first generation waits for MaxWorkers once
	// MinWorkers are there.
	FormationTimeout time.Duration
	// StartTimeout fails a run that has no first generation by then.
	StartTimeout time.Duration
	// WaitTimeout fails a run that lost its generation and could form no other
	// for so long. 0: wait for ever.
	WaitTimeout time.Duration
	// RejoinTimeout is how long a restarted coordinator waits for the members
	// of the last generation to report back before it forms one without them.
	RejoinTimeout time.Duration
	// JoinDebounce delays the generation that takes in newcomers, from the last
	// of them (at most five times from the first), so that a burst makes one.
	JoinDebounce time.Duration
	// DrainDeadline is how long the others may take to commit the step in flight before a
	// node that wants to leave is let go without it; at least twice the p99 of the step time.
	DrainDeadline time.Duration
	// AllowMinority is the operator's word that the members which cannot be
	// heard are dead: a generation may form without a quorum.
	AllowMinority bool

	// LostAfter: a worker whose stream broke is lost so long after its last word.
	LostAfter time.Duration
	// SilentAfter: a worker whose stream is open but carries nothing is lost so
	// long after its last word. At least LostAfter.
	SilentAfter time.Duration

	// A generation hangs when no member's progress (step, phase, bucket) has
	// changed for max(MinStepDeadline, HangFactor x p99 of the step time); the
	// p99 is over the last 128 steps, scaled to the world size. Before a step
	// time is known: FirstStepDeadline. While a member is in a phase that may
	// take long (init, sync, checkpoint, sample, eval): LongPhaseDeadline. Where
	// all members wait for one another nobody computes or reads, and only a link
	// can be at fault: MinWaitDeadline stands for MinStepDeadline, if it is less, and
	// doubles with each generation that ends without a step.
	MinStepDeadline   time.Duration
	MinWaitDeadline   time.Duration
	HangFactor        float64
	FirstStepDeadline time.Duration
	LongPhaseDeadline time.Duration
	// BrokenGrace is how long the machine waits, after a member reported that
	// its group broke, for the loss that explains it.
	BrokenGrace time.Duration
	// MaxBroken: after so many generations in a row that broke or hung with no
	// culprit and no commit, the most blamed member is evicted.
	MaxBroken int

	// LinkDeadline is how long two members may each miss a connection to the other, and
	// LinkTries how many generations they may cost before one of their nodes is kept out
	// of the run. Its link is probed every ProbeEvery, and more and more seldom, at last
	// every ProbeEveryMax.
	LinkDeadline  time.Duration
	LinkTries     int
	ProbeEvery    time.Duration
	ProbeEveryMax time.Duration

	// At most MaxRestarts restarts of crashed workers within RestartWindow over
	// the whole run (not per node). A crash beyond that ends the run, after the
	// survivors have saved. Workers that were killed from outside or evicted are
	// restarted without counting. 0: the first crash ends the run. Negative: no
	// limit.
	MaxRestarts   int
	RestartWindow time.Duration
	// The n-th restart of a seat with no commit between waits 0 for n = 1, then
	// RestartBackoff x 2^(n-2), at most RestartBackoffMax.
	RestartBackoff    time.Duration
	RestartBackoffMax time.Duration
	// MaxEarlyDeaths fails the run when workers of one seat died so many times
	// in a row before the run's first committed step.
	MaxEarlyDeaths int

	// FinishTimeout is how long the other ranks have to report, after the
	// first did, that the run is finished.
	FinishTimeout time.Duration
	// StopTimeout is how long the workers have to save and leave after a stop
	// was requested.
	StopTimeout time.Duration
}

// DefaultConfig returns the rules for one worker.
func DefaultConfig() Config {
	return Config{
		MayBegin:          true,
		MinWorkers:        1,
		MaxWorkers:        1,
		FormationTimeout:  30 * time.Second,
		StartTimeout:      5 * time.Minute,
		WaitTimeout:       30 * time.Minute,
		RejoinTimeout:     10 * time.Second,
		JoinDebounce:      500 * time.Millisecond,
		DrainDeadline:     20 * time.Second,
		LostAfter:         2 * time.Second,
		SilentAfter:       3 * time.Second,
		MinStepDeadline:   30 * time.Second,
		MinWaitDeadline:   10 * time.Second,
		HangFactor:        5,
		FirstStepDeadline: 5 * time.Minute,
		LongPhaseDeadline: 15 * time.Minute,
		BrokenGrace:       2 * time.Second,
		MaxBroken:         3,
		LinkDeadline:      8 * time.Second,
		LinkTries:         2,
		ProbeEvery:        5 * time.Second,
		ProbeEveryMax:     time.Minute,
		MaxRestarts:       32,
		RestartWindow:     10 * time.Minute,
		RestartBackoff:    time.Second,
		RestartBackoffMax: 30 * time.Second,
		MaxEarlyDeaths:    3,
		FinishTimeout:     30 * time.Second,
		StopTimeout:       2 * time.Minute,
	}
}

// Validate returns every fault of the configuration, joined.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrConfig}, args...)...))
	}
	if c.MinWorkers < 1 {
		bad("min_workers is %d; it must be at least 1", c.MinWorkers)
	}
	if c.MinNodes < 0 {
		bad("min_nodes is %d; it must not be negative", c.MinNodes)
	}
	if c.MaxSpares < 0 {
		bad("max_spares is %d; it must not be negative", c.MaxSpares)
	}
	if c.MaxWorkers < c.MinWorkers {
		bad("max_workers is %d; it must be at least min_workers (%d)", c.MaxWorkers, c.MinWorkers)
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"start_timeout", c.StartTimeout},
		{"rejoin_timeout", c.RejoinTimeout},
		{"lost_after", c.LostAfter},
		{"min_step_deadline", c.MinStepDeadline},
		{"min_wait_deadline", c.MinWaitDeadline},
		{"first_step_deadline", c.FirstStepDeadline},
		{"long_phase_deadline", c.LongPhaseDeadline},
		{"link_deadline", c.LinkDeadline},
		{"probe_every", c.ProbeEvery},
		{"probe_every_max", c.ProbeEveryMax},
		{"finish_timeout", c.FinishTimeout},
		{"stop_timeout", c.StopTimeout},
	} {
		if d.value <= 0 {
			bad("%s is %s; it must be positive", d.name, d.value)
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"formation_timeout", c.FormationTimeout},
		{"wait_timeout", c.WaitTimeout},
		{"join_debounce", c.JoinDebounce},
		{"drain_deadline", c.DrainDeadline},
		{"broken_grace", c.BrokenGrace},
		{"restart_window", c.RestartWindow},
		{"restart_backoff", c.RestartBackoff},
		{"restart_backoff_max", c.RestartBackoffMax},
	} {
		if d.value < 0 {
			bad("%s is %s; it must not be negative", d.name, d.value)
		}
	}
	if c.SilentAfter < c.LostAfter {
		bad("silent_after is %s; it must be at least lost_after (%s)", c.SilentAfter, c.LostAfter)
	}
	if !(c.HangFactor >= 1) {
		bad("hang_factor is %g; it must be at least 1", c.HangFactor)
	}
	if c.MaxBroken < 1 {
		bad("max_broken is %d; it must be at least 1", c.MaxBroken)
	}
	if c.LinkTries < 1 {
		bad("link_tries is %d; it must be at least 1", c.LinkTries)
	}
	if c.MaxEarlyDeaths < 1 {
		bad("max_early_deaths is %d; it must be at least 1", c.MaxEarlyDeaths)
	}
	return errors.Join(errs...)
}
