package simulate

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/cluster/node"
)

// second in ticks: the world moves a tenth of one at a time.
const second = 10

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// plant is a fault in the code under test: the checks must find it.
type plant uint8

const (
	sound        plant = iota
	noMajority         // a generation may form without a majority
	noFence            // a worker commits whatever generation the others are in
	noFloor            // who takes over forgets the generations that were, and nobody tells
	noFounder          // whoever takes over may begin the run
	forgetful          // a node does not tell a coordinator which generations it has seen
	forgetsWord        // a worker does not say in which generations it gave its part of a commit word
	guesses            // a node takes the newest generation for one that has committed
	asksInVain         // a worker that left with the others is not started again, though the run continues
	earlyGoodbye       // a stop is answered before the checkpoint is durable
)

// world is everything around the machines.
type world struct {
	schedule
	plant  plant
	rng    *rand.Rand
	tick   int
	hosts  []*host
	open   [][]bool // link from one node to another
	serial int

	groups  []*group
	newest  commit // the last step that a whole generation committed
	broken  string // the first rule that was broken
	trace   io.Writer
	asked   bool // somebody asked the run to stop
	drained bool // a node was asked to leave, which stops the run if too few would be left
	over    bool // a node has heard that the run has ended
	quiet   int  // tick since when all nodes reach a coordinator, and enough of them live
	enough  int  // last tick at which enough nodes lived, or nobody could know better
}

// host is a node: its disk survives its processes.
type host struct {
	id      int
	agent   *agent // nil: none runs
	workers []*worker
	startAt int // when the next agent starts; 0: not
	disk    disk
	full    int    // no writes until this tick
	pointed string // the file that tells workers where the coordinator is
	boots   int
}

func (h *host) name() string { return fmt.Sprintf("n%d", h.id) }

// disk is what a node finds again after a power cut.
type disk struct {
	journal    cluster.Journal
	checkpoint state // the newest that is durable
	term       uint64
}

// state is what a worker trains: how far it is, and how many steps made it.
type state struct {
	has     bool
	step    int64
	applied int64
	commit  uint64 // generation that committed step
}

func newWorld(s schedule, p plant) *world {
	w := &world{schedule: s, plant: p, rng: rand.New(rand.NewPCG(s.seed, 0x0dd))}
	w.faults = slices.Clone(s.faults) // those that are aimed find their time
	for i := range s.nodes {
		w.hosts = append(w.hosts, &host{id: i, workers: make([]*worker, s.slots), startAt: 1 + i*w.rng.IntN(second), disk: disk{journal: cluster.NewJournal()}})
		w.open = append(w.open, slices.Repeat([]bool{true}, s.nodes))
	}
	return w
}

func (w *world) now() time.Time { return epoch.Add(time.Duration(w.tick) * time.Second / second) }

func (w *world) fail(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf("%.1fs: ", float64(w.tick)/second) + fmt.Sprintf(format, args...)
	}
}

// say notes what happens, where somebody wants to read it.
func (w *world) say(format string, args ...any) {
	if w.trace != nil {
		fmt.Fprintf(w.trace, "%6.1fs "+format+"\n", append([]any{float64(w.tick) / second}, args...)...)
	}
}

// joined tells whether two nodes can speak: a connection needs both ways.
func (w *world) joined(a, b int) bool { return a == b || w.open[a][b] && w.open[b][a] }

// run plays the schedule and returns which rule was broken, or nothing.
func (w *world) run() string {
	healed := w.healed()
	for w.tick = 1; w.tick < healed+calm && w.broken == ""; w.tick++ {
		w.suffer()
		for _, h := range w.hosts {
			w.runHost(h)
		}
		w.train()
		// In a run that has ended, who was cut off waits for the others until
		// node.Config.OrphanTimeout.
		if w.tick > trouble && (w.over || w.settled()) {
			return ""
		}
		// Where all nodes reach the coordinator, some train, whichever links between them
		// are dead.
		switch few := w.living() < w.floor; {
		case w.tick < trouble || !w.central() || few:
			w.quiet = w.tick
			if few && w.central() && !w.asked && !w.drained {
				break
			}
			w.enough = w.tick
		default:
			w.enough = w.tick
		}
		if w.tick-max(w.quiet, w.newest.at) > dead/2 {
			w.fail("no step for %d s though all nodes reach the coordinator: %s", dead/2/second, w.standing())
		}
	}
	if w.broken == "" {
		w.fail("no progress with everybody within %d s of the last fault: %s", calm/second, w.standing())
	}
	return w.broken
}

// central tells whether there is a coordinator that all nodes reach.
func (w *world) central() bool {
	return slices.ContainsFunc(w.hosts, func(h *host) bool {
		return h.agent != nil && h.agent.holder != nil && !h.agent.holder.paused(w) && !slices.ContainsFunc(w.hosts, func(o *host) bool { return !w.joined(h.id, o.id) })
	})
}

// living counts the nodes that run.
func (w *world) living() (n int) {
	for _, h := range w.hosts {
		if h.agent != nil || slices.ContainsFunc(h.workers, func(p *worker) bool { return p != nil }) {
			n++
		}
	}
	return n
}

// suffer lets the faults that are due begin, and end.
func (w *world) suffer() {
	given := slices.ContainsFunc(w.groups, func(g *group) bool { return g.worked && g.pledged && g.steps == 0 && len(g.members) > 1 })
	for i := range w.faults {
		f := &w.faults[i]
		if given && f.aim > 0 && f.at == never && w.tick >= f.aim {
			f.at = w.tick
		}
		if f.at == w.tick {
			w.begin(*f)
		}
	}
	for a := range w.open {
		for b := range w.open {
			w.open[a][b] = true
		}
	}
	for _, f := range w.faults {
		if f.at > w.tick || f.until() <= w.tick {
			continue
		}
		for a := range w.open {
			for b := range w.open {
				if f.cuts(a, b) {
					w.open[a][b] = false
					w.open[b][a] = w.open[b][a] && f.kind == oneWay
				}
			}
		}
	}
}

// cuts tells whether a fault lies between two nodes.
func (f fault) cuts(a, b int) bool {
	if a == b {
		return false
	}
	switch f.kind {
	case cutLink, oneWay, deadLink:
		return a == f.node && b == f.also
	case isolate:
		return a == f.node
	case split:
		return f.also>>a&1 != f.also>>b&1
	default:
		return false
	}
}

func (w *world) begin(f fault) {
	h := w.hosts[f.node]
	until := f.until()
	switch f.kind {
	case killWorker:
		if p := h.workers[f.also]; p != nil {
			w.die(p, "SIGKILL", 0)
		}
	case hangWorker:
		if p := h.workers[f.also]; p != nil {
			p.stopped = max(p.stopped, until)
		}
	case killAgent:
		w.killAgent(h, until)
		for _, p := range h.workers {
			if p != nil {
				p.orphan = w.tick + 1 + w.rng.IntN(2*second)
			}
		}
	case powerCut:
		w.cutPower(h, until)
	case blackout:
		for _, h := range w.hosts {
			w.cutPower(h, until)
		}
	case pauseAgent:
		if h.agent != nil {
			h.agent.stopped = max(h.agent.stopped, until)
		}
	case resetNode:
		w.reset(h)
	case diskFull:
		h.full = max(h.full, until)
	case stopRun:
		if h.agent != nil && !w.asked { // a second signal kills
			w.asked = true
			h.agent.step(w, node.Signalled{Signal: "SIGINT"})
		}
	case drainNode:
		if h.agent != nil && !w.asked && w.elastic && !h.agent.draining {
			w.drained = true
			h.agent.step(w, node.Signalled{Signal: "SIGTERM"})
		}
	case cutLink, isolate, split, oneWay, deadLink, kinds:
	}
}

// reset closes a node's connections to all others, as a firewall does that has lost its
// memory. The processes live.
func (w *world) reset(h *host) {
	for _, o := range w.hosts {
		ends := func(client int, at *holder) bool { return client != at.host.id && (client == h.id || at.host == h) }
		if a := o.agent; a != nil && a.line != nil && ends(o.id, a.line.holder) {
			a.line.ended, a.line.closed = true, true
		}
		for _, p := range o.workers {
			if p != nil && p.line != nil && ends(o.id, p.line.holder) {
				p.line.ended, p.line.closed = true, true
			}
		}
	}
	for _, g := range w.groups {
		there := slices.ContainsFunc(g.Members, func(m cluster.Member) bool { return m.Node == h.name() })
		elsewhere := slices.ContainsFunc(g.Members, func(m cluster.Member) bool { return m.Node != h.name() })
		if !there || !elsewhere || !g.worked {
			continue
		}
		if g.age >= 2 && g.lastly == 0 {
			w.tear(g)
		}
		for i, m := range g.Members {
			p := w.worker(m.ID)
			if p == nil || !p.takesPart(g) {
				continue
			}
			for _, o := range g.Members[i:] { // whom it blames: somebody at the other end
				if (o.Node == h.name()) != (m.Node == h.name()) {
					p.blame = o.ID
				}
			}
			if p.blame == "" {
				for _, o := range g.Members {
					if (o.Node == h.name()) != (m.Node == h.name()) {
						p.blame = o.ID
						break
					}
				}
			}
			p.broken, p.reset = "connection reset", true
		}
		g.worked, g.left, g.age, g.lastly = false, true, 0, 0
	}
}

func (w *world) killAgent(h *host, until int) {
	if a := h.agent; a != nil {
		h.agent = nil
		h.startAt = max(until, w.tick+2*second+1)
		if a.holder != nil {
			a.holder.gone = w.tick
		}
		a.gone = true
	}
}

func (w *world) cutPower(h *host, until int) {
	w.killAgent(h, until)
	for slot, p := range h.workers {
		if p != nil {
			p.dead = true
			h.workers[slot] = nil
		}
	}
}

// runHost moves a node a tick on.
func (w *world) runHost(h *host) {
	for _, p := range h.workers {
		if p != nil && p.orphan == w.tick && (h.agent == nil || p.agent != h.agent) {
			p.dead = true
			h.workers[p.slot] = nil
		}
	}
	// A new agent takes the lock that the old one and its workers held.
	if h.agent == nil && h.startAt > 0 && w.tick >= h.startAt && !slices.ContainsFunc(h.workers, func(p *worker) bool { return p != nil }) {
		w.boot(h)
	}
	if a := h.agent; a != nil && w.tick >= a.stopped {
		a.run(w)
	}
	for _, p := range h.workers {
		if p != nil && w.tick >= p.stopped {
			p.run(w)
		}
	}
}

// settled tells whether every slot has a worker, and all of them commit together.
func (w *world) settled() bool {
	for _, g := range w.groups {
		if g.steps >= 3 && len(g.members) == w.nodes*w.slots && w.whole(g) != nil {
			return true
		}
	}
	return false
}

// standing describes the world for a person.
func (w *world) standing() string {
	text := ""
	for _, h := range w.hosts {
		text += "\n  " + h.name()
		if a := h.agent; a == nil {
			text += " no agent"
		} else {
			if a.holder != nil {
				s := a.holder.machine.Status(w.now())
				text += fmt.Sprintf(" holds term %d: %s, generation %d of %d, %s", a.holder.term, s.State, s.Generation.Number, len(s.Generation.Members), s.Detail)
			}
			text += fmt.Sprintf(" points to %q, session %t", a.pointed, a.line != nil)
		}
		for _, p := range h.workers {
			if p == nil {
				text += "; no worker"
			} else {
				text += fmt.Sprintf("; %s in %d (aborted %t) at step %d, session %t", p.id, p.holds.Number, p.aborted, p.state.step, p.line != nil)
			}
		}
	}
	return text
}
