package flight

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Account is what the dumps together say of a generation.
type Account struct {
	Generation uint64
	World      int
	Ranks      []Place // by rank; those without a dump are not here
	Missing    []int   // ranks without a dump
	// Culprit is the rank that stopped first, -1: the dumps do not tell.
	Culprit int
	Why     string // in one sentence
}

// Place is where a rank was last in the generation.
type Place struct {
	Rank        int
	Worker      string
	PID         int
	Ended       string // how its process ended; empty: it lived on
	Step        int64
	Phase       string
	Chunk       int    // or bucket, of the phase
	Begun, Done uint32 // numbers of operations
	Op          string // the operation begun last
	Bucket      int
	OpSince     time.Time
	Last        time.Time // of its last record
	WaitsFor    int       // the rank that its operation waited for, -1: it said nothing
	Blames      int       // the rank at fault, in its own words, -1
	Left        string    // why it left the generation; empty: it did not
}

// in tells whether the rank was inside an operation.
func (p Place) in() bool { return p.Begun > p.Done }

// ErrNothing says that no dump tells of a generation.
var ErrNothing = errors.New("flight: the dumps hold no record of a generation")

// Explain puts the dumps together for a generation; 0 is the newest in which a process
// died, else in which an operation failed, else the newest of all.
func Explain(dumps []Dump, generation uint64) (Account, error) {
	a := Account{Generation: cmp.Or(generation, chooseGeneration(dumps)), Culprit: -1}
	if a.Generation == 0 {
		return a, ErrNothing
	}
	places := map[int]Place{}
	for _, d := range dumps { // by time: of a process, the newest dump that has the generation counts
		p, world, ok := placeOf(d, a.Generation)
		if !ok {
			continue
		}
		a.World = max(a.World, world, p.Rank+1)
		old, known := places[p.Rank]
		if known && old.PID == p.PID { // records may be written twice as a process ends
			p.Ended = cmp.Or(p.Ended, old.Ended)
			old.Ended = p.Ended
			places[p.Rank] = old
		}
		if !known || old.PID != p.PID || !p.Last.Before(old.Last) {
			places[p.Rank] = p
		}
	}
	if len(places) == 0 {
		return a, fmt.Errorf("%w %d", ErrNothing, a.Generation)
	}
	for rank := range a.World {
		if p, ok := places[rank]; ok {
			a.Ranks = append(a.Ranks, p)
		} else {
			a.Missing = append(a.Missing, rank)
		}
	}
	a.judge()
	return a, nil
}

// chooseGeneration is the newest one in which a process died, else in which an operation
// failed, else the newest.
func chooseGeneration(dumps []Dump) uint64 {
	var died, failed, newest uint64
	for _, d := range dumps {
		var last uint64
		for _, r := range d.Records {
			last = max(last, r.Generation)
			if r.Kind == Failed || r.Kind == Waits {
				failed = max(failed, r.Generation)
			}
		}
		newest = max(newest, last)
		if d.Ended != "" {
			died = max(died, last)
		}
	}
	return cmp.Or(died, failed, newest)
}

// placeOf reads a dump's records of a generation.
func placeOf(d Dump, generation uint64) (p Place, world int, ok bool) {
	p = Place{Worker: d.Seat(), PID: d.PID, Ended: d.Ended, WaitsFor: -1, Blames: -1}
	for _, r := range d.Records {
		if r.Generation != generation {
			continue
		}
		ok = true
		p.Rank, p.Last = r.Rank, r.Time
		if r.Step > p.Step {
			p.Step = r.Step
		}
		switch r.Kind {
		case Joined:
			world = r.Peer
		case Phase:
			p.Phase, p.Chunk = r.Name, r.Bucket
		case Begin:
			p.Begun, p.Op, p.Bucket, p.OpSince, p.WaitsFor = r.Number, r.Name, r.Bucket, r.Time, -1
		case End:
			p.Done = r.Number
		case Waits:
			p.WaitsFor = r.Peer
		case Failed:
			p.Blames = r.Peer
		case Left:
			p.Left = cmp.Or(r.Name, "left")
		case kindEnd:
		}
	}
	return p, world, ok
}

// judge names the rank that stopped first. Ranks go through the same operations in the
// same order, so whoever has begun the fewest holds the others up. Where all are in one
// operation, it is the one that the others waited for, or the one that never noticed the
// end of the generation.
func (a *Account) judge() {
	if len(a.Ranks) == 0 {
		return
	}
	votes := map[int]int{}
	for _, p := range a.Ranks {
		if p.in() && p.WaitsFor >= 0 {
			votes[p.WaitsFor]++
		}
	}
	if len(a.Missing) == 1 && votes[a.Missing[0]] > 0 {
		a.Culprit = a.Missing[0]
		a.Why = fmt.Sprintf("rank %d stopped first: %s waited for it, and no dump of its own was found", a.Culprit, a.listWaiting(a.Culprit))
		return
	}
	behind := slices.MinFunc(a.Ranks, func(x, y Place) int { return cmp.Compare(x.Begun, y.Begun) })
	ahead := slices.MaxFunc(a.Ranks, func(x, y Place) int { return cmp.Compare(x.Begun, y.Begun) })
	if behind.Begun < ahead.Begun {
		a.Culprit = behind.Rank
		a.Why = fmt.Sprintf("%s stopped first: %s. It never began %s, which %s began at %s",
			behind.name(), behind.where(), ahead.op(), a.listAt(ahead.Begun), clock(ahead.OpSince))
		return
	}
	for rank, n := range votes { // the most votes
		if a.Culprit < 0 || n > votes[a.Culprit] || n == votes[a.Culprit] && rank < a.Culprit {
			a.Culprit = rank
		}
	}
	if a.Culprit >= 0 {
		a.Why = fmt.Sprintf("rank %d stopped first: %s waited for it in %s", a.Culprit, a.listWaiting(a.Culprit), ahead.op())
		return
	}
	if silent := a.silent(); silent != nil {
		a.Culprit = silent.Rank
		a.Why = fmt.Sprintf("%s stopped first: %s; the others noticed the end of the generation and it did not", silent.name(), silent.where())
		return
	}
	a.Why = "no rank is behind the others: they left the generation together, or the dumps were made while it trained"
}

// silent is the one rank that did not leave the generation, though all others did.
func (a *Account) silent() *Place {
	var out *Place
	for i, p := range a.Ranks {
		if p.Left != "" {
			continue
		}
		if out != nil {
			return nil
		}
		out = &a.Ranks[i]
	}
	if len(a.Ranks) == 1 {
		return nil
	}
	return out
}

func (a *Account) listWaiting(culprit int) string {
	return a.list(func(p Place) bool { return p.in() && p.WaitsFor == culprit })
}

func (a *Account) listAt(op uint32) string {
	return a.list(func(p Place) bool { return p.Begun == op })
}

func (a *Account) list(match func(p Place) bool) string {
	var names []string
	for _, p := range a.Ranks {
		if match(p) {
			names = append(names, fmt.Sprintf("rank %d", p.Rank))
		}
	}
	return strings.Join(names, " and ")
}

func (p Place) name() string { return fmt.Sprintf("rank %d (%s, pid %d)", p.Rank, p.Worker, p.PID) }

// op is the operation begun last, for people.
func (p Place) op() string {
	if p.Op == "all_reduce" {
		return fmt.Sprintf("operation %d, all_reduce of bucket %d", p.Begun, p.Bucket)
	}
	return fmt.Sprintf("operation %d, %s", p.Begun, p.Op)
}

// where is where the rank was last, for people.
func (p Place) where() string {
	text := fmt.Sprintf("last in %s %d of step %d at %s", cmp.Or(p.Phase, "no phase"), p.Chunk, p.Step+1, clock(p.Last))
	if p.Ended != "" {
		text += ", " + p.Ended
	}
	return text
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }

// Text is the account for people.
func (a Account) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "generation %d, %d ranks\n%s\n\n%-5s %-20s %-8s %-6s %-14s %-36s %-10s %-13s %s\n",
		a.Generation, a.World, a.Why, "rank", "worker", "pid", "step", "phase", "operation", "waits for", "last record", "end")
	for _, p := range a.Ranks {
		op, waits := "none", ""
		if p.Begun > 0 {
			op = strings.TrimPrefix(p.op(), "operation ")
			if !p.in() {
				op += ", done"
			}
		}
		if p.in() && p.WaitsFor >= 0 {
			waits = fmt.Sprintf("rank %d", p.WaitsFor)
		}
		fmt.Fprintf(&b, "%-5d %-20s %-8d %-6d %-14s %-36s %-10s %-13s %s\n",
			p.Rank, p.Worker, p.PID, p.Step+1, fmt.Sprintf("%s %d", p.Phase, p.Chunk), op, waits, clock(p.Last), cmp.Or(p.Ended, p.Left))
	}
	for _, rank := range a.Missing {
		fmt.Fprintf(&b, "%-5d no dump: its node's RUN/debug is not here, or it died with its agent\n", rank)
	}
	return b.String()
}
