package node

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/agrdist/agrdist/cluster"
)

// OrphanError says that this node reached no coordinator for too long.
type OrphanError struct{ After time.Duration }

func (e *OrphanError) Error() string {
	return fmt.Sprintf("no coordinator was reached for %s (cluster.orphan_timeout): this node's workers were told to save, "+
		"and it left the run; start it again with the same command when the network is back", e.After)
}

// ended takes in how the run ended, from the coordinator.
func (m *Machine) ended(e cluster.End) {
	if m.end != nil {
		return
	}
	m.end, m.endAt, m.killBy = &e, m.now, m.now.Add(m.cfg.EndPatience)
	m.do(Announce{e})
	if seen := m.holder.seen; m.holder.term == 0 && seen.Last.Number > 0 {
		seen.End = e
		m.do(Keep{seen})
	}
	if e.Outcome == cluster.OutcomeFailed && m.running() > 0 {
		m.do(Terminate{})
	}
}

// heardEnd takes in how the run ended, from another node: this one was cut off
// while it did. Whatever its workers hold is older than what the others saved.
func (m *Machine) heardEnd(e cluster.End) {
	if m.end != nil {
		return
	}
	m.ended(e)
	m.notice("the run has ended while this node was cut off: %s", e.Reason)
	if m.running() > 0 {
		m.do(KillAll{})
	}
	if m.holder.serving && !m.holder.standDown { // a coordinator that missed it too
		m.holder.standDown = true
		m.do(Release{})
	}
}

// settleEnd waits for the workers to leave, for this node's coordinator to tell
// the others, and a while for nodes that have not heard.
func (m *Machine) settleEnd() {
	switch {
	case m.running() > 0:
		if !m.killBy.IsZero() && !m.now.Before(m.killBy) {
			m.killBy = time.Time{} // once
			m.do(KillAll{})
		}
	case m.holder.serving:
	default:
		deaf := m.deaf()
		if len(deaf) == 0 || m.signals > 0 || m.now.Sub(m.endAt) >= m.cfg.EndGrace {
			m.finish(*m.end)
			return
		}
		if m.now.Sub(m.endAt) >= time.Second {
			m.noticeOnce("the run is over; staying up to %s for %s to hear it", m.cfg.EndGrace, strings.Join(deaf, ", "))
		}
	}
}

// deaf returns the nodes of the run that may not have heard that it is over: they
// do not say so, and did not leave.
func (m *Machine) deaf() []string {
	var deaf []string
	for _, name := range m.holder.order {
		i := slices.IndexFunc(m.holder.peers, func(p Peer) bool { return p.Node == name })
		switch {
		case name == m.cfg.Node:
		case i >= 0 && m.holder.peers[i].End.Outcome == cluster.OutcomeNone,
			i < 0 && slices.Contains(m.holder.lost, name):
			deaf = append(deaf, name)
		}
	}
	return deaf
}

// settleOrphan saves and leaves when no coordinator was reached for too long.
func (m *Machine) settleOrphan() {
	switch {
	case m.orphaned.IsZero():
		if m.admitted && !m.holder.serving && m.now.Sub(m.holder.heard) >= m.cfg.OrphanTimeout {
			m.orphaned = m.now
			m.notice("no coordinator was reached for %s (cluster.orphan_timeout): saving and leaving", m.cfg.OrphanTimeout)
			m.do(Terminate{})
		}
	case m.running() == 0 || m.now.Sub(m.orphaned) >= m.cfg.OrphanPatience:
		m.fail(&OrphanError{m.cfg.OrphanTimeout})
	}
}
