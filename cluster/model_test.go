package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// model is the world around a machine: seats with processes that live, die,
// fall silent and come back, and a data plane in which a generation commits a
// step only when all its members are in it. It keeps its own books and checks
// the machine against them.
type model struct {
	t            *testing.T
	rng          *rand.Rand
	cfg          Config
	m            *Machine
	now          time.Time
	seats        []*process
	racks        int // 0: nobody says where it is
	serial       int
	history      map[uint64]Generation
	newest       uint64
	told         Generation        // newest that committed, as the machine was told
	newestCommit uint64            // newest that committed, told or not
	dead         map[MemberID]bool // and certified, or replaced
	overs        int
	over         End
	waiting      bool
	restarts     int // of the coordinator
	requests     uint64
}

type process struct {
	node      string
	slot      int
	id        MemberID // empty: no process
	holds     Generation
	step      int64
	commit    uint64
	connected bool
	heard     bool // its words reach the coordinator
	aborted   bool
	killed    bool
	pending   []Action   // on their way down an open stream
	before    []MemberID // who had the seat and vanished
	restartAt time.Time  // when the supervisor may start one; zero: not allowed
}

func newModel(t *testing.T, seed uint64) *model {
	t.Helper()
	w := &model{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), now: epoch, cfg: DefaultConfig(),
		history: map[uint64]Generation{}, dead: map[MemberID]bool{},
	}
	w.cfg.MinWorkers = 1 + w.rng.IntN(3)
	w.cfg.MaxWorkers = w.cfg.MinWorkers + w.rng.IntN(4)
	w.cfg.MaxSpares = w.rng.IntN(3)
	w.cfg.MaxRestarts, w.cfg.MaxEarlyDeaths, w.cfg.WaitTimeout = -1, 1<<30, 0
	w.cfg.MaxBroken, w.cfg.StartTimeout = 1<<30, 1000*time.Hour
	for i := range w.cfg.MaxWorkers + w.cfg.MaxSpares + w.rng.IntN(2) {
		w.seats = append(w.seats, &process{node: fmt.Sprintf("n%d", i/2), slot: i % 2, restartAt: epoch, heard: true})
	}
	w.racks = w.rng.IntN(4)
	var err error
	w.m, err = New(w.cfg, epoch)
	require.NoError(t, err)
	return w
}

func (w *model) member(p *process) Member {
	topology := ""
	if w.racks > 0 {
		n := int(p.node[1] - '0')
		topology = fmt.Sprintf("z%d/r%d", n%2, n%w.racks)
	}
	return Member{ID: p.id, Node: p.node, Slot: p.slot, DataAddr: "addr", Topology: topology, RunID: "r", ConfigHash: "c", Build: "b"}
}

func (w *model) report(p *process) Report {
	phase := PhaseForward
	if p.aborted {
		phase = PhaseSync
	}
	return Report{Member: p.id, Generation: p.holds.Number, Step: p.step, CommitGeneration: p.commit, HasState: p.step >= 0, Left: p.aborted, Phase: phase}
}

func (w *model) find(id MemberID) *process {
	for _, p := range w.seats {
		if p.id == id {
			return p
		}
	}
	return nil
}

// step feeds the machine and checks what it does.
func (w *model) step(events ...Event) {
	before := w.m.Revision()
	asked := w.number(events)
	actions := w.m.Step(w.now, events...)
	w.checkAnswers(asked, actions)
	for _, a := range actions {
		switch a := a.(type) {
		case Tell:
			w.deliver(a.ID, a.Action)
		case Form:
			w.checkForm(a.Generation)
			require.Greater(w.t, w.m.Revision(), before, "a generation was formed without a change of the journal")
			for _, m := range a.Generation.Members {
				w.deliver(m.ID, a)
			}
		case Abort:
			for _, p := range w.seats {
				w.deliver(p.id, a)
			}
			w.waiting = true
		case Kill:
			if p := w.find(a.Member.ID); p != nil {
				p.killed = true
			}
		case Drop:
			if p := w.find(a.ID); p != nil {
				p.connected = false
			}
		case Judge:
			if p := w.seats[w.seatOf(a.Exit)]; p.id == "" && a.Verdict.Restart {
				p.restartAt = w.now.Add(a.Verdict.After)
			}
		case Refuse:
			if p := w.find(a.ID); p != nil {
				p.connected = false
				p.killed = !errors.Is(a.Err, ErrSlotTaken) // a refused worker exits, or tries again
			}
		case Over:
			w.overs++
			w.over = a.End
		}
	}
	require.LessOrEqual(w.t, w.overs, 1, "the run ended twice")
}

// number gives each event that wants an answer a request number of its own.
func (w *model) number(events []Event) (asked map[uint64]Event) {
	asked = map[uint64]Event{}
	for i, e := range events {
		w.requests++
		switch e := e.(type) {
		case WorkerJoined:
			e.Request = w.requests
			events[i] = e
		case WorkerExited:
			e.Request = w.requests
			events[i] = e
		case Finished:
			e.Request = w.requests
			events[i] = e
		default:
			continue
		}
		asked[w.requests] = events[i]
	}
	return asked
}

// checkAnswers checks that every request has exactly one answer, of its own kind.
func (w *model) checkAnswers(asked map[uint64]Event, actions []Action) {
	answer := func(request uint64, of Event) {
		require.IsType(w.t, of, asked[request], "request %d", request)
		delete(asked, request)
	}
	for _, a := range actions {
		switch a := a.(type) {
		case Admit:
			answer(a.Request, WorkerJoined{})
		case Refuse:
			answer(a.Request, WorkerJoined{})
		case Judge:
			answer(a.Request, WorkerExited{})
		case Acknowledge:
			answer(a.Request, Finished{})
		}
	}
	require.Empty(w.t, asked, "requests without an answer")
}

func (w *model) seatOf(e Exit) int {
	return slices.IndexFunc(w.seats, func(p *process) bool { return p.node == e.Node && p.slot == e.Slot })
}

func (w *model) deliver(id MemberID, a Action) {
	p := w.find(id)
	switch {
	case p == nil || !p.connected:
		return
	case !p.heard: // a stream loses nothing while it is open
		p.pending = append(p.pending, a)
		return
	}
	switch a := a.(type) {
	case Form:
		p.holds, p.aborted = a.Generation, false
	case Abort:
		if p.holds.Number == a.Generation {
			p.aborted = true
		}
	}
}

// checkForm holds a new generation against the model's own books.
func (w *model) checkForm(g Generation) {
	require.Greater(w.t, g.Number, w.newest, "generation numbers must strictly increase")
	require.NotEmpty(w.t, g.Members)
	require.NotEmpty(w.t, g.Reason)
	seats, ids := map[string]bool{}, map[MemberID]bool{}
	for _, m := range g.Members {
		require.False(w.t, ids[m.ID], "%s is twice in generation %d", m.ID, g.Number)
		require.False(w.t, seats[m.Seat()], "seat %s is twice in generation %d", m.Seat(), g.Number)
		require.False(w.t, w.dead[m.ID], "generation %d has %s, who is dead", g.Number, m.ID)
		ids[m.ID], seats[m.Seat()] = true, true
	}
	counted, have, lowest := 0, 0, false
	for _, m := range w.told.Members {
		if w.dead[m.ID] {
			continue
		}
		if ids[m.ID] {
			have++
			lowest = lowest || counted == 0
		}
		counted++
	}
	require.True(w.t, 2*have > counted || 2*have == counted && (lowest || counted == 0),
		"generation %d has %d of the %d that may live of generation %d, the last that committed", g.Number, have, counted, w.told.Number)
	w.checkOrder(g)
	require.LessOrEqual(w.t, g.World(), w.cfg.MaxWorkers)
	require.LessOrEqual(w.t, len(g.Members), w.cfg.MaxWorkers+w.cfg.MaxSpares)
	require.Positive(w.t, g.World())
	w.newest, w.history[g.Number], w.waiting = g.Number, g, false
}

// checkOrder checks the ranks of a new generation by those of the last.
func (w *model) checkOrder(g Generation) {
	last := w.history[w.newest]
	computed := func(m Member) bool { r := last.Rank(m.ID); return r >= 0 && r < last.World() }
	// Those that continue to compute keep their order; places are together, and who comes
	// later comes after those of its place.
	at, ended, before := -1, map[string]bool{}, Member{}
	for i, m := range g.Members[:g.World()] {
		if computed(m) {
			r := last.Rank(m.ID)
			require.Greater(w.t, r, at, "rank order of survivors in generation %d", g.Number)
			at = r
		}
		was, is := places(before), places(m)
		for level, place := range is {
			require.False(w.t, ended[place], "%s is in two parts of generation %d", place, g.Number)
			begins := i == 0 || was[level] != place
			require.False(w.t, begins && !computed(m) && slices.ContainsFunc(g.Members[i:g.World()], func(o Member) bool { return computed(o) && places(o)[level] == place }),
				"%s begins with a newcomer in generation %d", place, g.Number)
			if begins && i > 0 {
				ended[was[level]] = true
			}
		}
		before = m
	}
	// Spares keep theirs, and come before newcomers.
	at, fresh := -1, false
	for _, m := range g.Members[g.World():] {
		r := last.Rank(m.ID)
		require.False(w.t, r >= 0 && (fresh || r < at), "order of spares in generation %d", g.Number)
		at, fresh = r, r < 0
	}
}

// places are the zone, the rack and the node of a member.
func places(m Member) [3]string {
	if m.Topology == "" {
		return [3]string{m.Node, m.Node, m.Node}
	}
	zone, _, _ := strings.Cut(m.Topology, "/")
	return [3]string{zone, m.Topology, m.Node}
}

// say returns a report that is about to reach the machine. Only one of the
// newest generation tells it of a commit.
func (w *model) say(p *process) Report {
	if p.commit > w.told.Number && p.holds.Number == w.newest {
		w.told = w.history[p.commit]
	}
	return w.report(p)
}

// train commits a step in every generation all of whose members are in it: the
// newest, or one that knows of no newer. A worker that was told to die and one
// that is unheard train on as well. There must never be two such generations.
func (w *model) train() {
	tried := map[uint64]bool{}
	for _, q := range w.seats {
		g := q.holds
		if q.id == "" || g.Number == 0 || tried[g.Number] {
			continue
		}
		tried[g.Number] = true
		if step, ok := w.commits(g); ok {
			require.GreaterOrEqual(w.t, g.Number, w.newestCommit, "generation %d commits step %d after a newer one committed", g.Number, step)
			w.newestCommit = g.Number
		}
	}
}

func (w *model) commits(g Generation) (step int64, ok bool) {
	step = -1
	for _, m := range g.Members {
		p := w.find(m.ID)
		if p == nil || p.holds.Number != g.Number || p.aborted {
			return 0, false
		}
		step = max(step, p.step)
	}
	for _, m := range g.Members {
		p := w.find(m.ID)
		p.step, p.commit = step+1, g.Number
	}
	return step + 1, true
}

func (w *model) reportAll() {
	events := []Event{Tick{}}
	for _, p := range w.seats {
		if p.heard {
			events = append(events, AgentHeard{p.node})
		}
		if p.id != "" && p.connected && p.heard {
			events = append(events, Reported{w.say(p)})
		}
	}
	w.step(events...)
}

// calm lets everybody live and be heard, and time pass, for a minute at most:
// the longest restart delay and then some.
func (w *model) calm() Status {
	for _, p := range w.seats {
		w.hear(p, true)
		w.step(AgentJoined{Node: p.node, Slots: 2})
	}
	for range 600 {
		w.now = w.now.Add(100 * time.Millisecond)
		for _, p := range w.seats {
			w.supervise(p)
			w.connect(p)
		}
		w.train()
		w.reportAll()
		if s := w.m.Status(w.now); w.settled(s) {
			return s
		}
	}
	return w.m.Status(w.now)
}

// settled tells whether all workers that fit are in a generation that commits.
func (w *model) settled(s Status) bool {
	return s.State == StateRunning && len(s.Generation.Members) == min(len(w.seats), w.cfg.MaxWorkers+w.cfg.MaxSpares) && s.Generation.Number == s.CommitGeneration
}

func TestRandomHistories(t *testing.T) {
	histories, length := 100, 300
	if testing.Short() {
		histories = 20
	}
	for seed := range uint64(histories) {
		w := newModel(t, seed)
		for range length {
			w.now = w.now.Add(time.Duration(w.rng.IntN(400)) * time.Millisecond)
			w.act()
			w.reportAll()
		}
		s := w.calm()
		require.Zero(t, w.overs, "seed %d: %s", seed, w.over.Reason)
		require.True(t, w.settled(s), "seed %d: %s, generation %d of %d workers, committed %d: %s",
			seed, s.State, s.Generation.Number, len(s.Generation.Members), s.CommitGeneration, s.Detail)
	}
}
