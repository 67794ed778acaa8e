package simulate

import (
	"flag"
	"testing"
)

var (
	schedules = flag.Int("schedules", 100, "schedules to run")
	told      = flag.Bool("told", false, "say what happens in the shrunk schedule")
	first     = flag.Uint64("seed", 1, "seed of the first one")
)

// TestSchedules runs random schedules. A failure names the seed and shows the faults that
// matter; `go test ./cluster/simulate -run Schedules -seed N -schedules 1` repeats it.
func TestSchedules(t *testing.T) {
	n := *schedules
	if testing.Short() {
		n = min(n, 50)
	}
	for seed := *first; seed < *first+uint64(n); seed++ {
		s := draw(seed)
		if broken := newWorld(s, sound).run(); broken != "" {
			small := shrink(s, func(s schedule) bool { return newWorld(s, sound).run() != "" })
			again := newWorld(small, sound)
			if *told {
				again.trace = t.Output()
			}
			t.Fatalf("%s\n%s\nshrunk: %s\n%s", broken, s, again.run(), small)
		}
	}
}

// A schedule is a function of its seed.
func TestSeedsRepeat(t *testing.T) {
	for seed := range uint64(20) {
		a, b := newWorld(draw(seed), sound), newWorld(draw(seed), sound)
		if ra, rb := a.run(), b.run(); ra != rb || a.tick != b.tick || a.standing() != b.standing() {
			t.Fatalf("seed %d gave two worlds:\n%s%s\n%s%s", seed, ra, a.standing(), rb, b.standing())
		}
	}
}

// The checks find faults that are planted in the code, within a thousand schedules.
func TestPlantedFaults(t *testing.T) {
	for p, name := range map[plant]string{
		noMajority: "commit without majority", noFence: "skip the fence", noFloor: "take over without the floor",
		noFounder:    "begin without the founder",
		forgetsWord:  "forget a word that was given",
		guesses:      "guess what has committed",
		earlyGoodbye: "say saved before it is",
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(1000) {
				if broken := newWorld(draw(seed), p).run(); broken != "" {
					t.Logf("seed %d: %s", seed, broken)
					return
				}
			}
			t.Fatal("not found in 1000 schedules")
		})
	}
}

// Schedules that once broke a rule, shrunk. Each must break it again when its fault is
// planted, and must not without.
func TestFoundSchedules(t *testing.T) {
	for name, f := range map[string]struct {
		schedule
		plant plant
	}{
		// n1 and n2 train in a generation that n0 has not heard of. n2's worker dies, and
		// is no member any more that could tell of it.
		"what the dead knew": {schedule{
			seed: 1, nodes: 3, slots: 1, least: 2, steps: 93, elastic: true, faults: []fault{
				{at: 119, kind: split, node: 1, also: 6, last: 94},
				{at: 208, kind: killAgent, node: 2, last: 5},
				{at: 213, kind: oneWay, node: 0, also: 1, last: 27},
			},
		}, forgetful},
		// The nodes part in the first step of generation 4, of all four: some have heard all
		// words for it and others have not. Each side has a majority of one of the last two.
		"a word that was given": {schedule{
			nodes: 2, slots: 2, least: 3, steps: 1 << 40, faults: []fault{
				{at: 289, kind: killAgent, node: 0, last: 9},
				{at: 332, kind: killWorker, node: 1, last: 7},
				{at: 346, kind: split, node: 1, also: 2, last: 62},
			},
		}, forgetsWord},
		// n0 leaves and comes back, and hears of a generation of n1 and n3 that never commits:
		// n3 trains on with n2, on the other side. n0 and n1 are no majority.
		"what is not known to have committed": {schedule{
			seed: 730850, nodes: 4, slots: 1, least: 1, steps: 1 << 40, elastic: true, faults: []fault{
				{at: 56, kind: drainNode, node: 0, last: 8},
				{at: 89, kind: resetNode, node: 3, last: 8},
				{at: 90, kind: split, node: 1, also: 12, last: 156},
				{at: 124, kind: isolate, node: 0, last: 58},
			},
		}, guesses},
		// n4's workers save and leave for a stop that is lost with its coordinator.
		"a stop that was lost": {schedule{
			seed: 7106478, nodes: 5, slots: 2, least: 2, steps: 1 << 40, elastic: true, floor: 4, faults: []fault{
				{at: 83, kind: drainNode, node: 4, last: 5},
				{at: 259, kind: drainNode, node: 0, last: 5},
				{at: never, aim: 95, kind: split, node: 4, also: 14, last: 106},
				{at: never, aim: 200, kind: isolate, node: 2, last: 93},
			},
		}, asksInVain},
	} {
		t.Run(name, func(t *testing.T) {
			if broken := newWorld(f.schedule, sound).run(); broken != "" {
				t.Fatal(broken)
			}
			if newWorld(f.schedule, f.plant).run() == "" {
				t.Fatal("the schedule does not find its fault any more")
			}
		})
	}
}
