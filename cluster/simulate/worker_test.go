package simulate

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/cluster/node"
)

// worker is a worker process: its session as package coordinator keeps it, and its part
// in the data plane as package trainer plays it.
type worker struct {
	id      cluster.MemberID
	host    *host
	agent   *agent // that started it
	slot    int
	born    int
	dead    bool
	stopped int // by SIGSTOP, until this tick
	orphan  int // tick at which it follows its agent; 0: it does not

	line     *workLine
	admitted bool
	retry    int

	holds    cluster.Generation
	proven   cluster.Generation   // in which it committed last
	pledged  []cluster.Generation // since then, in which it gave its part of a commit word
	aborted  bool
	broken   string // why it left the group of holds
	blame    cluster.MemberID
	reset    bool             // whose end closed the connection
	parting  uint64           // the generation that it is to leave after the step in flight
	missing  cluster.MemberID // to whom it cannot connect in the group of holds
	state    state
	doubt    bool // it committed the step that it is at, others perhaps not
	wantStop bool
	saved    bool // the state is durable: it leaves
	leaveAt  int
	aloneAt  int // since when it is to stop and has no group
	finished int // tick at which it reached the last step with all others; 0: it has not
	toldAt   int // of that, last
	said     cluster.Report
	saidAt   int
}

// loading is how long a process takes from its start to its registration.
const loading = 3

func (w *world) start(a *agent, slot int, id cluster.MemberID) {
	w.serial++
	a.host.workers[slot] = &worker{id: id, host: a.host, agent: a, slot: slot, born: w.tick, state: state{step: -1}}
}

// die ends a process, and its agent reaps it.
func (w *world) die(p *worker, signal string, code int) {
	p.dead = true
	p.host.workers[p.slot] = nil
	if a := p.host.agent; a == p.agent && !a.gone {
		failed := code != cluster.ExitStopped && code != 0 || signal != ""
		a.inbox = append(a.inbox, node.Exited{Slot: p.slot, Code: code, Signal: signal, Failed: failed, Reason: "it died"})
	}
}

func (p *worker) member() cluster.Member {
	return cluster.Member{
		ID: p.id, Node: p.host.name(), Slot: p.slot, DataAddr: string(p.id), RunID: "run", ConfigHash: "hash", Build: "build",
		Topology: fmt.Sprintf("r%d", p.host.id%2),
	}
}

func (p *worker) report() cluster.Report {
	r := cluster.Report{
		Member: p.id, Generation: p.holds.Number, Step: p.state.step, CommitGeneration: p.state.commit, HasState: p.state.has,
		Phase: cluster.PhaseAllReduce, Broken: p.broken, Blame: p.blame, Reset: p.reset, Stopping: p.saved, Left: p.aborted || p.broken != "",
	}
	for _, g := range p.pledged {
		r.Pledged = append(r.Pledged, g.Number)
	}
	switch {
	case p.aborted || p.broken != "" || p.holds.Number == 0:
		r.Phase = cluster.PhaseSync
	case p.missing != "":
		r.Phase, r.Blame = cluster.PhaseConnect, p.missing
	}
	return r
}

func (p *worker) run(w *world) {
	if w.tick-p.born < loading {
		return
	}
	if p.line != nil && !p.line.works(w) {
		p.line, p.admitted = nil, false
	}
	if p.line == nil && w.tick >= p.retry {
		p.retry = w.tick + second/2
		if o := w.coordinator(p.host.id, p.host.pointed); o != nil {
			p.register(w, o)
		}
	}
	if p.line != nil {
		for _, m := range arrived(w, p.line.speaks(w), &p.line.down) {
			if p.hear(w, m); p.dead {
				return
			}
		}
	}
	p.saveAlone(w)
	if p.dead {
		return
	}
	if p.finished > 0 {
		p.finish(w)
		if p.dead {
			return
		}
	}
	if p.saved && w.tick >= p.leaveAt {
		if p.line != nil {
			p.line.say(w, cluster.WorkerLost{ID: p.id, Certified: true, Why: "it left"})
		}
		w.die(p, "", cluster.ExitStopped)
		return
	}
	if r := p.report(); p.line != nil && p.admitted && (!reflect.DeepEqual(r, p.said) || w.tick-p.saidAt >= second/2) {
		p.said, p.saidAt = r, w.tick
		p.line.say(w, cluster.Reported{Report: r})
	}
}

// stopPatience is how long a worker that is to stop waits for a group in which all save
// together.
const stopPatience = 3 * second

// saveAlone saves what a worker holds, if anything, that is to stop and has no group.
func (p *worker) saveAlone(w *world) {
	if waits := p.wantStop && !p.saved && p.finished == 0 && (p.holds.Number == 0 || p.aborted || p.broken != ""); !waits {
		p.aloneAt = w.tick
	}
	switch {
	case w.tick-p.aloneAt < stopPatience:
	case !p.state.has:
		p.saved, p.leaveAt = true, w.tick
	case w.tick < p.host.full:
		w.die(p, "", 1)
	default:
		w.save(p)
		p.agent.saved = p.state.step
		p.saved, p.leaveAt = true, w.tick+2
	}
}

// farewell is how long a worker tells that the run is finished. If nobody hears it, its
// replacement says it again.
const farewell = 10 * second

func (p *worker) finish(w *world) {
	if w.tick-p.finished >= farewell {
		w.die(p, "", 1)
		return
	}
	if p.line == nil || !p.admitted || !p.line.speaks(w) || p.line.holder.paused(w) || w.tick-p.toldAt < second/2 {
		return
	}
	p.toldAt = w.tick
	l := p.line
	l.holder.put(request{
		event: cluster.Finished{Finish: cluster.Finish{Member: p.id, Generation: p.holds.Number, Step: p.state.step, Digest: "digest"}}, work: l,
		reply: func(a cluster.Action) {
			switch err := a.(cluster.Acknowledge).Err; {
			case p.dead || errors.Is(err, cluster.ErrFenced): // it says so again
			case err != nil:
				w.die(p, "", 1)
			default:
				l.say(w, cluster.WorkerLost{ID: p.id, Certified: true, Why: "it left"})
				w.die(p, "", 0)
			}
		},
	})
}

func (p *worker) register(w *world, o *holder) {
	l := newLine[cluster.Event, any](w, p.host.id, func() bool { return p.dead }, o)
	p.line = l
	o.put(request{
		event: cluster.WorkerJoined{Member: p.member(), Holds: p.holds, Committed: p.proven, Pledged: p.pledged, Report: p.report()}, work: l,
		reply: func(a cluster.Action) {
			if r, ok := a.(cluster.Refuse); ok {
				if errors.Is(r.Err, cluster.ErrSlotTaken) { // it tries again
					l.ended = true
					return
				}
				if l.tell(w, refused{}); o.end != nil {
					l.tell(w, cluster.Over{End: *o.end})
				}
				return
			}
			if old := o.workers[p.id]; old != nil {
				old.ended = true
				o.forget(p.id)
			}
			o.workers[p.id], o.order = l, append(o.order, p.id)
			l.tell(w, cluster.Admit{})
		},
	})
}

// hear takes in a directive.
func (p *worker) hear(w *world, m any) {
	switch m := m.(type) {
	case cluster.Admit:
		p.admitted = true
	case cluster.Form:
		if m.Generation.Number > p.holds.Number {
			p.holds, p.aborted, p.broken, p.blame, p.reset, p.missing = m.Generation, false, "", "", false, ""
		}
	case cluster.Probe:
		answer := cluster.Probed{ID: p.id, Number: m.Number}
		for _, addr := range m.Addrs {
			if q := w.worker(cluster.MemberID(addr)); q == nil || w.tick < q.stopped || !w.joined(p.host.id, q.host.id) {
				answer.Err = "no connection"
			}
		}
		p.line.say(w, answer)
	case cluster.Abort:
		if m.AfterStep {
			p.parting = m.Generation
			return
		}
		p.aborted = p.aborted || m.Generation == p.holds.Number
	case cluster.Stop:
		p.wantStop = true
	case refused, cluster.Over:
		w.die(p, "", 1)
	}
}

// group is a generation as its members hold it: two of one number are two groups.
type group struct {
	cluster.Generation
	members []cluster.MemberID
	age     int // ticks that it has been whole
	steps   int
	pledged bool // all gave their part of the word for the step that it is at
	lastly  int  // tick at which the checkpoint of a stop is durable; 0: none
	worked  bool // it was whole a tick ago
	left    bool // it was whole once
}

func (w *world) worker(id cluster.MemberID) *worker {
	for _, h := range w.hosts {
		for _, p := range h.workers {
			if p != nil && p.id == id {
				return p
			}
		}
	}
	return nil
}

func (p *worker) takesPart(g *group) bool {
	return p.holds.Number == g.Number && slices.EqualFunc(p.holds.Members, g.Members, func(a, b cluster.Member) bool { return a.ID == b.ID }) &&
		!p.aborted && p.broken == "" && p.finished == 0
}

// group finds or notes the group that a worker is in.
func (w *world) group(p *worker) *group {
	for _, g := range w.groups {
		if p.takesPart(g) {
			return g
		}
	}
	g := &group{Generation: p.holds}
	for _, m := range p.holds.Members {
		g.members = append(g.members, m.ID)
	}
	w.groups = append(w.groups, g)
	return g
}

// whole returns the members of a group if all are in it and can reach one another, and
// otherwise nil.
func (w *world) whole(g *group) []*worker {
	members := make([]*worker, 0, len(g.members))
	for _, id := range g.members {
		p := w.worker(id)
		if p == nil || w.tick < p.stopped || p.saved || !p.takesPart(g) && w.plant != noFence {
			return nil
		}
		for _, q := range members {
			if !w.joined(p.host.id, q.host.id) {
				return nil
			}
		}
		members = append(members, p)
	}
	return members
}

// train moves every group: it syncs, commits steps, saves, or breaks.
func (w *world) train() {
	tried := map[*group]bool{}
	for _, h := range w.hosts {
		for _, p := range h.workers {
			if p == nil || p.holds.Number == 0 || p.aborted || p.broken != "" || p.finished > 0 {
				continue
			}
			g := w.group(p)
			if tried[g] {
				continue
			}
			tried[g] = true
			if members := w.whole(g); members != nil {
				w.work(g, members)
				g.worked = true
				continue
			}
			if !g.worked && !g.left {
				w.wait(g)
				continue
			}
			if g.worked && g.age >= 2 && g.lastly == 0 {
				w.tear(g)
			}
			g.worked, g.left, g.age, g.lastly = false, true, 0, 0
			w.breakUp(g)
		}
	}
}

// work is a tick of a whole group.
func (w *world) work(g *group, members []*worker) {
	g.age++
	switch {
	case g.age < 2: // connecting
	case g.age == 2:
		w.sync(members)
		g.pledged = false
	case g.lastly > 0:
		if w.tick >= g.lastly || w.plant == earlyGoodbye {
			w.part(g, members)
		}
	case members[0].state.step >= w.steps:
		g.lastly = w.tick + 3
	case g.age%2 == 1: // the step is computed, and the words are on their way
		for _, p := range members {
			p.pledge(w, g)
		}
		g.pledged = true
	default:
		w.commit(g, members)
		if slices.ContainsFunc(members, func(p *worker) bool { return p.wantStop }) {
			g.lastly = w.tick + 3
		} else if g.steps%20 == 0 {
			w.save(members[0])
		}
		if !slices.ContainsFunc(members, func(p *worker) bool { return p.parting != g.Number }) && g.lastly == 0 && members[0].state.step < w.steps {
			for _, p := range members {
				p.aborted = true
			}
			g.worked = false
		}
	}
}

// sync brings all members to the state of the one that is furthest.
func (w *world) sync(members []*worker) {
	best := members[0]
	for _, p := range members[1:] {
		if p.state.has && (!best.state.has || p.state.step > best.state.step) {
			best = p
		}
	}
	if !best.state.has {
		if best = members[0]; best.host.disk.checkpoint.has {
			best.state = best.host.disk.checkpoint
		} else {
			best.state = state{has: true}
		}
	}
	for _, p := range members {
		if p.state.step != best.state.step {
			p.state, p.doubt = best.state, best.doubt
		}
	}
}

func (w *world) commit(g *group, members []*worker) {
	w.checkCommit(g, members)
	for _, p := range members {
		p.state.step++
		p.state.applied++
		p.state.commit, p.doubt, p.proven, p.pledged = g.Number, false, g.Generation, nil
	}
	g.steps++
	g.pledged = false
}

// pledge gives a worker's part of the commit word.
func (p *worker) pledge(w *world, g *group) {
	if p.proven.Same(g.Generation) || w.plant == forgetsWord || slices.ContainsFunc(p.pledged, g.Same) {
		return
	}
	p.pledged = append(slices.Clone(p.pledged), g.Generation)
}

// tear lets the members of a group that has just broken leave in the middle of the step
// that it was at: some gave their part of the word and others did not, or, if all have
// given it, some have heard all words and commit, and others have not.
func (w *world) tear(g *group) {
	for _, id := range g.members {
		p := w.worker(id)
		if p == nil || !p.takesPart(g) || p.state.step >= w.steps || w.rng.IntN(2) == 0 {
			continue
		}
		if !g.pledged {
			p.pledge(w, g)
			continue
		}
		p.state.step++
		p.state.applied++
		p.state.commit, p.doubt, p.proven, p.pledged = g.Number, true, g.Generation, nil
	}
	g.pledged = false
}

// wait lets the members of a group that was never whole say whom they miss, and leave it
// when one of them has.
func (w *world) wait(g *group) {
	for _, id := range g.members {
		p := w.worker(id)
		if p == nil || !p.takesPart(g) {
			continue
		}
		p.missing = ""
		for _, other := range g.members {
			q := w.worker(other)
			if other == id || q != nil && q.takesPart(g) && w.tick >= q.stopped && w.joined(p.host.id, q.host.id) {
				continue
			}
			if p.missing == "" {
				p.missing = other
			}
		}
	}
}

// breakUp lets the members leave a group that cannot work: at once if one of them is gone,
// or has left it, after a while if they cannot reach one another. A process that is
// stopped is waited for.
func (w *world) breakUp(g *group) {
	for _, id := range g.members {
		p := w.worker(id)
		if p == nil || !p.takesPart(g) {
			continue
		}
		for _, other := range g.members {
			q := w.worker(other)
			gone := q == nil || q.holds.Number > g.Number || q.holds.Number == g.Number && (q.aborted || q.broken != "")
			if gone || !w.joined(p.host.id, q.host.id) {
				p.broken, p.blame, p.reset = "connection reset", other, q == nil && w.hears(p.host, g.Members[g.Rank(other)].Node)
				if q != nil && w.joined(p.host.id, q.host.id) && q.broken != "" {
					p.blame, p.reset = q.blame, false
				}
				break
			}
		}
	}
}

// hears tells whether a node's kernel can tell another one that a process has ended.
func (w *world) hears(at *host, node string) bool {
	return slices.ContainsFunc(w.hosts, func(h *host) bool { return h.name() == node && w.joined(at.id, h.id) })
}

func (w *world) save(p *worker) {
	if old := p.host.disk.checkpoint; w.tick >= p.host.full && (!old.has || p.state.step > old.step) {
		p.host.disk.checkpoint = p.state
	}
}

// part ends a group that agreed to stop or has reached the last step, once its state is durable: on the node of rank 0,
// or where that has no room on the next one. Nobody leaves before.
func (w *world) part(g *group, members []*worker) {
	saved := w.plant == earlyGoodbye
	for _, p := range members {
		if !saved && w.tick >= p.host.full {
			p.host.disk.checkpoint, saved = p.state, true
		}
	}
	if !saved {
		g.lastly = w.tick + second
		return
	}
	for _, p := range members {
		p.agent.saved = p.state.step
		if p.state.step >= w.steps {
			p.finished = w.tick
		} else {
			p.saved, p.leaveAt = true, w.tick+2
		}
	}
}
