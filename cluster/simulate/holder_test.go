package simulate

import (
	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/cluster/node"
)

type (
	workLine  = line[cluster.Event, any]
	agentLine = line[cluster.Event, any]
)

// refused ends a worker's session for good.
type refused struct{}

// holder is a coordinator: the shell around the machine, as package coordinator is.
type holder struct {
	host    *host
	machine *cluster.Machine
	term    uint64
	gone    int // tick at which its process died; 0: it lives
	stopped bool
	err     error // why

	workers map[cluster.MemberID]*workLine
	order   []cluster.MemberID // of workers: a map has none
	agents  []*agentLine       // by node
	inbox   []request
	kills   []cluster.Kill
	asked   map[uint64]func(cluster.Action)
	numbers uint64
	written uint64
	end     *cluster.End
	lastly  int
}

type request struct {
	event cluster.Event
	work  *workLine
	agent *agentLine
	reply func(cluster.Action)
}

func rules(w *world) cluster.Config {
	c := cluster.DefaultConfig()
	c.RunID, c.ConfigHash, c.Build = "run", "hash", "build"
	c.MinWorkers, c.MaxWorkers, c.MaxSpares = w.least, w.nodes*w.slots-w.spares, w.spares
	c.MinNodes = w.floor
	c.FormationTimeout, c.WaitTimeout, c.MaxRestarts, c.MaxEarlyDeaths = 2e9, 0, -1, 1<<30
	c.RestartBackoffMax = c.RestartBackoff
	c.MaxBroken = 1 << 30
	c.AllowMinority = w.plant == noMajority
	return c
}

// hold starts a coordinator as node.Hold asks: from its journal or from what the node
// has seen, whichever is newer.
func (w *world) hold(h *host, a node.Hold) *holder {
	j := cluster.Newest(h.disk.journal, a.Seen)
	if w.plant == noFloor {
		j = cluster.NewJournal()
	}
	c := rules(w)
	c.MayBegin = a.Begin
	m, err := cluster.Restore(c, j, w.now())
	if err != nil {
		panic(err)
	}
	for _, name := range a.Silent {
		m.Step(w.now(), cluster.NodeSilent{Node: name})
	}
	return &holder{
		host: h, machine: m, term: a.Term, workers: map[cluster.MemberID]*workLine{}, agents: make([]*agentLine, w.nodes),
		asked: map[uint64]func(cluster.Action){},
	}
}

// paused tells whether the process is stopped.
func (o *holder) paused(w *world) bool {
	return o.gone == 0 && o.host.agent != nil && w.tick < o.host.agent.stopped
}

func (o *holder) put(r request) { o.inbox = append(o.inbox, r) }

func (o *holder) ask(f func(cluster.Action)) uint64 {
	o.numbers++
	o.asked[o.numbers] = f
	return o.numbers
}

// run takes in what has arrived and carries out what the machine says.
func (o *holder) run(w *world) {
	o.listen(w)
	inbox := o.inbox
	o.inbox = nil
	events := make([]cluster.Event, 0, len(inbox)+1)
	for _, r := range inbox {
		if join, ok := r.event.(cluster.WorkerJoined); ok { // what follows over its stream counts once it is admitted
			join.Request = o.ask(r.reply)
			o.step(w, append(events, join))
			events = events[:0]
		} else if e := o.accept(r); e != nil {
			events = append(events, e)
		}
	}
	o.step(w, append(events, cluster.Tick{}))
	if o.end != nil && w.tick >= o.lastly {
		o.stopped = true
	}
}

func (o *holder) accept(r request) cluster.Event {
	switch e := r.event.(type) {
	case cluster.Reported:
		if o.workers[e.Report.Member] != r.work {
			return nil
		}
	case cluster.Probed:
		if o.workers[e.ID] != r.work {
			return nil
		}
	case cluster.StreamBroken:
		if o.workers[e.ID] != r.work {
			return nil
		}
		o.forget(e.ID)
	case cluster.WorkerLost:
		if o.workers[e.ID] != r.work {
			return nil
		}
		o.forget(e.ID)
	case cluster.WorkerExited:
		e.Request = o.ask(r.reply)
		return e
	case cluster.Finished:
		e.Request = o.ask(r.reply)
		return e
	case cluster.AgentHeard, cluster.AgentLost, cluster.AgentDraining:
		if r.agent.ended {
			return nil
		}
	}
	return r.event
}

func (o *holder) forget(id cluster.MemberID) {
	delete(o.workers, id)
	for i, known := range o.order {
		if known == id {
			o.order = append(o.order[:i:i], o.order[i+1:]...)
			return
		}
	}
}

// listen moves the streams and takes what has arrived over them.
func (o *holder) listen(w *world) {
	for _, id := range append([]cluster.MemberID(nil), o.order...) {
		l := o.workers[id]
		for _, e := range arrived(w, l.speaks(w), &l.up) {
			o.put(request{event: e, work: l})
		}
		if !l.works(w) {
			o.put(request{event: cluster.StreamBroken{ID: id, Closed: l.closed}, work: l})
		}
	}
	for i, l := range o.agents {
		if l == nil {
			continue
		}
		for _, e := range arrived(w, l.speaks(w), &l.up) {
			o.put(request{event: e, agent: l})
		}
		if !l.works(w) {
			o.agents[i] = nil
			o.inbox = append(o.inbox, request{event: cluster.AgentLost{Node: w.hosts[i].name()}, agent: &agentLine{}})
		}
	}
}

func (o *holder) step(w *world, events []cluster.Event) {
	actions := o.machine.Step(w.now(), events...)
	if r := o.machine.Revision(); r != o.written && w.tick >= o.host.full {
		j := o.machine.Journal()
		o.host.disk.journal, o.written = j, r
	}
	if o.written != o.machine.Revision() && cluster.Begins(actions, o.machine.Journal()) {
		o.stopped, o.err = true, errFull
		return
	}
	for _, a := range actions {
		o.carryOut(w, a)
	}
}

func (o *holder) answer(number uint64, a cluster.Action) {
	f := o.asked[number]
	delete(o.asked, number)
	f(a)
}

func (o *holder) carryOut(w *world, a cluster.Action) {
	w.say("%s, term %d: %T %+v", o.host.name(), o.term, a, a)
	switch a := a.(type) {
	case cluster.Admit:
		o.answer(a.Request, a)
	case cluster.Refuse:
		o.answer(a.Request, a)
	case cluster.Acknowledge:
		o.answer(a.Request, a)
	case cluster.Drained:
		for i, l := range o.agents {
			if l != nil && w.hosts[i].name() == a.Node {
				l.tell(w, a)
			}
		}
	case cluster.Judge:
		o.answer(a.Request, a)
	case cluster.Tell:
		if l := o.workers[a.ID]; l != nil {
			l.tell(w, a.Action)
		}
	case cluster.Form:
		w.checkForm(o, a.Generation)
		for _, m := range a.Generation.Members {
			if l := o.workers[m.ID]; l != nil {
				l.tell(w, a)
			}
		}
		for _, l := range o.agents {
			if l != nil {
				l.tell(w, a)
			}
		}
	case cluster.Probe:
		if l := o.workers[a.ID]; l != nil {
			l.tell(w, a)
		}
	case cluster.Abort, cluster.Stop:
		for _, id := range o.order {
			o.workers[id].tell(w, a)
		}
		if _, ok := a.(cluster.Stop); ok {
			for _, l := range o.agents {
				if l != nil {
					l.tell(w, a)
				}
			}
		}
	case cluster.Kill:
		o.kills = append(o.kills, a)
		for i, l := range o.agents {
			if l != nil && w.hosts[i].name() == a.Member.Node {
				l.tell(w, a)
			}
		}
		if l := o.workers[a.Member.ID]; l != nil {
			l.tell(w, refused{})
			o.forget(a.Member.ID)
		}
	case cluster.Drop:
		if l := o.workers[a.ID]; l != nil {
			l.ended = true
			o.forget(a.ID)
		}
	case cluster.Over:
		o.end, o.lastly = &a.End, w.tick+5*second
		for _, id := range o.order {
			o.workers[id].tell(w, a)
		}
		for _, l := range o.agents {
			if l != nil {
				l.tell(w, a)
			}
		}
	}
}
