package node

import (
	"fmt"
	"time"

	"github.com/agrdist/agrdist/cluster"
)

// slot is a place for one worker process.
type slot struct {
	member  cluster.MemberID // of the newest incarnation
	count   int              // incarnations
	running bool
	startAt time.Time // when the next one is to start; zero: not now
	failed  int       // starts in a row that failed
	said    string    // the failure that was told last
}

func (m *Machine) running() int {
	n := 0
	for _, s := range m.slots {
		if s.running {
			n++
		}
	}
	return n
}

// startDue starts the workers whose time has come.
func (m *Machine) startDue() {
	for i := range m.slots {
		s := &m.slots[i]
		if s.startAt.IsZero() || m.now.Before(s.startAt) {
			continue
		}
		s.startAt, s.running = time.Time{}, true
		m.agreed = time.Time{} // the run continues, whatever the one before agreed to
		s.count++
		s.member = cluster.MemberID(fmt.Sprintf("%s/%d/%s.%d", m.cfg.Node, i, m.cfg.Boot, s.count))
		m.do(Start{Slot: i, Member: s.member})
	}
}

// startFailed tries again later: a machine that is out of processes or file
// descriptors now may have some in a moment, and the other workers train on. What
// never worked on this node and is hopeless ends its part at once.
func (m *Machine) startFailed(e StartFailed) {
	s := &m.slots[e.Slot]
	s.running = false
	if e.Hopeless && !m.proven {
		m.fail(fmt.Errorf("cannot start worker %d of this node: %w", e.Slot, e.Err))
		return
	}
	s.failed++
	after := min(m.cfg.StartBackoff<<min(s.failed-1, 20), m.cfg.StartBackoffMax)
	s.startAt = m.now.Add(after)
	if text := e.Err.Error(); text != s.said { // once, however long it lasts
		s.said = text
		m.notice("cannot start worker %d of this node: %s; trying again, at most every %s", e.Slot, text, m.cfg.StartBackoffMax)
	}
}

// exited certifies a death and asks for the replacement.
func (m *Machine) exited(e Exited) {
	s := &m.slots[e.Slot]
	s.running, s.failed, s.said = false, 0, ""
	m.proven = true
	if e.Code == cluster.ExitStopped && e.Signal == "" {
		m.agreed = m.now
	}
	if m.end != nil {
		return
	}
	m.reports++
	if e.Failed && e.Code != cluster.ExitStopped {
		m.notice("%s", e.Reason)
	}
	m.do(Report{cluster.Exit{
		Member: s.member, Node: m.cfg.Node, Slot: e.Slot, Code: e.Code, Signal: e.Signal, Message: e.Message,
	}})
}

// judged takes in the coordinator's answer to an exit.
func (m *Machine) judged(j Judged) {
	m.reports--
	s := &m.slots[j.Exit.Slot]
	switch {
	case j.Err != nil || m.end != nil || j.Exit.Member != s.member:
		// The run is over, or the session is, and that is told apart from this.
	case j.Verdict.Restart:
		s.startAt = m.now.Add(j.Verdict.After)
	case j.Exit.Code == cluster.ExitBadConfig && j.Exit.Signal == "" && m.refused == nil:
		// Either the run ends over it, and that is heard in a moment, or it goes
		// on without this node.
		m.refused, m.giveUp = &RefusedError{j.Exit.Message}, m.now.Add(m.cfg.RefusedPatience)
	}
}

// killOrdered ends a worker, unless that incarnation is gone.
func (m *Machine) killOrdered(k cluster.Kill) {
	i := k.Member.Slot
	if i < 0 || i >= len(m.slots) || m.slots[i].member != k.Member.ID || !m.slots[i].running {
		return
	}
	m.notice("killing %s: %s", k.Member, k.Reason)
	m.do(Kill{i})
}
