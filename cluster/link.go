package cluster

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"time"
)

// pair is two nodes, in join order.
type pair struct{ a, b string }

func (p pair) String() string { return p.a + " and " + p.b }

func (p pair) has(node string) bool { return node == p.a || node == p.b }

// other returns the other end.
func (p pair) other(node string) string {
	if node == p.a {
		return p.b
	}
	return p.a
}

// trouble is what is known of a pair of nodes whose workers could not connect to one
// another, though each of them speaks with the coordinator.
type trouble struct {
	tries int    // generations that it cost
	dead  bool   // no generation has both, until a probe gets through
	why   string // in the words of the last try
}

// kept is a node that is kept out of the run for a dead link.
type kept struct {
	probeAt time.Time
	probe   uint64 // number of the probe that is under way; 0: none
	probes  int
}

// maxCover is how many nodes with dead links are tried in every combination.
const maxCover = 10

func (m *Machine) pairOf(a, b string) pair {
	if m.nodeOrder(b) < m.nodeOrder(a) {
		a, b = b, a
	}
	return pair{a, b}
}

// checkLinks ends a generation two of whose members cannot connect to one another. A
// member says so in PhaseConnect; it may also be that the other one is not there yet,
// so both must have taken up the generation for a while.
func (m *Machine) checkLinks() {
	if m.state != StateRunning && m.state != StateStopping || m.ended || len(m.causes) > 0 {
		return
	}
	if m.number(isConnecting) == 0 {
		m.connects = time.Time{}
		return
	}
	if m.now.Sub(m.connects) < m.cfg.LinkDeadline {
		return
	}
	m.connects = m.now
	dead := false
	for _, w := range m.ranks() {
		if m.connecting(w) && w.connectAt.Before(m.connects) {
			m.connects = w.connectAt
		}
		o := m.workers[w.report.Blame]
		if !m.connecting(w) || o == nil || o.member.Node == w.member.Node || !o.connected || o.report.Generation != m.last.Number {
			continue
		}
		since, patience := w.connectAt, 2*m.cfg.LinkDeadline
		if m.connecting(o) {
			patience = m.cfg.LinkDeadline
			if o.connectAt.After(since) {
				since = o.connectAt
			}
		}
		if m.now.Sub(since) >= patience {
			dead = m.blameLink(w.member, o.member, round(m.now.Sub(since))) || dead
		}
	}
	if dead {
		m.keepOut()
		m.cause("continuing without %s", strings.Join(m.keptNodes(), ", "))
	}
}

// connecting tells whether a worker has taken up the newest generation and misses a peer.
func (m *Machine) connecting(w *worker) bool {
	r := w.report
	return w.connected && r.Generation == m.last.Number && r.Phase == PhaseConnect && r.Blame != "" && r.Broken == ""
}

// blameLink counts a try that a link has cost, once a generation, and tells whether it
// was the last.
func (m *Machine) blameLink(a, b Member, after time.Duration) bool {
	p := m.pairOf(a.Node, b.Node)
	t := m.links[p]
	if t == nil {
		t = &trouble{}
		m.links[p] = t
	}
	why := fmt.Sprintf("%s cannot connect to %s at %s, tried for %s", a, b, b.DataAddr, after)
	if slices.ContainsFunc(m.causes, func(c string) bool { return strings.HasPrefix(c, "nodes "+p.String()+" ") }) {
		return false
	}
	t.tries, t.why = t.tries+1, why
	if t.tries < m.cfg.LinkTries {
		m.cause("nodes %s cannot reach one another (%s); forming it again", p, why)
		return false
	}
	t.dead = true
	m.cause("nodes %s cannot reach one another (%s, in %s)", p, why, count(t.tries, "generation"))
	return true
}

// deadLinks returns the dead links, in join order.
func (m *Machine) deadLinks() []pair {
	var ps []pair
	for p, t := range m.links {
		if t.dead {
			ps = append(ps, p)
		}
	}
	slices.SortFunc(ps, func(x, y pair) int {
		return cmp.Or(m.nodeOrder(x.a)-m.nodeOrder(y.a), m.nodeOrder(x.b)-m.nodeOrder(y.b))
	})
	return ps
}

// keepOut chooses the nodes that stay out of the run so that no dead link is in it: if
// there is such a choice, one that leaves a quorum; of these the one with the fewest
// workers, and of equals the nodes that joined last.
func (m *Machine) keepOut() {
	links := m.deadLinks()
	var ends []string
	for _, p := range links {
		ends = append(ends, p.a, p.b)
	}
	slices.SortFunc(ends, func(x, y string) int { return m.nodeOrder(x) - m.nodeOrder(y) })
	ends = slices.Compact(ends)
	out := m.cheapest(links, ends)
	for name := range m.kept {
		if !slices.Contains(out, name) {
			delete(m.kept, name)
			m.weighNode(name)
		}
	}
	for _, name := range out {
		if m.kept[name] == nil {
			m.kept[name] = &kept{probeAt: m.now.Add(m.cfg.ProbeEvery)}
			m.weighNode(name)
			m.do(KeptOut{Node: name, Reason: m.keptOut(name)})
		}
	}
}

func (m *Machine) cheapest(links []pair, ends []string) []string {
	if len(ends) > maxCover { // the second end of each: never wrong, only not the best
		var out []string
		for _, p := range links {
			if !slices.Contains(out, p.a) && !slices.Contains(out, p.b) {
				out = append(out, p.b)
			}
		}
		return out
	}
	workers := map[string]int{}
	for _, w := range m.workers {
		workers[w.member.Node]++
	}
	bit := func(name string) uint { return 1 << slices.Index(ends, name) }
	best, bestCost := uint(0), []int{2}
	for set := range uint(1) << len(ends) {
		if slices.ContainsFunc(links, func(p pair) bool { return set&(bit(p.a)|bit(p.b)) == 0 }) {
			continue
		}
		out := func(name string) bool { return slices.Contains(ends, name) && set&bit(name) != 0 }
		lost, minority := 0, 0
		for name, n := range workers {
			if out(name) {
				lost += n
			}
		}
		ok, _ := quorum(m.electorate().Generation, m.dead, func(id MemberID) bool { w := m.workers[id]; return w != nil && !out(w.member.Node) },
			func(at place) bool { return m.at(at.node, at.slot) != nil && !out(at.node) })
		if !ok {
			minority = 1
		}
		if cost := []int{minority, lost, bits.OnesCount(set), -int(set)}; slices.Compare(cost, bestCost) < 0 {
			best, bestCost = set, cost
		}
	}
	return slices.DeleteFunc(slices.Clone(ends), func(name string) bool { return best&bit(name) == 0 })
}

// keptOut says why a node is kept out of the run; empty if it is not.
func (m *Machine) keptOut(name string) string {
	if m.kept[name] == nil {
		return ""
	}
	var others, whys []string
	for _, p := range m.deadLinks() {
		if p.has(name) {
			others, whys = append(others, p.other(name)), append(whys, m.links[p].why)
		}
	}
	return fmt.Sprintf("no connection between %s and %s (%s): the others train without %s until a connection gets through; "+
		"see that each node reaches the data ports of all others (cluster.data_port, cluster.advertise, firewalls)",
		name, strings.Join(others, ", "), strings.Join(whys, "; "), name)
}

// settleLinks probes the links of nodes that are kept out, and lets them in again where
// nobody is left at the other ends.
func (m *Machine) settleLinks() {
	for _, p := range m.deadLinks() {
		here, there := m.workerOn(p.a), m.workerOn(p.b)
		if here == nil && there == nil {
			m.links[p].dead = false
		}
	}
	for _, name := range m.keptNodes() {
		k := m.kept[name]
		addrs, linked := []string(nil), false
		for _, p := range m.deadLinks() {
			if !p.has(name) {
				continue
			}
			linked = true
			if w := m.workerOn(p.other(name)); w != nil {
				addrs = append(addrs, w.member.DataAddr)
			}
		}
		w := m.workerOn(name)
		switch {
		case !linked || len(addrs) == 0 && w != nil: // nobody to reach
			m.letIn(name)
		case w == nil || m.now.Before(k.probeAt):
		default: // one that was not answered in time is repeated
			m.probes++
			k.probe, k.probeAt = m.probes, m.now.Add(min(m.cfg.ProbeEvery<<min(k.probes, 20), m.cfg.ProbeEveryMax))
			k.probes++
			m.do(Probe{ID: w.member.ID, Number: k.probe, Addrs: addrs})
		}
	}
}

func (m *Machine) keptNodes() []string {
	var names []string
	for name := range m.kept {
		names = append(names, name)
	}
	slices.SortFunc(names, func(x, y string) int { return m.nodeOrder(x) - m.nodeOrder(y) })
	return names
}

// workerOn returns a connected worker of a node, that of the lowest slot.
func (m *Machine) workerOn(name string) *worker {
	if i := m.nodeOrder(name); i >= 0 {
		for _, w := range m.nodes[i].seats {
			if w.connected {
				return w
			}
		}
	}
	return nil
}

// probed takes in how a probe went. A link that fails again counts as one that failed
// before, so one more try is enough to keep the node out.
func (m *Machine) probed(e Probed) {
	w := m.workers[e.ID]
	if w == nil {
		return
	}
	name := w.member.Node
	if k := m.kept[name]; k == nil || k.probe != e.Number {
		return
	}
	m.kept[name].probe = 0
	if e.Err != "" {
		return
	}
	m.letIn(name)
}

// letIn takes a node in again, with those that are kept out for links to it alone.
func (m *Machine) letIn(name string) {
	for _, p := range m.deadLinks() {
		if p.has(name) {
			m.links[p].dead, m.links[p].tries = false, m.cfg.LinkTries-1
		}
	}
	delete(m.kept, name)
	m.weighNode(name)
	m.do(LetIn{Node: name})
	m.joinLast = m.now
	if m.joinFirst.IsZero() {
		m.joinFirst = m.now
	}
}

// provenLinks forgets the troubles of pairs that committed a step together.
func (m *Machine) provenLinks(g *group) {
	if len(m.links) == 0 {
		return
	}
	nodes := map[string]bool{}
	for _, w := range g.Members {
		nodes[w.Node] = true
	}
	for p := range m.links {
		if nodes[p.a] && nodes[p.b] {
			delete(m.links, p)
		}
	}
}
