package simulate

import (
	"errors"
	"slices"
	"strings"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/cluster/node"
)

// commit is a step that all members of a generation applied.
type commit struct {
	step  int64
	group *group
	at    int // tick
}

// patience is how long a run may take to see that too few nodes live.
const patience = 15 * second

// checkForm checks a generation that a coordinator forms by what a generation is.
func (w *world) checkForm(_ *holder, g cluster.Generation) {
	seats := map[string]bool{}
	for _, m := range g.Members {
		if seats[m.Seat()] {
			w.fail("seat %s is twice in generation %d", m.Seat(), g.Number)
		}
		seats[m.Seat()] = true
	}
}

// checkCommit checks the step that a group is about to commit by the newest that was
// committed before: while a living process holds that one, training goes on from it and
// repeats nothing. (When all who held it are dead, others may hold an older one, and what
// came after it is done again.)
func (w *world) checkCommit(g *group, members []*worker) {
	step := members[0].state.step + 1
	for _, p := range members {
		if p.state.step+1 != step || p.state.applied != p.state.step {
			w.fail("generation %d goes on from step %d with %s at step %d, made of %d steps", g.Number, step-1, p.id, p.state.step, p.state.applied)
		}
	}
	if c := w.newest; c.step >= step && c.group != g {
		for _, h := range w.hosts {
			for _, p := range h.workers {
				if p != nil && p.state.has && p.state.step >= c.step && !p.doubt {
					w.fail("generation %d of %v commits step %d; generation %d of %v has committed step %d, and %s holds that",
						g.Number, g.members, step, c.group.Number, c.group.members, c.step, p.id)
				}
			}
		}
	}
	if w.tick-w.enough > patience {
		w.fail("generation %d commits step %d though only %d nodes have lived for %d s, of at least %d", g.Number, step, w.living(), patience/second, w.floor)
	}
	w.newest = commit{step, g, w.tick}
}

// checkReturn checks what a node says when its part is over.
func (w *world) checkReturn(a *agent, r node.Return) {
	h := a.host
	var early *node.SignalError
	var left *node.LeftError
	durable := func(step int64) bool {
		return slices.ContainsFunc(w.hosts, func(h *host) bool { return h.disk.checkpoint.has && h.disk.checkpoint.step >= step })
	}
	switch {
	case errors.As(r.Err, &early): // nothing had begun on this node
	case errors.As(r.Err, &left):
	case errors.Is(r.Err, errFull) && h.id == 0: // the founder cannot note that the run begins; it says so at once
	case r.Err != nil:
		w.fail("the agent of %s gives up: %v", h.name(), r.Err)
	case r.End.Outcome == cluster.OutcomeFailed && (w.asked || w.drained) && strings.Contains(r.End.Reason, "was not saved"):
	case r.End.Outcome == cluster.OutcomeFailed:
		w.fail("the run failed: %s", r.End.Reason)
	case r.End.ExitCode == cluster.ExitStopped:
		// Package launch says "saved" only where a worker of the node has heard so.
		if a.saved >= 0 && !durable(a.saved) {
			w.fail("%s says that step %d was saved, and it is on no disk", h.name(), a.saved)
		}
	case r.End.Outcome == cluster.OutcomeFinished:
		if r.End.Step != w.steps || !durable(w.steps) {
			w.fail("%s says that the run finished at step %d of %d (durable %t)", h.name(), r.End.Step, w.steps, durable(w.steps))
		}
	}
}
