package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// join registers a worker, for the first time or again.
func (m *Machine) join(e WorkerJoined) {
	id := e.Member.ID
	err := m.admissible(e.Member)
	if err == nil {
		m.replace(e.Member) // who is not welcome any more speaks for its seat all the same
		err = m.welcome(e.Member)
	}
	if err != nil {
		m.do(Refuse{id, err, e.Request})
		return
	}
	m.setSilent(e.Member.Node, false)
	n := m.node(e.Member.Node)
	if n.host == "" {
		n.host = e.Member.Host
	}
	m.forgetAbsence(id)
	m.adoptIdentity(e.Member)

	w := m.workers[id]
	if w == nil {
		w = &worker{member: e.Member, progressAt: m.now, rank: -1}
		m.register(w)
		if m.last.Rank(id) < 0 || m.ended {
			if m.joinFirst.IsZero() {
				m.joinFirst = m.now
			}
			m.joinLast = m.now
		}
	}
	m.rise(w)
	w.member = e.Member
	m.sit(w)
	m.hear(w, true)
	m.weigh(w)
	if e.Holds.Rank(id) >= 0 {
		m.learn(e.Holds)
	}
	m.do(Admit{id, e.Request})
	e.Report.Member = id
	if e.Committed.Rank(id) >= 0 {
		m.learnBase(e.Committed, e.Report)
	}
	for _, g := range e.Pledged {
		if g.Rank(id) >= 0 {
			m.learnIssued(g)
		}
	}
	m.learnCommit(e.Report, e.Holds)
	m.reported(e.Report)
	m.tell(w, e.Holds.Number)
}

// replace certifies the death of whoever had the seat before: a supervisor starts
// a new process only after it reaped the old one, or after it died itself and
// its workers with it.
func (m *Machine) replace(by Member) {
	const why = "replaced by a new process"
	if w := m.at(by.Node, by.Slot); w != nil && w.member.ID != by.ID {
		m.lose(w, true, why)
	}
	at := place{by.Node, by.Slot}
	for _, id := range slices.Clone(m.unheardAt[at]) {
		if id != by.ID {
			m.certify(id)
		}
	}
	for _, g := range append([]*group{m.electorate(), m.last}, m.issued...) { // not back since a restart
		if id := g.holder(at); id != "" && id != by.ID && !m.dead[id] {
			m.certifyAbsent(id, false, why)
		}
	}
}

// tell brings a worker that has just registered up to date.
func (m *Machine) tell(w *worker, holds uint64) {
	id := w.member.ID
	switch {
	case m.last.Number == 0 || m.last.Rank(id) < 0:
		if holds > 0 { // it was lost meanwhile: its group is over
			m.do(Tell{id, Abort{Generation: holds, Reason: "the worker was lost to the coordinator; it will be taken in again"}})
		}
	case m.ended:
		m.do(Tell{id, Abort{Generation: m.last.Number, Reason: m.waitFor}})
	case holds != m.last.Number:
		w.told = m.last.Number
		m.do(Tell{id, Form{m.last.Generation}})
	}
	if m.parting == m.last.Number && m.parting > 0 && !m.ended && m.last.Rank(id) >= 0 {
		m.do(Tell{id, m.part()})
	}
	if m.state == StateStopping {
		m.do(Tell{id, Stop{m.stop}})
	}
}

// admissible returns why a worker is none of this run's.
func (m *Machine) admissible(w Member) error {
	if w.ID == "" || w.Node == "" || w.Slot < 0 || w.DataAddr == "" {
		return fmt.Errorf("%w: id %q, node %q, slot %d, data address %q: each must be given",
			ErrMismatch, w.ID, w.Node, w.Slot, w.DataAddr)
	}
	for _, f := range []struct{ what, got, want, fix string }{
		{"run id", w.RunID, m.cfg.RunID, "is it meant for another run, or does a seed address belong to one?"},
		{"config hash", w.ConfigHash, m.cfg.ConfigHash, "start every node with the same configuration"},
		{"build", w.Build, m.cfg.Build, sameBuild(w.Build, m.cfg.Build)},
	} {
		if f.want != "" && f.got != f.want {
			return fmt.Errorf("%w: worker %s has %s %q, the run has %q: %s", ErrMismatch, w, f.what, f.got, f.want, f.fix)
		}
	}
	if why, is := m.evicted[w.ID]; is {
		return fmt.Errorf("%w: %s: %s", ErrEvicted, w, why)
	}
	if m.dead[w.ID] {
		return fmt.Errorf("%w: %s was reported dead or replaced; a new process needs a new member id", ErrEvicted, w)
	}
	if m.state == StateOver {
		return fmt.Errorf("%w: %s", ErrOver, m.end.Reason)
	}
	if o := m.at(w.Node, w.Slot); o != nil && o.member.ID != w.ID && o.connected {
		return fmt.Errorf("%w: slot %d of node %q is held by %s, heard %s ago: are two nodes named alike?",
			ErrSlotTaken, w.Slot, w.Node, o.member, round(m.now.Sub(o.seen)))
	}
	if m.agents && !m.node(w.Node).connected && m.replaces(w) {
		return fmt.Errorf("%w: slot %d of node %q had another worker, and the node's agent, which knows how far that was, has not registered yet",
			ErrSlotTaken, w.Slot, w.Node)
	}
	return nil
}

// On separates the program from what its kernels round as in Member.Build.
const On = " on "

// sameBuild says how two builds become one.
func sameBuild(a, b string) string {
	_, one, _ := strings.Cut(a, On)
	_, other, _ := strings.Cut(b, On)
	if one == other || !strings.HasPrefix(one, "cpu/") || !strings.HasPrefix(other, "cpu/") {
		return "install the same program file on every node"
	}
	return "their kernels round differently: start the run with train.cpu=portable, or force one set that all nodes have with AGRDIST_CPU"
}

// replaces tells whether a worker would certify a death: another one had its seat, and
// nobody said yet that it is gone.
func (m *Machine) replaces(w Member) bool {
	at := place{w.Node, w.Slot}
	other := func(id MemberID) bool { return id != "" && id != w.ID && !m.dead[id] }
	if o := m.at(w.Node, w.Slot); o != nil && other(o.member.ID) || slices.ContainsFunc(m.unheardAt[at], other) {
		return true
	}
	return slices.ContainsFunc(append([]*group{m.electorate(), m.last}, m.issued...), func(g *group) bool { return other(g.holder(at)) })
}

// welcome returns why a worker of this run must not begin to take part.
func (m *Machine) welcome(w Member) error {
	switch known := m.workers[w.ID] != nil || m.last.Rank(w.ID) >= 0; {
	case known:
	case m.state == StateStopping:
		return fmt.Errorf("%w: it is being stopped (%s)", ErrOver, m.stop)
	case m.state == StateFinishing:
		return fmt.Errorf("%w: it finished step %d", ErrOver, m.finish.Step)
	}
	return nil
}

// adoptIdentity makes the first worker's identity that of the run where the
// configuration leaves it open.
func (m *Machine) adoptIdentity(w Member) {
	for _, f := range []struct {
		to   *string
		from string
	}{{&m.cfg.RunID, w.RunID}, {&m.cfg.ConfigHash, w.ConfigHash}, {&m.cfg.Build, w.Build}} {
		if *f.to == "" && f.from != "" {
			*f.to = f.from
			m.rev++
		}
	}
}

// reported takes in a worker's report. Only reports of the newest generation
// move the run's progress: others are fenced off.
func (m *Machine) reported(r Report) {
	w := m.workers[r.Member]
	if w == nil {
		return
	}
	m.hear(w, w.connected)
	old := w.report
	w.report = r
	if old.Step != r.Step || old.Phase != r.Phase || old.Bucket != r.Bucket || old.Generation != r.Generation {
		m.progressed(w)
	}
	if old.Phase != r.Phase || old.Generation != r.Generation || old.Blame != r.Blame {
		w.connectAt = m.now
	}
	m.weigh(w)
	m.dropVoid(r)
	if r.Stopping && r.HasState && r.Step > m.saved {
		m.saved, m.savedOn = r.Step, r.SavedOn
		m.rev++
	}
	if r.Generation == 0 || r.Generation != m.last.Number || w.rank < 0 {
		return
	}
	if long(r.Phase) {
		m.steps.interrupted = true
	}
	m.commit(r.CommitGeneration, r.Step)
	if r.Broken != "" && r.Reset && r.Blame != "" {
		m.resets[r.Blame] = w.member
	}
	if r.Broken != "" && m.breaks.at.IsZero() {
		m.breaks.at = m.now
		m.breaks.text = fmt.Sprintf("%s: %s", w.member, r.Broken)
		if r.Blame != "" {
			m.breaks.blame[r.Blame]++
		}
	}
}

// commit notes that a generation committed a step. Records are ordered by
// (generation, step): a newer generation may commit a lower step only when
// nobody who held the higher one is left and a checkpoint was read.
func (m *Machine) commit(generation uint64, step int64) {
	switch {
	case generation == 0 || generation < m.base.Number || generation > m.last.Number:
		return
	case generation == m.base.Number:
		if step <= m.step {
			return
		}
	default:
		i := len(m.issued) - 1
		for i >= 0 && m.issued[i].Number != generation {
			i--
		}
		if i < 0 {
			return // its members are not known: learnCommit judges
		}
		m.base = m.issued[i]
		m.issued = append([]*group(nil), m.issued[i+1:]...)
		m.rev++
	}
	m.step = step
	if generation == m.last.Number {
		m.steps.advance(m.now, step, m.last.World())
		m.breaks.reset()
		m.provenLinks(m.last)
		if len(m.budget.failures) > 0 {
			for _, member := range m.last.Members {
				m.budget.proven(member.Seat())
			}
		}
	}
}

// dropVoid drops the generations that never committed and never will: a member of them
// has left them, or passed them by, without its part of a commit word. That stays true
// whatever happens to the member.
func (m *Machine) dropVoid(r Report) {
	if len(m.issued) == 0 {
		return
	}
	void := func(g *group) bool {
		left := g.Number < r.Generation || g.Number == r.Generation && r.Left
		return left && g.Number > r.CommitGeneration && g.Rank(r.Member) >= 0 && !slices.Contains(r.Pledged, g.Number)
	}
	kept := slices.DeleteFunc(slices.Clone(m.issued), void)
	if len(kept) < len(m.issued) {
		m.issued = kept
		m.rev++
	}
}

// learn takes in a generation that a worker is in and the machine never heard
// of: the coordinator was restarted without its journal, or with an old one.
func (m *Machine) learn(g Generation) {
	if g.Number <= max(m.last.Number, m.floor) {
		return
	}
	if m.last.Number > 0 && !m.ended {
		m.do(Abort{Generation: m.last.Number, Reason: fmt.Sprintf("generation %d turned up", g.Number)})
	}
	last := newGroup(g)
	m.setLast(last, m.registered(last))
	m.ended = false
	m.issue(m.last)
	m.recover()
}

// learnSeen takes in a generation that a node has seen. One that is not newer than the
// last may be another coordinator's, and may have committed unheard.
func (m *Machine) learnSeen(g Generation) {
	if g.Number > max(m.last.Number, m.floor) {
		m.learn(g)
	} else {
		m.learnIssued(g)
	}
}

// learnIssued takes in a generation that may have committed.
func (m *Machine) learnIssued(g Generation) {
	known := func(o *group) bool { return o.Same(g) }
	if g.Number > max(m.base.Number, m.floor) && !known(m.last) && !slices.ContainsFunc(m.issued, known) {
		m.issue(newGroup(g))
		slices.SortStableFunc(m.issued, func(a, b *group) int { return cmp.Compare(a.Number, b.Number) })
		m.rev++
	}
}

// learnBase takes in the generation in which a worker says that it committed last. The
// machine may know of no such generation, or of another of that number: a coordinator
// that did not hear of this one may have given the number too. A worker is in one of the
// two only, so only one of them can have committed, and that is the one that its member
// names.
func (m *Machine) learnBase(g Generation, r Report) {
	if g.Number == 0 || g.Number < m.base.Number || g.Same(m.base.Generation) {
		return
	}
	m.base = newGroup(g)
	m.issued = slices.DeleteFunc(slices.Clone(m.issued), func(i *group) bool { return i.Number <= g.Number })
	m.rev++
	if r.CommitGeneration == g.Number {
		m.step = r.Step
	}
}

// learnCommit takes in the commit of a worker that registers. If the members of
// the generation that committed are not known, or if a worker holds state and
// no commit is known at all, the generation that the worker is in stands for
// it: it was formed by a quorum of the former.
func (m *Machine) learnCommit(r Report, holds Generation) {
	if holds.Number == 0 || holds.Number != m.last.Number {
		return
	}
	known := m.base.Number >= r.CommitGeneration
	for _, g := range m.issued {
		known = known || g.Number == r.CommitGeneration
	}
	if known && (m.base.Number > 0 || r.CommitGeneration > 0 || !r.HasState) {
		return
	}
	m.base, m.issued = newGroup(holds), nil
	m.rev++
	if r.CommitGeneration > 0 {
		m.step = r.Step
	}
}
