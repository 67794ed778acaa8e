package node

import (
	"cmp"
	"slices"
	"time"

	"github.com/agrdist/agrdist/cluster"
)

// holder is what a node knows of the coordinator, wherever it is.
type holder struct {
	peers   []Peer
	lost    []string
	order   []string // of the nodes, as they joined
	pointed string   // where the coordinator was last
	on      string   // node that held it
	maxTerm uint64   // highest term heard of

	term       uint64    // of the coordinator that this node holds; 0: none
	serving    bool      // that coordinator has not stopped
	standDown  bool      // and is to
	vacant     time.Time // since when nobody holds it; zero: somebody does
	probing    bool
	probeAfter time.Time
	holdAfter  time.Time

	seen  cluster.Journal      // of the run, for a coordinator on this node
	heard time.Time            // last word of a coordinator
	older []cluster.Generation // generations seen since the last that committed, the newest last
}

// gossiped takes in who is alive.
func (m *Machine) gossiped(g Gossip) {
	h := &m.holder
	h.peers, h.lost = g.Peers, g.Lost
	for _, p := range g.Peers {
		h.maxTerm = max(h.maxTerm, p.Term)
		if p.End.Outcome != cluster.OutcomeNone && !p.Self {
			m.heardEnd(p.End)
		}
	}
	if best := h.best(); best != nil && best.Coordinator != h.pointed {
		h.pointed, h.on = best.Coordinator, best.Node
		m.do(Point{best.Coordinator})
	}
}

// best is the node that holds the coordinator with the highest term; of equals,
// the smallest name, so that all nodes choose alike. nil: no living node holds it.
func (h *holder) best() *Peer {
	var best *Peer
	for i, p := range h.peers {
		if p.Coordinator == "" {
			continue
		}
		if best == nil || p.Term > best.Term || p.Term == best.Term && p.Node < best.Node {
			best = &h.peers[i]
		}
	}
	return best
}

// living returns the nodes that gossip knows, in join order; those that joined
// unseen come last, by name.
func (h *holder) living() []string {
	var names []string
	for _, p := range h.peers {
		names = append(names, p.Node)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	rank := func(name string) int {
		if i := slices.Index(h.order, name); i >= 0 {
			return i
		}
		return len(h.order)
	}
	slices.SortStableFunc(names, func(a, b string) int { return rank(a) - rank(b) })
	return names
}

// gone returns the nodes of the run that gossip does not know.
func (h *holder) gone() []string {
	living := h.living()
	return slices.DeleteFunc(slices.Clone(h.order), func(n string) bool { return slices.Contains(living, n) })
}

// looked takes in where the run stands. It is also what a coordinator on this
// node would begin with.
func (m *Machine) looked(s cluster.Status) {
	h := &m.holder
	m.step, h.heard = s.Step, m.now
	if i := slices.IndexFunc(s.Agents, func(a cluster.AgentStatus) bool { return a.Node == m.cfg.Node }); i >= 0 {
		m.tellKeptOut(s.Agents[i].KeptOut)
	}
	m.proven = m.proven || s.Step >= 0
	m.askAgain(s.State)
	m.repeatStop(s.State)
	h.order = nil
	for _, a := range s.Agents {
		h.order = append(h.order, a.Node)
	}
	if s.State == cluster.StateOver || s.Generation.Number == 0 || s.Generation.Number < h.seen.Last.Number {
		return // what was formed since, this node has heard already
	}
	defer m.keep(h.seen.Last)
	before := h.seen.Base
	h.seen = cluster.Journal{
		RunID: s.RunID, Last: s.Generation, Ended: s.State == cluster.StateWaiting, Step: s.Step, Saved: -1, Nodes: h.order,
	}
	if s.State == cluster.StateStopping {
		h.seen.Stop = s.Detail
	}
	h.seen.Base = s.Committed
	if s.CommitGeneration == s.Generation.Number {
		h.seen.Base = s.Generation
	}
	if before.Number > h.seen.Base.Number { // more than a coordinator of an old memory knows
		h.seen.Base = before
	}
	// Those formed since then, as the coordinator says, or as this node has seen: of another
	// coordinator, perhaps.
	for _, g := range append(slices.Clone(s.Issued), s.Generation) {
		if !slices.ContainsFunc(h.older, g.Same) {
			h.older = append(h.older, g)
		}
	}
	h.older = slices.DeleteFunc(h.older, func(g cluster.Generation) bool { return g.Number <= h.seen.Base.Number })
	slices.SortStableFunc(h.older, func(a, b cluster.Generation) int { return cmp.Compare(a.Number, b.Number) })
	h.seen.Issued = slices.Clone(h.older)
}

// tellKeptOut tells why this node's workers do not train, and when they may again.
func (m *Machine) tellKeptOut(why string) {
	if why == m.keptOut {
		return
	}
	if m.keptOut = why; why == "" {
		why = "the links of this node work again: its workers take part"
	}
	m.notice("%s", why)
}

// formed takes in a generation before the next look at where the run stands would tell
// of it.
func (m *Machine) formed(g cluster.Generation) {
	h := &m.holder
	if g.Number < h.seen.Last.Number || g.Same(h.seen.Last) {
		return
	}
	defer m.keep(h.seen.Last)
	h.older = append(h.older, g)
	h.seen.Last, h.seen.Ended = g, false
	h.seen.Issued = append(slices.Clone(h.seen.Issued), g)
}

// keep asks to keep what was seen when it is of another generation than before (two
// coordinators may give one number to different groups). A coordinator on this node does
// so itself.
func (m *Machine) keep(before cluster.Generation) {
	if h := &m.holder; h.term == 0 && !h.seen.Last.Same(before) {
		m.do(Keep{h.seen})
	}
}

// Seen returns the newest generation that this node knows to have committed a step, and
// those that it has seen since then, now or before a restart, the newest last: what it
// tells every coordinator, so that what its dead workers knew is not lost with them.
func (m *Machine) Seen() (committed cluster.Generation, since []cluster.Generation) {
	j := m.holder.seen
	if kept := m.cfg.Kept; j.Last.Number == 0 && kept.End.Outcome == cluster.OutcomeNone {
		j = kept
	}
	since = j.Issued
	if n := len(since); j.Last.Number > 0 && !j.Last.Same(j.Base) && (n == 0 || !since[n-1].Same(j.Last)) {
		since = append(slices.Clone(since), j.Last)
	}
	return j.Base, since
}

// settleHolder decides whether the coordinator belongs on this node.
func (m *Machine) settleHolder() {
	h := &m.holder
	best := h.best()
	switch {
	case h.term > 0:
		other := best != nil && !best.Self && (best.Term > h.term || best.Term == h.term && best.Node < m.cfg.Node)
		if other && h.serving && !h.standDown {
			h.standDown = true
			m.notice("node %s holds the coordinator now; the one here stands down", best.Node)
			m.do(Release{})
		}
	case best != nil:
		h.vacant = time.Time{}
	case h.pointed == "": // nobody ever held it, as far as this node knows
		if m.cfg.Founder && m.now.Sub(m.started) >= m.cfg.FoundAfter && !m.now.Before(h.holdAfter) {
			m.hold()
		}
	default:
		m.settleVacant()
	}
}

// settleVacant takes over when it is this node's turn and a dial has failed too.
func (m *Machine) settleVacant() {
	h := &m.holder
	if h.vacant.IsZero() {
		h.vacant, h.probeAfter = m.now, m.now
	}
	living := h.living()
	turn := slices.Index(living, m.cfg.Node)
	if h.seen.Last.Number == 0 {
		if turn = 0; !m.cfg.Founder {
			m.noticeOnce("%s, which holds the coordinator, is out of reach, and no generation was seen that this node could continue: waiting for it; "+
				"start it again, or, if it is gone for good, stop the others and start the run on another node (without --join)", h.on)
			return
		}
	} else if n, of, enough := h.present(living); !enough {
		m.noticeOnce("the coordinator is out of reach, and only %d of %d nodes of the run are here: waiting for the others", n, of)
		return
	}
	due := h.vacant.Add(time.Duration(turn) * m.cfg.TakeOverStep)
	if turn < 0 || h.serving || h.probing || m.now.Before(due) || m.now.Before(h.probeAfter) || m.now.Before(h.holdAfter) {
		return
	}
	h.probing = true
	m.do(Probe{h.pointed})
}

// present counts the nodes of the newest generation, and how many of them live. A
// node that sees less than half of them is on the wrong side of a partition: its
// coordinator could form no generation, and would only disturb the others' when it
// meets them.
func (h *holder) present(living []string) (here, of int, enough bool) {
	nodes := map[string]bool{}
	for _, w := range h.seen.Last.Members {
		nodes[w.Node] = true
	}
	for _, n := range living {
		if nodes[n] {
			here++
		}
	}
	return here, len(nodes), 2*here >= len(nodes)
}

func (m *Machine) probed(err error) {
	h := &m.holder
	if !h.probing {
		return
	}
	h.probing, h.probeAfter = false, m.now.Add(m.cfg.ProbeEvery)
	if err == nil || h.best() != nil || m.end != nil || h.term > 0 {
		return
	}
	m.notice("the coordinator is gone (%v); this node takes over", err)
	m.hold()
}

func (m *Machine) hold() {
	h := &m.holder
	h.maxTerm++
	h.term, h.serving, h.standDown, h.vacant = h.maxTerm, true, false, time.Time{}
	m.do(Hold{Term: h.term, Begin: m.cfg.Founder, Seen: h.seen, Silent: h.gone()})
}

// serverStopped takes in that the coordinator on this node is no more.
func (m *Machine) serverStopped(err error) {
	h := &m.holder
	h.serving = false
	switch {
	case h.standDown:
		h.term, h.standDown = 0, false
	case err == nil || m.end != nil:
		// Its sessions have heard the end.
	case !m.admitted && m.cfg.Founder:
		m.fail(err)
	default:
		m.notice("the coordinator cannot be held here: %v", err)
		h.term, h.holdAfter = 0, m.now.Add(m.cfg.HoldAgain)
	}
}
