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
