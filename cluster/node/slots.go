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
	exit    cluster.Exit
	denied  time.Time // since when no other may be started; zero: one may
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
		s.startAt, s.denied, s.running = time.Time{}, time.Time{}, true
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
	s.exit = cluster.Exit{
		Member: s.member, Node: m.cfg.Node, Slot: e.Slot, Code: e.Code, Signal: e.Signal, Message: e.Message,
	}
	if e.Failed && e.Code != cluster.ExitStopped {
		m.notice("%s", e.Reason)
	}
	m.do(Report{s.exit})
}

// judged takes in the coordinator's answer to an exit.
func (m *Machine) judged(j Judged) {
	m.reports--
	s := &m.slots[j.Exit.Slot]
	if j.Exit.Member == s.member && j.Err == nil && !j.Verdict.Restart {
		s.denied = m.now
	}
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

// askAgain asks whether a worker may be started where none may be, because the run was
// about to end when the last one died. If the run goes on after a while, that end was lost
// with the coordinator that knew of it.
func (m *Machine) askAgain(state cluster.State) {
	switch state {
	case cluster.StateStopping, cluster.StateFinishing, cluster.StateOver:
		return
	case cluster.StateForming, cluster.StateRecovering, cluster.StateRunning, cluster.StateWaiting:
	}
	for i := range m.slots {
		s := &m.slots[i]
		if s.running || !s.startAt.IsZero() || s.denied.IsZero() || m.now.Sub(s.denied) < m.cfg.EndPatience || m.left || m.refused != nil {
			continue
		}
		s.denied = m.now
		s.exit.Again = true
		m.reports++
		m.do(Report{s.exit})
	}
}

// killOrdered ends a worker. One that is gone already, and whose death a coordinator
// before this one knew, is certified again.
func (m *Machine) killOrdered(k cluster.Kill) {
	i := k.Member.Slot
	switch {
	case i < 0 || i >= len(m.slots):
	case m.slots[i].running && m.slots[i].member == k.Member.ID:
		m.notice("killing %s: %s", k.Member, k.Reason)
		m.do(Kill{i})
	default:
		m.reports++
		m.do(Report{cluster.Exit{Member: k.Member.ID, Node: m.cfg.Node, Slot: i, Message: "it was gone already"}})
	}
}
