package cluster

import (
	"cmp"
	"slices"
)

// lineup is who would be in a generation, by rank; the last of them are spares.
type lineup struct {
	members []*worker
	spares  int
}

func (l lineup) world() int { return len(l.members) - l.spares }

// byPlace moves those that compute next to each other: workers of one node, of one rack,
// of one zone, to where the first of them is. It changes nothing else in their order, and
// nothing where they are together already. Spares stay as they are: the first of them takes
// a lost worker's place.
func (l lineup) byPlace() lineup {
	type region struct{ topology, node string } // a zone or a rack has no node
	computing := l.members[:l.world()]
	first := make(map[region]int, len(computing))   // index of the first worker there
	path := make(map[*worker][]int, len(computing)) // the regions that it is in, the widest first, by their index
	for i, w := range computing {
		enter := func(r region) {
			if _, known := first[r]; !known {
				first[r] = i
			}
			path[w] = append(path[w], first[r])
		}
		topology := w.member.Topology
		for at := range topology {
			if topology[at] == '/' {
				enter(region{topology: topology[:at]})
			}
		}
		if topology != "" {
			enter(region{topology: topology})
		}
		enter(region{topology, w.member.Node})
	}
	slices.SortStableFunc(computing, func(a, b *worker) int { return slices.Compare(path[a], path[b]) })
	return l
}

// candidates returns who would be in a generation that is formed now. Where somebody has
// the run's state, those who do not begin as spares: they copy it while the others train,
// and compute from the generation after that.
func (m *Machine) candidates() lineup {
	all := m.lineUp(m.cfg.MaxWorkers+m.cfg.MaxSpares, m.live)
	newest, known := int64(0), false
	for _, w := range all {
		if w.report.HasState {
			newest, known = max(newest, w.report.Step), true
		}
	}
	if !known {
		return lineup{all, max(0, len(all)-m.cfg.MaxWorkers)}.byPlace()
	}
	var have, learn []*worker
	for _, w := range all {
		// Members of one generation are at one step, whatever they reported last. Others
		// may have been away for long.
		if w.report.HasState && (w.rank >= 0 || w.report.Step >= newest-1) {
			have = append(have, w)
		} else {
			learn = append(learn, w)
		}
	}
	return lineup{append(have, learn...), len(all) - min(len(have), m.cfg.MaxWorkers)}.byPlace()
}

// promotable tells whether a spare could compute.
func (m *Machine) promotable() bool {
	if m.state != StateRunning || m.last.World() >= m.cfg.MaxWorkers {
		return false
	}
	for _, w := range m.byRank[m.last.World():] {
		if w != nil && w.connected && w.marks&isSurvivor != 0 && w.report.HasState && w.report.Generation == m.last.Number {
			return true
		}
	}
	return false
}

// after returns the generation whose members first commit their step in flight; 0: none,
// for something is wrong with it.
func (m *Machine) after() uint64 {
	if !m.calm() || m.last.Number == 0 {
		return 0
	}
	for _, w := range m.byRank {
		if w != nil && m.last.After != 0 && w.report.Generation == m.last.After {
			return m.last.After // nobody has moved yet, or all are about to
		}
	}
	return m.last.Number
}

// lineUp ranks the workers for which in is true, at most most: survivors of the last
// generation keep their relative order, newcomers follow in (node join order, slot)
// order. If there are too many newcomers, those that a successor must agree with come
// before the others: without them there may be no quorum.
func (m *Machine) lineUp(most int, in func(*worker) bool) []*worker {
	var all, fresh []*worker
	for _, w := range m.byRank {
		if w != nil && in(w) {
			all = append(all, w)
		}
	}
	for _, n := range m.nodes {
		for _, w := range n.seats {
			if w.rank < 0 && in(w) {
				fresh = append(fresh, w)
			}
		}
	}
	all = all[:min(len(all), most)]
	room := most - len(all)
	if len(fresh) <= room {
		return append(all, fresh...)
	}
	taken := make(map[*worker]bool, room)
	for _, bound := range []bool{true, false} {
		for _, w := range fresh {
			if len(taken) < room && m.bound(w.member) == bound {
				taken[w] = true
			}
		}
	}
	return append(all, slices.DeleteFunc(fresh, func(w *worker) bool { return !taken[w] })...)
}

// choose returns a test for membership in ws.
func (m *Machine) choose(ws []*worker) func(MemberID) bool {
	m.draws++
	draw := m.draws
	for _, w := range ws {
		w.draw = draw
	}
	return func(id MemberID) bool { w := m.workers[id]; return w != nil && w.draw == draw }
}

// membersOf returns the members that workers are.
func membersOf(ws []*worker) []Member {
	members := make([]Member, len(ws))
	for i, w := range ws {
		members[i] = w.member
	}
	return members
}

// sorted returns the workers by rank, then by node join order and slot: map
// order decides nothing.
func (m *Machine) sorted() []*worker {
	return m.lineUp(len(m.workers), func(*worker) bool { return true })
}

// ranks returns the live workers of the last generation, by rank.
func (m *Machine) ranks() []*worker {
	return slices.DeleteFunc(slices.Clone(m.byRank), func(w *worker) bool { return w == nil })
}

// bySeat compares workers as sorted does.
func (m *Machine) bySeat(a, b *worker) int {
	switch {
	case a.rank >= 0 && b.rank >= 0:
		return a.rank - b.rank
	case a.rank >= 0:
		return -1
	case b.rank >= 0:
		return 1
	}
	return cmp.Or(m.nodeOrder(a.member.Node)-m.nodeOrder(b.member.Node), a.member.Slot-b.member.Slot)
}
