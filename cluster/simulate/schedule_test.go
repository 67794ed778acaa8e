package simulate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// kind is what goes wrong.
type kind uint8

const (
	killWorker kind = iota // SIGKILL of one worker
	killAgent              // SIGKILL of an agent; its workers follow within two seconds
	powerCut               // a node loses everything but its disk
	blackout               // all nodes do
	cutLink                // two nodes cannot reach one another
	isolate                // a node reaches nobody
	split                  // the nodes fall in two groups
	hangWorker             // SIGSTOP of one worker
	pauseAgent             // SIGSTOP of one agent, and of the coordinator that it holds
	diskFull               // a node writes no journal and no checkpoint
	stopRun                // SIGINT to one agent
	drainNode              // SIGTERM to one agent: it leaves an elastic run, and comes back
	oneWay                 // a node is not heard by another one, which it hears
	deadLink               // as cutLink, for so long that the run must do without one of the two
	resetNode              // all connections of a node are closed at once, and nobody dies
	kinds
)

var kindNames = [...]string{
	"kill worker", "kill agent", "power cut", "blackout", "cut link", "isolate", "split", "hang worker",
	"pause agent", "disk full", "stop run", "drain node", "one way", "dead link", "reset node",
}

// fault is one thing that goes wrong in a schedule.
type fault struct {
	at   int // tick
	kind kind
	node int
	also int // slot, other node, or the nodes of one group as bits
	last int // ticks that it lasts, or until what died is started again
	// aim: it begins in the first step of a generation from that tick on, when all words of
	// the step have been given and it is not committed; 0: it begins at the tick at.
	aim int
}

// never is when an aimed fault begins that has found no aim yet.
const never = 1 << 30

func (f fault) String() string {
	if f.aim > 0 {
		return fmt.Sprintf("in the first step of a generation after %.1fs %s: node %d, %d, for %.1fs", float64(f.aim)/second, kindNames[f.kind], f.node, f.also, float64(f.last)/second)
	}
	return fmt.Sprintf("%5.1fs %s: node %d, %d, for %.1fs", float64(f.at)/second, kindNames[f.kind], f.node, f.also, float64(f.last)/second)
}

// schedule is a world and what goes wrong in it.
type schedule struct {
	seed   uint64
	nodes  int
	slots  int
	least  int // workers that a generation from nothing needs
	spares int // of the workers
	delay  int // of a message, ticks
	steps  int64
	// elastic: SIGTERM takes a node out of the run.
	elastic bool
	floor   int // nodes below which an elastic run pauses
	faults  []fault
}

func (s schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d nodes of %d workers, at least %d, %d spares, messages take %.1fs, %d steps, elastic %t, pauses below %d nodes\n",
		s.seed, s.nodes, s.slots, s.least, s.spares, float64(s.delay)/second, s.steps, s.elastic, s.floor)
	for _, f := range s.faults {
		fmt.Fprintln(&b, f)
	}
	return b.String()
}

// trouble is how long things go wrong, and calm how long the world then has to train
// again with everybody.
const (
	trouble = 40 * second
	calm    = 90 * second
	// dead is how long after that a dead link may stay so.
	dead = 60 * second
)

// draw makes the schedule of a seed.
func draw(seed uint64) schedule {
	r := rand.New(rand.NewPCG(seed, 0x5eed))
	s := schedule{seed: seed, nodes: 1 + r.IntN(5), slots: 1 + r.IntN(2), delay: r.IntN(3), steps: 1 << 40}
	s.least = 1 + r.IntN(s.nodes*s.slots)
	s.elastic = r.IntN(2) == 0
	if r.IntN(4) == 0 { // the run finishes in the middle of it all
		s.steps = 20 + r.Int64N(180)
	}
	// In one of four, what goes wrong does so while the run begins; in another one, within
	// a few seconds of it.
	from, within := 2*second, trouble-2*second
	switch r.IntN(4) {
	case 0:
		from, within = 1, 6*second
	case 1:
		from, within = 2*second+r.IntN(trouble-10*second), 8*second
	}
	for range 1 + r.IntN(8) {
		at := from + r.IntN(within)
		f := fault{
			at: at, kind: kind(r.IntN(int(kinds))), node: r.IntN(s.nodes),
			last: second/2 + r.IntN(1<<r.IntN(8)*second/4),
		}
		switch f.kind {
		case killWorker, hangWorker:
			f.also = r.IntN(s.slots)
		case cutLink, oneWay:
			f.also = r.IntN(s.nodes)
		case deadLink:
			f.also, f.last = r.IntN(s.nodes), f.last+r.IntN(trouble+dead)
		case split:
			f.also = r.IntN(1 << s.nodes)
		case stopRun:
			if r.IntN(4) > 0 {
				f.kind = killWorker
			}
		default:
		}
		s.faults = append(s.faults, f)
	}
	// Faults leave new generations behind them. Some strike in the first step of one.
	for range r.IntN(4) {
		after := s.faults[r.IntN(len(s.faults))]
		f := fault{
			at: never, aim: after.at + r.IntN(4*second), kind: split, node: after.node, also: r.IntN(1 << s.nodes),
			last: 5*second + r.IntN(10*second),
		}
		switch r.IntN(4) {
		case 0:
			f.kind = isolate
		case 1:
			f.kind, f.node, f.also, f.last = killAgent, r.IntN(s.nodes), 0, second/2
		}
		if after.at != never {
			s.faults = append(s.faults, f)
		}
	}
	slices.SortStableFunc(s.faults, func(a, b fault) int { return a.at - b.at })
	s.spares = r.IntN(min(s.nodes*s.slots-s.least, 2) + 1)
	if s.elastic {
		s.floor = r.IntN(s.nodes + 1)
	}
	return s
}

// until is the tick at which a fault ends.
func (f fault) until() int {
	if f.kind == deadLink {
		return min(f.at+f.last, trouble+dead)
	}
	return min(f.at+f.last, trouble)
}

// healed is the tick at which the last fault of a schedule ends.
func (s schedule) healed() int {
	end := trouble
	for _, f := range s.faults {
		end = max(end, f.until())
	}
	return end
}

// shrink leaves out what does not matter for the failure of a schedule: faults, then
// their length.
func shrink(s schedule, fails func(schedule) bool) schedule {
	for again := true; again; {
		again = false
		for i := range s.faults {
			smaller := s
			smaller.faults = slices.Delete(slices.Clone(s.faults), i, i+1)
			if fails(smaller) {
				s, again = smaller, true
				break
			}
		}
	}
	for i := range s.faults {
		for s.faults[i].last > second {
			smaller := s
			smaller.faults = slices.Clone(s.faults)
			smaller.faults[i].last /= 2
			if !fails(smaller) {
				break
			}
			s = smaller
		}
	}
	return s
}
