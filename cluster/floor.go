package cluster

import (
	"fmt"
	"slices"
)

// lives tells whether a node counts towards MinNodes: it was not let go, and it has a
// worker here, or an agent that can start one. A worker that crashes, cannot be started or
// is kept out for a dead link does not stop the run of the others; a node that is gone
// does. A run that is paused does not continue for an agent alone: its worker is about to
// come, unless it does not for RejoinTimeout.
func (m *Machine) lives(n *node) bool {
	switch {
	case n.drained || m.silent[n.name]:
		return false
	case len(n.seats) > 0:
		return true
	case n.since.IsZero() && m.now.Sub(m.started) < m.cfg.RejoinTimeout:
		return !m.paused // known by its name only: this coordinator has just begun
	}
	return n.connected && m.now.Sub(n.seen) < m.cfg.SilentAfter && (!m.paused || m.now.Sub(n.since) >= m.cfg.RejoinTimeout)
}

// living counts the nodes that live.
func (m *Machine) living() (n int) {
	for _, o := range m.nodes {
		if m.lives(o) {
			n++
		}
	}
	return n
}

// short tells whether an elastic run has to wait for nodes. A stop does not: everybody who
// is left saves.
func (m *Machine) short() bool {
	return m.cfg.MinNodes > 0 && m.state != StateStopping && m.living() < m.cfg.MinNodes
}

// checkNodes ends a generation when too few nodes live.
func (m *Machine) checkNodes() {
	if m.state == StateRunning && m.calm() && m.last.Number > 0 && m.short() {
		m.cause("only %s left of at least %d (cluster.nodes)", count(m.living(), "node"), m.cfg.MinNodes)
	}
}

// awaitNodes pauses the run: its workers keep the state in memory. However long that
// takes, it is no failure.
func (m *Machine) awaitNodes() {
	m.paused = true
	var here, gone []string
	more := m.cfg.MinNodes
	for _, n := range m.nodes {
		switch {
		case m.lives(n):
			more--
			here = append(here, n.name)
		case n.drained:
		case n.since.IsZero():
			gone = append(gone, n.name+" (not since this coordinator began)")
		case n.connected:
			gone = append(gone, n.name+" (its agent is here, its workers are not)")
		default:
			gone = append(gone, n.name+" at "+n.seen.UTC().Format("15:04:05 UTC"))
		}
	}
	text := fmt.Sprintf("waiting for %s (cluster.nodes says at least %d; here: %s)", count(more, "more node"), m.cfg.MinNodes, namesOf(here))
	if len(gone) > 0 {
		text += "; last seen: " + namesOf(gone)
	}
	m.waitSince = m.now
	m.await("%s", text+"; the workers here hold the state and continue when enough nodes are back, or others join")
	m.blocked = blockedDecision{rev: m.rev, changes: m.changes, living: m.living(), text: m.waitFor, nodes: true}
}

// expireClosed loses at once the workers whose end closed both the connection to the
// coordinator and that to another rank, on nodes whose agent is gone too: nobody is there
// to certify their death (see "Lost at once").
func (m *Machine) expireClosed() {
	if len(m.resets) == 0 {
		return
	}
	var ended []*worker
	for e := m.heard[stream(false)].Front(); e != nil; e = e.Next() {
		w := e.Value.(*worker)
		if _, reset := m.resets[w.member.ID]; reset && w.closed && !m.node(w.member.Node).connected {
			ended = append(ended, w)
		}
	}
	slices.SortFunc(ended, m.bySeat)
	for _, w := range ended {
		m.lose(w, false, "its connections to the coordinator and to "+m.resets[w.member.ID].String()+" were closed at its end, and its agent is gone")
	}
}

// namesOf joins node names.
func namesOf(nodes []string) string {
	return some(nodes[:min(len(nodes), maxNamed)], len(nodes), ", ")
}
