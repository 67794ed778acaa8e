package node

import (
	"errors"
	"fmt"
	"time"

	"github.com/agrdist/agrdist/cluster"
)

// Config describes one node. Start from DefaultConfig.
type Config struct {
	Node  string // name, unique among the run's nodes
	Slots int    // workers on this node
	// Boot distinguishes this process from earlier ones of the same node: the
	// ids of its workers contain it, so that an id is never used twice.
	Boot string
	// Elastic says that the run may lose nodes on purpose: a SIGTERM takes this node
	// out of it, and only a second one stops the run.
	Elastic bool
	// Founder starts the run: it holds the coordinator if gossip names none within
	// FoundAfter, and only its coordinator may form the first generation. One node of a
	// run is the founder. A founder that is back in its run gives the others the time to
	// say that they took over.
	Founder    bool
	FoundAfter time.Duration
	// Kept is what earlier processes of this node kept of the run on its disk.
	Kept cluster.Journal
	// Term is the highest term that earlier processes of this node knew.
	Term uint64

	// StartTimeout is how long to look for a coordinator that admits this node.
	StartTimeout time.Duration
	// SayAfter is when a node that is still not admitted says what it waits for.
	SayAfter time.Duration
	// EndPatience is how long workers may take to leave after the run has ended,
	// and, after the workers left by agreement, how long no coordinator may be heard that
	// would tell how the run ended: others may still be saving.
	EndPatience time.Duration
	// DrainPatience is how long no coordinator may be heard that would answer a Drain;
	// then the run is stopped instead.
	DrainPatience time.Duration
	// RefusedPatience is how long the end of the run may take to arrive after a
	// worker of this node was refused; then only this node has no part in it.
	RefusedPatience time.Duration
	// The n-th failed start of a slot in a row is repeated after
	// min(StartBackoff x 2^(n-1), StartBackoffMax).
	StartBackoff    time.Duration
	StartBackoffMax time.Duration

	// TakeOverStep: when the coordinator is gone, the k-th living node in join
	// order takes over after k x TakeOverStep (k from 0).
	TakeOverStep time.Duration
	// ProbeEvery is the pause between two tries to reach a coordinator that gossip
	// counts among the dead, and HoldAgain that after this node could not hold it.
	ProbeEvery time.Duration
	HoldAgain  time.Duration
	// EndGrace is how long the outcome of the run is kept for nodes that have not
	// heard it.
	EndGrace time.Duration
	// OrphanTimeout: a node that reached no coordinator for so long saves and ends.
	OrphanTimeout time.Duration
	// OrphanPatience is how long its workers may take to save.
	OrphanPatience time.Duration
}

// DefaultConfig returns the rules for one worker; Node and Boot are left to the
// caller.
func DefaultConfig() Config {
	return Config{
		Slots:           1,
		StartTimeout:    5 * time.Minute,
		SayAfter:        5 * time.Second,
		EndPatience:     15 * time.Second,
		DrainPatience:   10 * time.Second,
		RefusedPatience: 2 * time.Second,
		StartBackoff:    time.Second,
		StartBackoffMax: 30 * time.Second,
		TakeOverStep:    3 * time.Second,
		ProbeEvery:      time.Second,
		HoldAgain:       10 * time.Second,
		EndGrace:        15 * time.Second,
		OrphanTimeout:   10 * time.Minute,
		OrphanPatience:  2 * time.Minute,
	}
}

// ErrConfig is wrapped by what Config.Validate returns.
var ErrConfig = errors.New("node: configuration")

// Validate returns every fault of the configuration, joined.
func (c Config) Validate() error {
	var errs []error
	if c.Node == "" || c.Boot == "" {
		errs = append(errs, fmt.Errorf("%w: node %q, boot %q: each must be given", ErrConfig, c.Node, c.Boot))
	}
	if c.Slots < 1 {
		errs = append(errs, fmt.Errorf("%w: %d slots; at least 1 is needed", ErrConfig, c.Slots))
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"start timeout", c.StartTimeout},
		{"end patience", c.EndPatience},
		{"drain patience", c.DrainPatience},
		{"refused patience", c.RefusedPatience},
		{"start backoff", c.StartBackoff},
		{"longest start backoff", c.StartBackoffMax},
		{"take-over step", c.TakeOverStep},
		{"pause between probes", c.ProbeEvery},
		{"pause before holding again", c.HoldAgain},
		{"orphan timeout", c.OrphanTimeout},
		{"orphan patience", c.OrphanPatience},
	} {
		if d.value <= 0 {
			errs = append(errs, fmt.Errorf("%w: the %s is %s; it must be positive", ErrConfig, d.name, d.value))
		}
	}
	return errors.Join(errs...)
}
