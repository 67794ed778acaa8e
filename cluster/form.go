package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// form decides whether a new generation is due, and forms it or says what is
// awaited.
func (m *Machine) form() {
	survived, fresh := m.number(isSurvivor) > 0, m.number(isFresh)
	switch {
	case len(m.drains) > 0 && m.calm() && m.state == StateRunning: // its members are about to leave it together
	case survived && m.calm() && !m.promotable() && (fresh == 0 || m.number(isSurvivor) >= m.cfg.MaxWorkers+m.cfg.MaxSpares || !m.joinTime()):
	case m.state == StateStopping && !survived:
	case m.blocked.text != "" && m.blocked.rev == m.rev && m.blocked.changes == m.changes && m.blocked.living == m.living():
		if m.blocked.nodes {
			m.waitSince = m.now
		}
		m.await("%s", m.blocked.text)
	case !survived:
		m.formFromNothing(fresh)
	default:
		m.reform(m.candidates())
	}
}

// calm tells whether the last generation runs, with nothing wrong in it.
func (m *Machine) calm() bool { return len(m.causes) == 0 && !m.ended }

// formFromNothing forms the first generation, or one after nobody of the last
// is left.
func (m *Machine) formFromNothing(live int) {
	expected := m.cfg.MaxWorkers
	if m.last.Number == 0 && !m.cfg.MayBegin {
		m.await("a worker that is in a generation, or the node that starts the run (the one without --join): nobody here knows how far the run is")
		return
	}
	if m.last.Number > 0 {
		if len(m.causes) == 0 && !m.ended {
			return // all its members are leaving by agreement
		}
		expected = min(max(len(m.last.Members), m.cfg.MinWorkers), m.cfg.MaxWorkers)
	}
	if live < m.cfg.MinWorkers {
		m.minReached = time.Time{}
		if m.last.Number == 0 && m.now.Sub(m.started) >= m.cfg.StartTimeout {
			m.fail(ExitFailed, "%d of %d workers registered within %s; missing: %s",
				live, m.cfg.MinWorkers, round(m.cfg.StartTimeout), m.missing(live))
			return
		}
		m.await("%d of %d workers are here; missing: %s", live, m.cfg.MinWorkers, m.missing(live))
		return
	}
	if m.minReached.IsZero() {
		m.minReached = m.now
	}
	late := m.now.Sub(m.minReached) >= m.cfg.FormationTimeout ||
		m.last.Number == 0 && m.now.Sub(m.started) >= m.cfg.StartTimeout
	if live < expected && !late {
		m.await("%d of up to %d workers are here; forming without the rest %s after the first %d",
			live, expected, round(m.cfg.FormationTimeout), m.cfg.MinWorkers)
		return
	}
	causes := slices.Clone(m.causes)
	if m.last.Number > 0 {
		causes = append(causes, fmt.Sprintf("nobody of generation %d is left", m.last.Number))
	}
	causes = append(causes, count(live, "worker")+" registered")
	m.propose(m.candidates(), because(causes...))
}

// reform replaces a generation of which somebody is left.
func (m *Machine) reform(next lineup) {
	members := next.members
	var fresh, promoted []Member
	for _, w := range members {
		if w.rank < 0 {
			fresh = append(fresh, w.member)
		}
	}
	for _, w := range members[:next.world()] {
		if w.rank >= m.last.World() {
			promoted = append(promoted, w.member)
		}
	}
	due := len(promoted) > 0 || len(fresh) > 0 && m.joinTime()
	if m.calm() && (!due || !m.followed(members)) {
		return
	}
	causes := slices.Clone(m.causes)
	if len(fresh) > 0 {
		causes = append(causes, "joined "+names(fresh))
	}
	if len(promoted) > 0 && m.calm() {
		causes = append(causes, names(promoted)+" has the state and computes from now on")
	}
	if len(causes) == 0 {
		causes = append(causes, "a quorum is back")
	}
	m.propose(next, because(causes...))
}

// followed tells whether a generation that runs well may be replaced by one of these
// members. It is left alone while a member is about to leave, or may be lost.
func (m *Machine) followed(members []*worker) bool {
	if m.number(isUnsteady) > 0 {
		return false
	}
	_, _, barred := m.barred(m.choose(members))
	return !barred
}

func (m *Machine) joinTime() bool {
	return m.state == StateRunning && (m.now.Sub(m.joinLast) >= m.cfg.JoinDebounce || m.now.Sub(m.joinFirst) >= 5*m.cfg.JoinDebounce)
}

// propose forms a generation if it has a quorum.
func (m *Machine) propose(line lineup, reason string) {
	members := line.members
	in := m.choose(members)
	g, unheard, barred := m.barred(in)
	if goes := m.goes(); barred && len(goes) > 0 {
		m.await("the workers of %s to end: the node leaves the run", namesOf(goes))
		return
	}
	if barred && !m.cfg.AllowMinority {
		what := "which may have committed a step"
		switch {
		case m.base.Number == 0 && g == m.first:
			what = "the first, which may have committed a step"
		case g == m.base:
			what = "the last that committed a step"
		}
		m.block("no majority of generation %d (%s): unheard, and not certified dead: %s; "+
			"bring them back (a machine in the place of a lost one takes its name: cluster.node), or set cluster.allow_minority if they are certainly dead", g.Number, what, names(unheard))
		return
	}
	if !m.calm() && m.last.Number > 0 && m.short() {
		m.awaitNodes()
		return
	}
	if barred {
		reason += "; formed by a minority, as the operator allowed"
	}
	for _, w := range m.ranks() {
		if !in(w.member.ID) {
			m.do(Tell{w.member.ID, Abort{Generation: m.last.Number, Reason: "the others continue without this worker: " + reason}})
		}
	}
	next := newGroup(Generation{Number: max(m.last.Number, m.floor) + 1, Members: membersOf(members), Reason: reason, Spares: line.spares, After: m.after()})
	for _, w := range members {
		w.progressAt, w.told = m.now, next.Number
	}
	m.setLast(next, members)
	m.issue(m.last)
	m.rev++
	m.ended, m.paused, m.causes, m.waitFor, m.waitSince = false, false, nil, "", time.Time{}
	m.joinFirst, m.joinLast, m.minReached = time.Time{}, time.Time{}, time.Time{}
	m.steps.restart()
	m.breaks.at, m.breaks.text = time.Time{}, ""
	if m.state != StateStopping {
		m.state = StateRunning
	}
	m.do(Form{m.last.Generation})
}

// electorate is the generation of which a successor needs a majority: the last that is
// known to have committed a step. Before any is, the first that was formed stands for it:
// each half of it could otherwise begin a run of its own, at once or by way of smaller
// and smaller generations that commit nothing.
func (m *Machine) electorate() *group {
	if m.base.Number == 0 {
		return m.first
	}
	return m.base
}

// issue notes a generation that may commit from now on.
func (m *Machine) issue(g *group) {
	m.issued = append(m.issued, g)
	if m.first.Number == 0 {
		m.first = g
	}
}

// bound tells whether a generation that a successor must agree with has a member, or,
// where all its members are dead, the member's place.
func (m *Machine) bound(w Member) bool {
	at := place{w.Node, w.Slot}
	return slices.ContainsFunc(append([]*group{m.electorate()}, m.issued...), func(g *group) bool {
		return g.Rank(w.ID) >= 0 || g.holder(at) != "" && !slices.ContainsFunc(g.Members, func(o Member) bool { return !m.dead[o.ID] })
	})
}

// barred returns a generation of which next has no majority, and who of it is unheard:
// the last that is known to have committed, or one since that may have (see "Why a
// quorum" in the package's text).
func (m *Machine) barred(next func(MemberID) bool) (g *group, unheard []Member, is bool) {
	seated := func(at place) bool {
		w := m.at(at.node, at.slot)
		return w != nil && next(w.member.ID)
	}
	for _, g := range append([]*group{m.electorate()}, m.issued...) {
		if ok, unheard := quorum(g.Generation, m.dead, next, seated); !ok {
			return g, unheard, true
		}
	}
	return nil, nil, false
}

// block says why a generation cannot form. It is not asked again until something changes.
func (m *Machine) block(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	m.await("%s", text)
	m.blocked = blockedDecision{rev: m.rev, changes: m.changes, living: m.living(), text: text}
}

// await says what is waited for, aborts the generation that is over, and fails
// the run when it has waited too long.
func (m *Machine) await(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if m.last.Number > 0 && !m.ended {
		m.ended = true
		m.rev++
		reason := text
		if len(m.causes) > 0 {
			reason = because(m.causes...) + "; " + text
		}
		m.do(Abort{Generation: m.last.Number, Reason: reason})
	}
	if m.last.Number > 0 && m.state != StateStopping {
		m.state = StateWaiting
	}
	if m.waitSince.IsZero() {
		m.waitSince = m.now
	}
	if m.waitFor != text {
		m.waitFor = text
		m.do(Wait{For: text})
	}
	if m.state == StateWaiting && m.cfg.WaitTimeout > 0 && m.now.Sub(m.waitSince) >= m.cfg.WaitTimeout {
		m.fail(ExitFailed, "no generation could form for %s: %s", round(m.cfg.WaitTimeout), text)
	}
}

// missing names the seats of known agents that no worker has taken, and how
// many workers more are needed of nodes that nobody heard of.
func (m *Machine) missing(here int) string {
	var seats []string
	free := 0
	for _, n := range m.nodes {
		if !n.connected {
			continue
		}
		taken, _ := n.find(n.slots)
		free += n.slots - taken
		for s := 0; s < n.slots && taken < n.slots && len(seats) < maxNamed; s++ {
			if _, is := n.find(s); !is {
				seats = append(seats, seat(n.name, s))
			}
		}
	}
	var parts []string
	if len(seats) > 0 {
		parts = append(parts, some(seats, free, ", ")+" (their agent is here: see the workers' logs)")
	}
	if more := m.cfg.MinWorkers - here - free; more > 0 {
		parts = append(parts, fmt.Sprintf("%d of nodes that have not joined (are they started, and can they reach this address?)", more))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, "; ")
}

// recover starts waiting for the members of the last generation to report back.
func (m *Machine) recover() {
	if m.state != StateStopping && m.state != StateFinishing {
		m.state = StateRecovering
	}
	m.recoverBy = m.now.Add(m.cfg.RejoinTimeout)
	m.rev++
}

// recovered ends the wait: true when all members are back that are neither
// certified dead nor on a node that gossip calls dead, or when time is up.
func (m *Machine) recovered() bool {
	if m.awaited > 0 && m.now.Before(m.recoverBy) {
		if text := "members of generation " + fmt.Sprint(m.last.Number) + " to report back: " + m.namesMissing(); m.waitFor != text {
			m.waitFor = text
			m.do(Wait{For: text})
		}
		return false
	}
	m.waitFor = ""
	m.state = StateRunning
	m.steps.restart()
	for _, member := range m.last.Members {
		switch w := m.workers[member.ID]; {
		case w != nil:
			m.progressed(w)
		case !m.dead[member.ID] && m.unheard[member.ID].since.IsZero():
			m.unhearMember(member)
			m.newNodes = true
			if m.silent[member.Node] {
				m.cause("lost %s: its node is gone", member)
			} else {
				m.cause("lost %s: it did not report back within %s", member, round(m.cfg.RejoinTimeout))
			}
		}
	}
	if len(m.causes) == 0 && !m.ended {
		m.do(Adopt{m.last.Generation})
		for _, w := range m.ranks() { // of a coordinator that could not tell them all
			if w.told != m.last.Number && w.report.Generation != m.last.Number {
				m.do(Tell{w.member.ID, Form{m.last.Generation}})
			}
		}
	}
	return true
}

// namesMissing names those of the last generation that are expected to report back.
func (m *Machine) namesMissing() string {
	var named []string
	for rank, is := range m.away {
		if is && len(named) < maxNamed {
			named = append(named, m.last.Members[rank].String())
		}
	}
	return some(named, m.awaited, ", ")
}
