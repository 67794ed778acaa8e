package node

import (
	"errors"
	"fmt"
	"time"
)

// Config describes one node. Start from DefaultConfig.
type Config struct {
	Node  string // name, unique among the run's nodes
	Slots int    // workers on this node
	// Boot distinguishes this process from earlier ones of the same node: the
	// ids of its workers contain it, so that an id is never used twice.
	Boot string
	// Found holds the coordinator from the start, at this term; 0: another node
	// is expected to.
	Found uint64

	// StartTimeout is how long to look for a coordinator that admits this node.
	StartTimeout time.Duration
	// EndPatience is how long workers may take to leave after the run has ended,
	// and the news of the end to arrive after the workers left by agreement.
	EndPatience time.Duration
	// RefusedPatience is how long the end of the run may take to arrive after a
	// worker of this node was refused; then only this node has no part in it.
	RefusedPatience time.Duration
	// The n-th failed start of a slot in a row is repeated after
	// min(StartBackoff x 2^(n-1), StartBackoffMax).
	StartBackoff    time.Duration
	StartBackoffMax time.Duration
}

// DefaultConfig returns the rules for one worker; Node and Boot are left to the
// caller.
func DefaultConfig() Config {
	return Config{
		Slots:           1,
		StartTimeout:    5 * time.Minute,
		EndPatience:     15 * time.Second,
		RefusedPatience: 2 * time.Second,
		StartBackoff:    time.Second,
		StartBackoffMax: 30 * time.Second,
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
		{"refused patience", c.RefusedPatience},
		{"start backoff", c.StartBackoff},
		{"longest start backoff", c.StartBackoffMax},
	} {
		if d.value <= 0 {
			errs = append(errs, fmt.Errorf("%w: the %s is %s; it must be positive", ErrConfig, d.name, d.value))
		}
	}
	return errors.Join(errs...)
}
