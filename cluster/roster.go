package cluster

import (
	"cmp"
	"container/list"
	"math/bits"
	"slices"
	"time"
)

// place is a seat as a key.
type place struct {
	node string
	slot int
}

// group is a generation whose members are found by id and by seat without a search.
type group struct {
	Generation
	ranks map[MemberID]int // both made when first asked for
	seats map[place]int
}

func newGroup(g Generation) *group { return &group{Generation: g} }

// Rank returns the rank of a member, or -1.
func (g *group) Rank(id MemberID) int {
	if g.ranks == nil {
		g.ranks = make(map[MemberID]int, len(g.Members))
		for i := range slices.Backward(g.Members) {
			g.ranks[g.Members[i].ID] = i
		}
	}
	if r, has := g.ranks[id]; has {
		return r
	}
	return -1
}

// holder returns the member of a seat, or "".
func (g *group) holder(of place) MemberID {
	if g.seats == nil {
		g.seats = make(map[place]int, len(g.Members))
		for i := range g.Members {
			g.seats[place{g.Members[i].Node, g.Members[i].Slot}] = i
		}
	}
	if r, has := g.seats[of]; has {
		return g.Members[r].ID
	}
	return ""
}

// marks are what decisions count workers by.
type marks uint16

const (
	isRanked     marks = 1 << iota // of the last generation
	isStopping                     // ranked, and agreed to stop
	isUnsteady                     // ranked, and without a stream or stopping
	isLate                         // ranked, has not taken up the generation and is in no long phase
	isLoading                      // ranked, and in a long phase
	isWaiting                      // ranked, has taken up the generation, and waits for the other ranks in a step
	isConnecting                   // ranked, and misses a connection to a peer
	isSurvivor                     // ranked, and may be in the next generation
	isFresh                        // not ranked, and may be in the next generation
	isLeft                         // ranked, and left the generation with nothing wrong in it
	markCount    = iota
)

// roster is the registered workers with what the machine counts and looks up at every
// step, kept up to date as they change: a step costs what happened in it, not what is
// registered. Lists are ordered by time, for each entry is moved to the end when it is
// given the present; slept moves all times alike.
type roster struct {
	byRank   []*worker       // of the last generation; nil: not registered
	tally    [markCount]int  // workers with each mark
	heard    [2]list.List    // by time of the last word: streams that are broken, and open
	progress time.Time       // newest progress of a ranked worker
	draws    uint64          // numbers the choices of members
	connects time.Time       // no worker misses its peer since before that; zero: none does
	absentAt time.Time       // nobody is unheard since before that
	away     []bool          // of the ranks: expected to report back, and not here
	awaited  int             // how many
	changes  uint64          // counts changes that decisions about generations depend on
	blocked  blockedDecision // the last one
}

// blockedDecision is a generation that could not form. Until something changes, the
// answer is the same.
type blockedDecision struct {
	rev, changes uint64
	living       int // nodes
	text         string
	nodes        bool // it waits for nodes
}

func stream(connected bool) int {
	if connected {
		return 1
	}
	return 0
}

// register takes in a new worker.
func (m *Machine) register(w *worker) {
	id := w.member.ID
	m.workers[id] = w
	m.sit(w)
	if r := m.last.Rank(id); r >= 0 {
		m.seat(w, r)
	}
	m.changes++
}

// sit notes the seat that a worker has, and rise that it has it no more.
func (m *Machine) sit(w *worker) {
	n := m.node(w.member.Node)
	i, _ := n.find(w.member.Slot)
	n.seats = slices.Insert(n.seats, i, w)
}

func (m *Machine) rise(w *worker) {
	n := m.node(w.member.Node)
	n.seats = slices.DeleteFunc(n.seats, func(o *worker) bool { return o == w })
}

// unregister forgets a worker.
func (m *Machine) unregister(w *worker) {
	delete(m.workers, w.member.ID)
	m.rise(w)
	m.unlistHeard(w)
	m.setMarks(w, 0)
	if w.rank >= 0 {
		m.byRank[w.rank] = nil
		if !w.progressAt.Before(m.progress) {
			m.progress = m.newest()
		}
		m.weighAway(w.rank)
	}
	m.changes++
}

// seat gives a worker its rank in the last generation.
func (m *Machine) seat(w *worker, rank int) {
	w.rank = rank
	m.byRank[rank] = w
	if w.progressAt.After(m.progress) {
		m.progress = w.progressAt
	}
	m.weighAway(rank)
}

// setLast makes g the last generation. ranked is its members that are registered, by rank.
func (m *Machine) setLast(g *group, ranked []*worker) {
	before := m.byRank
	for _, w := range before {
		if w != nil {
			w.rank = -1
		}
	}
	m.last = g
	clear(m.resets)
	m.progress, m.connects, m.awaited = time.Time{}, time.Time{}, 0
	m.byRank, m.away = make([]*worker, len(g.Members)), make([]bool, len(g.Members))
	for rank, w := range ranked {
		if w != nil {
			m.seat(w, rank)
		} else {
			m.weighAway(rank)
		}
	}
	for _, w := range append(before, ranked...) {
		if w != nil {
			m.weigh(w)
		}
	}
	m.changes++
}

// registered returns the workers of a generation by rank, nil where there is none.
func (m *Machine) registered(g *group) []*worker {
	ws := make([]*worker, len(g.Members))
	for i := range g.Members {
		ws[i] = m.workers[g.Members[i].ID]
	}
	return ws
}

// newest returns the time of the newest progress.
func (m *Machine) newest() time.Time {
	var t time.Time
	for _, w := range m.byRank {
		if w != nil && w.progressAt.After(t) {
			t = w.progressAt
		}
	}
	return t
}

// hear notes that a worker spoke.
func (m *Machine) hear(w *worker, connected bool) {
	if w.heardIn != nil && w.connected == connected {
		m.heard[stream(connected)].MoveToBack(w.heardIn)
	} else {
		m.unlistHeard(w)
		if !w.finished {
			w.heardIn = m.heard[stream(connected)].PushBack(w)
		}
	}
	w.connected, w.seen = connected, m.now
	w.closed = w.closed && !connected
}

// unlistHeard stops watching for a worker's silence.
func (m *Machine) unlistHeard(w *worker) {
	if w.heardIn != nil {
		m.heard[stream(w.connected)].Remove(w.heardIn)
		w.heardIn = nil
	}
}

// progressed notes that a worker got further.
func (m *Machine) progressed(w *worker) {
	w.progressAt = m.now
	if w.rank >= 0 {
		m.progress = m.now
	}
}

// weigh counts a worker by what is known of it now. It follows every change of its
// report, its stream and its rank.
func (m *Machine) weigh(w *worker) {
	var s marks
	r := &w.report
	live := !r.Stopping && (len(m.kept) == 0 || m.kept[w.member.Node] == nil) && !m.nodes[m.nodeOrder(w.member.Node)].drained
	if w.rank < 0 {
		if live {
			s |= isFresh
		}
		m.setMarks(w, s)
		return
	}
	s |= isRanked
	if r.Stopping {
		s |= isStopping
	}
	if r.Stopping || !w.connected {
		s |= isUnsteady
	}
	switch {
	case long(r.Phase):
		s |= isLoading
	case r.Generation != m.last.Number:
		s |= isLate
	case r.Phase != PhaseConnect && waiting(r.Phase):
		s |= isWaiting
	}
	if m.connecting(w) {
		s |= isConnecting
		if m.connects.IsZero() || w.connectAt.Before(m.connects) {
			m.connects = w.connectAt
		}
	}
	if live {
		s |= isSurvivor
	}
	if r.Left && r.Broken == "" && r.Generation == m.last.Number {
		s |= isLeft
	}
	m.setMarks(w, s)
}

func (m *Machine) setMarks(w *worker, s marks) {
	changed := w.marks ^ s
	if changed == 0 {
		return
	}
	for i := range markCount {
		switch bit := marks(1) << i; {
		case changed&bit == 0:
		case s&bit != 0:
			m.tally[i]++
		default:
			m.tally[i]--
		}
	}
	if changed&(isRanked|isSurvivor|isFresh) != 0 {
		m.changes++
	}
	w.marks = s
}

// number returns how many workers have a mark.
func (m *Machine) number(of marks) int {
	return m.tally[bits.TrailingZeros16(uint16(of))]
}

// weighNode counts the workers of a node again.
func (m *Machine) weighNode(name string) {
	if i := m.nodeOrder(name); i >= 0 {
		for _, w := range m.nodes[i].seats {
			m.weigh(w)
		}
	}
	m.changes++
}

// weighAway follows who of the last generation is expected to report back.
func (m *Machine) weighAway(rank int) {
	w := &m.last.Members[rank]
	is := m.byRank[rank] == nil && !m.dead[w.ID] && !m.silent[w.Node]
	if is == m.away[rank] {
		return
	}
	m.away[rank] = is
	if is {
		m.awaited++
	} else {
		m.awaited--
	}
}

// setSilent notes whether gossip calls a node dead.
func (m *Machine) setSilent(name string, silent bool) {
	if m.silent[name] == silent {
		return
	}
	if silent {
		m.silent[name] = true
	} else {
		delete(m.silent, name)
	}
	for rank := range m.last.Members {
		if m.last.Members[rank].Node == name {
			m.weighAway(rank)
		}
	}
}

// unhearMember notes that a member is lost without a certificate.
func (m *Machine) unhearMember(member Member) {
	if len(m.unheard) == 0 {
		m.absentAt = m.now
	}
	m.unheard[member.ID] = absence{member, m.now}
	at := place{member.Node, member.Slot}
	if !slices.Contains(m.unheardAt[at], member.ID) {
		m.unheardAt[at] = append(m.unheardAt[at], member.ID)
	}
}

// forgetAbsence says that a member is unheard no more.
func (m *Machine) forgetAbsence(id MemberID) {
	a, is := m.unheard[id]
	if !is {
		return
	}
	delete(m.unheard, id)
	at := place{a.member.Node, a.member.Slot}
	if left := slices.DeleteFunc(m.unheardAt[at], func(o MemberID) bool { return o == id }); len(left) > 0 {
		m.unheardAt[at] = left
	} else {
		delete(m.unheardAt, at)
	}
}

// find returns the index of a slot among the seats that are taken, or where it belongs.
func (n *node) find(slot int) (int, bool) {
	return slices.BinarySearchFunc(n.seats, slot, func(w *worker, slot int) int { return cmp.Compare(w.member.Slot, slot) })
}

// at returns the registered worker of a seat, or nil.
func (m *Machine) at(node string, slot int) *worker {
	if i := m.nodeOrder(node); i >= 0 {
		if j, taken := m.nodes[i].find(slot); taken {
			return m.nodes[i].seats[j]
		}
	}
	return nil
}

// live tells whether a worker may be in the next generation.
func (m *Machine) live(w *worker) bool { return w.marks&(isSurvivor|isFresh) != 0 }
