package cluster

import (
	"container/list"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Machine decides who is in the run. It is a pure state machine: Step takes the
// time and what happened and returns what is to be done. It is not safe for
// concurrent use; one goroutine owns it.
type Machine struct {
	cfg   Config
	now   time.Time
	state State
	out   []Action

	roster
	workers map[MemberID]*worker // registered and not lost
	nodes   []*node              // in join order
	nodesBy map[string]int       // by name
	agents  bool                 // an agent has registered
	dead    map[MemberID]bool    // certified deaths; they never come back
	agreed  map[MemberID]bool    // left by agreement: no crash
	evicted map[MemberID]string  // told to die, and why; they never come back
	unheard map[MemberID]absence // lost without a certificate
	// by seat
	unheardAt map[place][]MemberID
	newNodes  bool              // members are unheard whose nodes may be unknown
	silent    map[string]bool   // nodes that gossip calls dead and nobody heard since
	links     map[pair]*trouble // nodes whose workers could not connect to one another
	kept      map[string]*kept  // nodes that are kept out of the run for that
	probes    uint64            // numbers of probes used

	floor   uint64   // numbers up to here are used
	last    *group   // newest one formed
	ended   bool     // last is over: its members were told to abort
	issued  []*group // formed after base; may commit, or may have, unheard
	first   *group   // the first one formed, or heard of
	base    *group   // newest one known to have committed a step
	step    int64    // newest step that base committed; -1 none
	saved   int64    // newest step that was saved for a stop; -1 none
	savedOn string   // node that has it

	started    time.Time
	minReached time.Time // since when a first generation could form; zero: it cannot
	recoverBy  time.Time
	waitSince  time.Time
	waitFor    string
	causes     []string // why last has to be replaced
	joinFirst  time.Time
	joinLast   time.Time
	drains     []string // nodes that want to leave, in the order in which they asked
	parting    uint64   // the generation that is to end after its step in flight; 0: none
	partSince  time.Time
	resets     map[MemberID]Member // members of last whose end closed a connection, and to whom

	steps   stepTimes
	breaks  breakage
	budget  budget
	stop    string // why a stop was requested
	stopBy  time.Time
	failing string // the stop is for a failure, and this is it
	finish  Finish
	endBy   time.Time
	end     End
	drained bool // the last departure from last was by agreement
	paused  bool // too few nodes live
	rev     uint64
}

type worker struct {
	member     Member
	report     Report
	connected  bool
	closed     bool // not connected: its end closed the stream
	finished   bool
	told       uint64    // newest generation that it was told of
	seen       time.Time // last word
	progressAt time.Time // last change of step, phase or bucket
	connectAt  time.Time // since when it misses the peer that it names in PhaseConnect

	rank    int   // in the last generation; -1: none
	marks   marks // as counted in the roster
	heardIn *list.Element
	draw    uint64 // of the choice that it was in last
}

type node struct {
	name      string
	slots     int
	host      string
	connected bool
	drained   bool      // it was allowed to leave
	since     time.Time // when its agent joined last
	seen      time.Time // the agent's last word
	seats     []*worker // registered workers by slot, one a slot
}

type absence struct {
	member Member
	since  time.Time
}

// New returns a machine at the start of a run.
func New(cfg Config, now time.Time) (*Machine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Machine{
		cfg: cfg, now: now, started: now, state: StateForming, step: -1, saved: -1,
		workers: map[MemberID]*worker{}, dead: map[MemberID]bool{}, agreed: map[MemberID]bool{},
		evicted: map[MemberID]string{}, unheard: map[MemberID]absence{}, silent: map[string]bool{},
		links: map[pair]*trouble{}, kept: map[string]*kept{}, nodesBy: map[string]int{}, unheardAt: map[place][]MemberID{},
		last: newGroup(Generation{}), first: newGroup(Generation{}), base: newGroup(Generation{}),
		budget: newBudget(), breaks: breakage{blame: map[MemberID]int{}}, resets: map[MemberID]Member{},
	}, nil
}

// Step tells the machine what happened by now and returns what is to be done,
// in order. Events that are handed over together make one decision. It wants a
// Tick every 100 ms or so: if nothing came for more than LostAfter/2, it was the
// coordinator that slept (a stopped process, a starved machine), and nobody's
// silence is held against him.
func (m *Machine) Step(now time.Time, events ...Event) []Action {
	if gap := now.Sub(m.now); gap > 0 {
		m.now = now
		if gap > m.cfg.LostAfter/2 {
			m.slept(gap)
		}
	}
	for _, e := range events {
		m.apply(e)
	}
	if m.state != StateOver {
		m.settle()
	}
	out := m.out
	m.out = nil
	return out
}

func (m *Machine) apply(e Event) {
	switch e := e.(type) {
	case WorkerJoined:
		m.join(e)
	case StreamBroken:
		if w := m.workers[e.ID]; w != nil {
			m.hear(w, false)
			w.closed = e.Closed
			m.weigh(w)
		}
	case WorkerLost:
		m.workerLost(e)
	case WorkerExited:
		m.exited(e)
	case Reported:
		m.reported(e.Report)
	case Finished:
		m.finished(e)
	case AgentJoined:
		m.agentJoined(e)
	case AgentHeard:
		if i := m.nodeOrder(e.Node); i >= 0 {
			m.nodes[i].seen = m.now
		}
	case AgentLost:
		if i := m.nodeOrder(e.Node); i >= 0 {
			m.nodes[i].connected = false
		}
	case AgentDraining:
		m.drain(e.Node)
	case NodeSilent:
		m.setSilent(e.Node, true)
	case Probed:
		m.probed(e)
	case StopRequested:
		m.stopRequested(e.Reason)
	case Tick:
	}
}

// slept moves all that is measured against the present by a gap.
func (m *Machine) slept(gap time.Duration) {
	for _, w := range m.workers {
		w.seen, w.progressAt, w.connectAt = w.seen.Add(gap), w.progressAt.Add(gap), w.connectAt.Add(gap)
	}
	m.progress = m.progress.Add(gap)
	if !m.connects.IsZero() {
		m.connects = m.connects.Add(gap)
	}
	m.absentAt = m.absentAt.Add(gap)
	for _, n := range m.nodes {
		n.seen, n.since = n.seen.Add(gap), n.since.Add(gap)
	}
	for id, a := range m.unheard {
		a.since = a.since.Add(gap)
		m.unheard[id] = a
	}
	m.steps.interrupted = true
}

// settle makes the decisions that follow from the state and the time.
func (m *Machine) settle() {
	m.expire()
	if m.state == StateFinishing {
		m.settleFinish()
		return
	}
	if m.settleStop(); m.state == StateOver {
		return
	}
	if m.state == StateRecovering && !m.recovered() {
		return
	}
	m.settleLinks()
	m.checkLinks()
	m.checkBroken()
	m.checkLeft()
	m.checkNodes()
	m.settleDrains()
	m.checkHang()
	m.form()
}

// do appends an action.
func (m *Machine) do(a Action) { m.out = append(m.out, a) }

// fail ends the run.
func (m *Machine) fail(code int, format string, args ...any) {
	m.over(End{Outcome: OutcomeFailed, ExitCode: code, Reason: fmt.Sprintf(format, args...)})
}

func (m *Machine) over(e End) {
	if m.state == StateOver {
		return
	}
	e.Step = m.step
	m.state, m.end = StateOver, e
	m.rev++
	m.do(Over{e})
}

// expire drops the workers that were not heard for too long.
func (m *Machine) expire() {
	var late []*worker
	for connected, after := range map[bool]time.Duration{false: m.cfg.LostAfter, true: m.cfg.SilentAfter} {
		for e := m.heard[stream(connected)].Front(); e != nil; e = e.Next() {
			w := e.Value.(*worker)
			if m.now.Sub(w.seen) < after {
				break
			}
			late = append(late, w)
		}
	}
	m.expireClosed()
	slices.SortFunc(late, m.bySeat)
	for _, w := range late {
		if m.workers[w.member.ID] != w {
			continue
		}
		silence := round(m.now.Sub(w.seen))
		if w.connected {
			m.unhear(w, fmt.Sprintf("silent for %s", silence))
		} else {
			m.unhear(w, fmt.Sprintf("its connection broke %s ago", silence))
		}
	}
	if m.newNodes {
		for _, a := range m.absent() {
			m.node(a.member.Node)
		}
		m.newNodes = false
	}
	if len(m.unheard) == 0 || m.now.Sub(m.absentAt) < m.cfg.RejoinTimeout {
		return
	}
	m.absentAt = m.now
	var back []absence
	for _, a := range m.unheard {
		n := m.node(a.member.Node)
		if n.connected && m.now.Sub(a.since) >= m.cfg.RejoinTimeout && n.seen.Sub(a.since) > m.cfg.LostAfter {
			back = append(back, a)
		} else if a.since.Before(m.absentAt) {
			m.absentAt = a.since
		}
	}
	for _, a := range sortAbsent(back) {
		m.kill(a.member, "lost, and not back while its agent is")
	}
}

// agentJoined gives the workers that were lost with the node the time to come
// back with it. The node may have seen generations of another coordinator, in which its
// workers were that are dead now.
func (m *Machine) agentJoined(e AgentJoined) {
	if m.state != StateOver && m.state != StateFinishing {
		for _, g := range e.Seen {
			m.learnSeen(g)
		}
		if e.Committed.Number > max(m.base.Number, m.floor) {
			m.learnBase(e.Committed, Report{})
		}
		for _, w := range m.sorted() { // they may have the seats of members just learned of
			m.replace(w.member)
		}
	}
	m.setSilent(e.Node, false)
	n := m.node(e.Node)
	m.agents = true
	n.slots, n.host, n.connected, n.seen, n.since = e.Slots, e.Host, true, m.now, m.now
	if n.drained {
		n.drained = false
		m.weighNode(e.Node)
	}
	for id, a := range m.unheard {
		if a.member.Node == e.Node {
			a.since = m.now
			m.unheard[id] = a
		}
	}
}

func (m *Machine) cause(format string, args ...any) {
	m.causes = append(m.causes, fmt.Sprintf(format, args...))
}

func (m *Machine) node(name string) *node {
	if i := m.nodeOrder(name); i >= 0 {
		return m.nodes[i]
	}
	n := &node{name: name}
	m.nodesBy[name] = len(m.nodes)
	m.nodes = append(m.nodes, n)
	m.rev++
	return n
}

func (m *Machine) nodeOrder(name string) int {
	if i, known := m.nodesBy[name]; known {
		return i
	}
	return -1
}

// absent returns the unheard members.
func (m *Machine) absent() []absence { return sortAbsent(slices.Collect(maps.Values(m.unheard))) }

func sortAbsent(as []absence) []absence {
	slices.SortFunc(as, func(a, b absence) int { return strings.Compare(string(a.member.ID), string(b.member.ID)) })
	return as
}
