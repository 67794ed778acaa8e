package cluster

import (
	"fmt"
	"slices"
	"time"
)

// drain notes that a node wants to leave. Decisions are made one after the other, so that
// of nodes that all want to leave the last ones stay to save.
func (m *Machine) drain(name string) {
	switch m.state {
	case StateOver, StateFinishing, StateStopping:
		return // the workers are leaving anyway
	case StateForming, StateRecovering, StateRunning, StateWaiting:
	}
	if !m.node(name).drained && !slices.Contains(m.drains, name) {
		m.drains = append(m.drains, name)
		m.mayDrain(name)
	}
}

// mayDrain begins to let a node leave if enough others stay, and stops the run if not:
// then everybody saves. A coordinator that has just begun decides when it knows who is
// there.
func (m *Machine) mayDrain(name string) {
	if m.state == StateRecovering {
		return
	}
	left := 0
	for _, w := range m.ranks() {
		if w.member.Node != name && !m.leaving(w.member.Node) && w.connected && !w.report.Stopping {
			left++
		}
	}
	switch {
	case m.state != StateRunning || m.ended:
		m.beginStop(fmt.Sprintf("node %s was asked to leave while the run was %s", name, m.state))
	case left < m.cfg.MinWorkers:
		m.beginStop(fmt.Sprintf("node %s was asked to leave, and %s would be too few (cluster.nodes)", name, count(left, "worker")))
	case m.calm() && m.parting != m.last.Number && m.inLast(name):
		m.parting, m.partSince = m.last.Number, m.now
		m.do(m.part())
	}
}

// part tells the members of the last generation to leave it after their step in flight.
func (m *Machine) part() Abort {
	return Abort{Generation: m.last.Number, AfterStep: true, Reason: namesOf(m.drains) + " leaves the run"}
}

// inLast tells whether a node has a worker in the last generation.
func (m *Machine) inLast(name string) bool {
	i := m.nodeOrder(name)
	return i >= 0 && slices.ContainsFunc(m.nodes[i].seats, func(w *worker) bool { return w.rank >= 0 })
}

// settleDrains lets nodes go once the others have committed the step in flight, or at once
// where there is none or something else is wrong with the generation.
func (m *Machine) settleDrains() {
	if len(m.drains) == 0 || m.state != StateRunning {
		return
	}
	for _, name := range m.drains {
		if m.mayDrain(name); m.state != StateRunning { // one may have been asked for while the coordinator was recovering
			return
		}
	}
	together := m.allLeft()
	if m.calm() && !together && slices.ContainsFunc(m.drains, m.inLast) && m.now.Sub(m.partSince) < m.drainDeadline() {
		return
	}
	for _, name := range m.drains {
		n := m.node(name)
		n.drained = true
		for _, w := range n.seats {
			m.agreed[w.member.ID] = true
		}
		m.weighNode(name)
		m.do(Drained{name})
	}
	if together && m.calm() {
		m.cause("%s left the run", namesOf(m.drains))
	}
	m.drains = nil
}

// drainDeadline is how long a step in flight is waited for.
func (m *Machine) drainDeadline() time.Duration {
	p99, _ := m.steps.p99(m.last.World())
	return max(m.cfg.DrainDeadline, 2*p99)
}

// leaving tells whether a node was allowed to leave, or is about to be.
func (m *Machine) leaving(name string) bool {
	i := m.nodeOrder(name)
	return i >= 0 && (m.nodes[i].drained || slices.Contains(m.drains, name))
}

// goes returns the nodes that were let go and have not gone.
func (m *Machine) goes() (names []string) {
	for _, n := range m.nodes {
		if n.drained && len(n.seats) > 0 {
			names = append(names, n.name)
		}
	}
	return names
}

// allLeft tells whether all members of the last generation have left it with nothing wrong
// in it.
func (m *Machine) allLeft() bool {
	return m.number(isLeft) > 0 && m.number(isLeft) == len(m.last.Members)
}

// checkLeft replaces a generation that all its members have left, as a coordinator before
// this one told them to.
func (m *Machine) checkLeft() {
	if (m.state == StateRunning || m.state == StateStopping) && m.calm() && len(m.drains) == 0 && m.allLeft() {
		m.cause("all ranks have left generation %d", m.last.Number)
	}
}
