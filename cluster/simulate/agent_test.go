package simulate

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/cluster/node"
)

// agent is the shell around a node's machine, as package agent is.
type agent struct {
	host    *host
	machine *node.Machine
	gone    bool
	stopped int // until this tick
	holder  *holder
	end     cluster.End // that it announces
	saved   int64       // step that its workers heard to be durable; -1: none

	pointed  string // node that holds the coordinator
	line     *agentLine
	retry    int
	reports  []*report
	draining bool
	asked    *agentLine // over which it asked to leave
	inbox    []node.Event
	later    []post[node.Event]

	alive []bool // by node, in the gossip
	known []bool
	since []int // when the opposite became true
	last  []node.Peer
	lost  []string
}

// report is a certificate that is repeated until it is answered.
type report struct {
	exit cluster.Exit
	stop string // instead: a request to stop
	to   *holder
	done bool
}

// boot starts a node's agent.
func (w *world) boot(h *host) {
	c := node.DefaultConfig()
	h.boots++
	c.Node, c.Slots, c.Boot = h.name(), w.slots, fmt.Sprint(h.boots)
	c.Kept = h.disk.journal
	c.Founder, c.Term, c.Elastic = h.id == 0, h.disk.term, w.elastic
	if w.plant == noFounder && h.id > 0 {
		c.Founder, c.FoundAfter = true, time.Hour
	}
	m, err := node.New(c, w.now())
	if err != nil {
		panic(err)
	}
	a := &agent{
		host: h, machine: m, saved: -1, alive: make([]bool, w.nodes), known: make([]bool, w.nodes), since: make([]int, w.nodes),
	}
	a.alive[h.id] = true
	h.agent, h.startAt = a, 0
}

func (a *agent) run(w *world) {
	if a.holder != nil && !a.holder.stopped {
		a.holder.run(w)
	}
	if o := a.holder; o != nil && o.stopped && o.gone == 0 {
		o.gone = w.tick
		a.holder = nil
		a.inbox = append(a.inbox, node.ServerStopped{Err: o.err})
	}
	a.gossip(w)
	a.connect(w)
	for len(a.later) > 0 && a.later[0].due <= w.tick {
		a.inbox = append(a.inbox, a.later[0].msg)
		a.later = a.later[1:]
	}
	events := append(a.inbox, node.Tick{})
	a.inbox = nil
	for _, e := range events {
		if !a.gone {
			a.step(w, e)
		}
	}
}

// gossip moves this node's view of who is alive. Others are heard through any chain of
// nodes, taken for dead after three seconds and found again within one.
func (a *agent) gossip(w *world) {
	reach := w.reach(a.host.id)
	var peers []node.Peer
	var lost []string
	for i, h := range w.hosts {
		switch {
		case reach[i] == a.alive[i]:
			a.since[i] = w.tick
		case reach[i] && w.tick-a.since[i] >= second || !reach[i] && w.tick-a.since[i] >= 3*second:
			a.alive[i], a.since[i] = reach[i], w.tick
		}
		a.known[i] = a.known[i] || a.alive[i]
		switch {
		case a.alive[i] && reach[i]:
			b := h.agent
			p := node.Peer{Node: h.name(), Self: b == a, End: b.end}
			if b.holder != nil {
				p.Coordinator, p.Term = h.name(), b.holder.term
			}
			peers = append(peers, p)
		case a.alive[i]: // as it was
			if j := slices.IndexFunc(a.last, func(p node.Peer) bool { return p.Node == h.name() }); j >= 0 {
				peers = append(peers, a.last[j])
			}
		case a.known[i]:
			lost = append(lost, h.name())
		}
	}
	for _, p := range peers {
		a.host.disk.term = max(a.host.disk.term, p.Term)
	}
	if !slices.Equal(peers, a.last) || !slices.Equal(lost, a.lost) {
		a.last, a.lost = peers, lost
		a.inbox = append(a.inbox, node.Gossip{Peers: peers, Lost: lost})
	}
}

// reach tells which nodes' agents a node hears by way of any others.
func (w *world) reach(from int) []bool {
	hears := make([]bool, w.nodes)
	hears[from] = true
	for again := true; again; {
		again = false
		for i := range w.hosts {
			if !hears[i] {
				continue
			}
			for j, h := range w.hosts {
				if !hears[j] && h.agent != nil && w.tick >= h.agent.stopped && w.joined(i, j) {
					hears[j], again = true, true
				}
			}
		}
	}
	return hears
}

// coordinator returns who serves at an address now and can be reached from a node.
func (w *world) coordinator(from int, addr string) *holder {
	for _, h := range w.hosts {
		if h.name() == addr && h.agent != nil && w.tick >= h.agent.stopped && h.agent.holder != nil && w.joined(from, h.id) {
			return h.agent.holder
		}
	}
	return nil
}

// connect keeps the session.
func (a *agent) connect(w *world) {
	if a.line != nil && !a.line.works(w) {
		a.line = nil
	}
	if a.line == nil && w.tick >= a.retry {
		a.retry = w.tick + second/2
		if o := w.coordinator(a.host.id, a.pointed); o != nil {
			a.register(w, o)
		}
	}
	if a.line == nil {
		return
	}
	for _, m := range arrived(w, a.line.speaks(w), &a.line.down) {
		switch m := m.(type) {
		case cluster.Kill:
			a.inbox = append(a.inbox, node.KillOrdered{Kill: m})
		case cluster.Form:
			a.inbox = append(a.inbox, node.Formed{Generation: m.Generation})
		case cluster.Drained:
			a.inbox = append(a.inbox, node.Drained{})
		case cluster.Over:
			a.inbox = append(a.inbox, node.Ended{End: m.End})
		}
	}
	if a.draining && a.asked != a.line {
		a.asked = a.line
		a.line.say(w, cluster.AgentDraining{Node: a.host.name()})
	}
	if w.tick%5 == 0 {
		a.line.say(w, cluster.AgentHeard{Node: a.host.name()})
	}
	if a.line.speaks(w) && !a.line.holder.paused(w) {
		if w.tick%4 == 0 {
			s := a.line.holder.machine.Status(w.now())
			if w.plant == guesses {
				s.CommitGeneration = s.Generation.Number
			}
			a.inbox = append(a.inbox, node.Seen{Status: s})
		}
		a.certify(a.line.holder)
	}
}

func (a *agent) register(w *world, o *holder) {
	if o.end != nil {
		a.inbox = append(a.inbox, node.Ended{End: *o.end})
		return
	}
	a.line = newLine[cluster.Event, any](w, a.host.id, func() bool { return a.gone }, o)
	o.agents[a.host.id] = a.line
	committed, since := a.machine.Seen()
	if w.plant == noFloor { // nor does anybody tell the one who takes over
		committed, since = cluster.Generation{}, nil
	}
	if w.plant == forgetful {
		committed, since = cluster.Generation{}, nil
	}
	o.put(request{event: cluster.AgentJoined{Node: a.host.name(), Slots: w.slots, Seen: since, Committed: committed}, agent: a.line})
	for _, k := range o.kills {
		if k.Member.Node == a.host.name() {
			a.line.tell(w, k)
		}
	}
	a.inbox = append(a.inbox, node.Admitted{})
}

// certify repeats what has had no answer from this coordinator.
func (a *agent) certify(o *holder) {
	for _, r := range a.reports {
		if r.to == o || r.done {
			continue
		}
		r.to = o
		if r.stop != "" {
			r.done = true
			o.put(request{event: cluster.StopRequested{Reason: r.stop}, agent: a.line})
			continue
		}
		o.put(request{event: cluster.WorkerExited{Exit: r.exit}, agent: a.line, reply: func(answer cluster.Action) {
			if !r.done {
				r.done = true
				a.inbox = append(a.inbox, node.Judged{Exit: r.exit, Verdict: answer.(cluster.Judge).Verdict})
			}
		}})
	}
	a.reports = slices.DeleteFunc(a.reports, func(r *report) bool { return r.done })
}

func (a *agent) step(w *world, e node.Event) {
	for _, action := range a.machine.Step(w.now(), e) {
		a.carryOut(w, action)
	}
}

var (
	errSilent = errors.New("no answer")
	errFull   = errors.New("no space left on device")
)

func (a *agent) carryOut(w *world, action node.Action) {
	h := a.host
	w.say("%s: %T %+v", h.name(), action, action)
	switch action := action.(type) {
	case node.Point:
		a.pointed, h.pointed = action.Addr, action.Addr
	case node.Probe:
		err := errSilent
		if w.coordinator(h.id, action.Addr) != nil {
			err = nil
		}
		a.later = append(a.later, post[node.Event]{w.tick + second, node.Probed{Err: err}})
	case node.Hold:
		a.holder = w.hold(h, action)
		h.disk.term = max(h.disk.term, action.Term)
	case node.Keep:
		if a.holder == nil && w.tick >= h.full && action.Seen.Supersedes(h.disk.journal) {
			h.disk.journal = action.Seen
		}
	case node.Release:
		if a.holder != nil {
			a.holder.gone = w.tick
			a.holder = nil
			a.inbox = append(a.inbox, node.ServerStopped{Err: errSilent})
		}
	case node.Announce:
		a.end = action.End
	case node.Start:
		w.start(a, action.Slot, action.Member)
	case node.Kill:
		if p := h.workers[action.Slot]; p != nil {
			w.die(p, "SIGKILL", 0)
		}
	case node.KillAll:
		for _, p := range h.workers {
			if p != nil {
				w.die(p, "SIGKILL", 0)
			}
		}
	case node.Terminate:
		for _, p := range h.workers {
			if p != nil {
				p.wantStop = true
			}
		}
	case node.Drain:
		a.draining = true
	case node.Report:
		action.Exit.Again = action.Exit.Again && w.plant != asksInVain
		a.reports = append(a.reports, &report{exit: action.Exit})
	case node.RequestStop:
		a.reports = append(a.reports, &report{stop: action.Reason})
	case node.Return:
		w.returned(a, action)
	case node.Notice:
	}
}

// returned ends an agent, its coordinator and its workers.
func (w *world) returned(a *agent, r node.Return) {
	h := a.host
	w.checkReturn(a, r)
	w.killAgent(h, w.tick)
	h.startAt = 0
	for slot, p := range h.workers {
		if p != nil {
			p.dead, h.workers[slot] = true, nil
		}
	}
	if r.Err != nil { // it left, or a signal came before the run began here: it is started again
		for _, o := range w.hosts {
			if o.agent != nil && w.joined(o.id, h.id) { // they heard that it leaves
				o.agent.known[h.id], o.agent.alive[h.id] = false, false
			}
		}
		h.startAt = w.tick + 5*second
		return
	}
	w.over = true
}
