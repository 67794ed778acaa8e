package allreduce

import (
	"errors"
	"fmt"
	"time"
)

// Defaults of GroupConfig.
const (
	DefaultOpTimeout = 60 * time.Second
	// DefaultSegmentElems makes segments of 256 KiB: they stay in a core's cache
	// from the checksum to the addition.
	DefaultSegmentElems = 64 << 10
	// MaxSegmentElems bounds a segment, and with it a frame: 16 MiB.
	MaxSegmentElems = 4 << 20
)

// GroupConfig describes a generation to what connects its ranks, such as
// mesh.Endpoint. All but Rank and OpTimeout must be the same on all ranks.
type GroupConfig struct {
	Generation uint64
	Rank       int
	// Peers are the addresses of all ranks' endpoints, by rank; the own one is
	// not used.
	Peers []string
	Plan  *Plan
	Order Order
	// OpTimeout is the deadline of every operation; a Broadcast has the time to
	// move its bytes at 16 MiB/s on top. It must exceed the time by which ranks
	// may arrive at an operation one after another. 0: DefaultOpTimeout.
	OpTimeout time.Duration
	// SegmentElems is the unit in which vectors travel, in elements. 0:
	// DefaultSegmentElems.
	SegmentElems int
	// Missing is called about once a second while a group is being connected, from one
	// goroutine and not after Connect has returned, with the lowest rank to which there
	// is no connection yet. It may be nil.
	Missing func(peer int)
}

// Complete fills in what is 0 and checks the rest. Its errors are a caller's
// mistakes: none of them depends on a peer.
func (c *GroupConfig) Complete() error {
	if c.Plan == nil {
		return errors.New("allreduce: the group has no plan: set GroupConfig.Plan, from NewPlan")
	}
	world := c.Plan.World()
	var errs []error
	if c.Rank < 0 || c.Rank >= world {
		errs = append(errs, fmt.Errorf("allreduce: rank %d in a group of %d: ranks are 0 to %d", c.Rank, world, world-1))
	}
	if len(c.Peers) != world {
		errs = append(errs, fmt.Errorf("allreduce: %d peer addresses for %d ranks: give one for each rank, by rank", len(c.Peers), world))
	}
	if c.Order != OrderTree && c.Order != OrderRing {
		errs = append(errs, fmt.Errorf("allreduce: unknown order %v: want OrderTree or OrderRing", c.Order))
	}
	if c.OpTimeout < 0 {
		errs = append(errs, fmt.Errorf("allreduce: operation deadline of %v: want more than 0, or 0 for %v", c.OpTimeout, DefaultOpTimeout))
	}
	if c.SegmentElems < 0 || c.SegmentElems > MaxSegmentElems {
		errs = append(errs, fmt.Errorf("allreduce: segments of %d elements: want 1 to %d, or 0 for %d", c.SegmentElems, MaxSegmentElems, DefaultSegmentElems))
	}
	if c.OpTimeout == 0 {
		c.OpTimeout = DefaultOpTimeout
	}
	if c.SegmentElems == 0 {
		c.SegmentElems = DefaultSegmentElems
	}
	return errors.Join(errs...)
}
