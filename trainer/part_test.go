package trainer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/cluster"
)

func (r *rank) last() cluster.Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.report
}

// A generation that is to end after its step in flight is left by all its ranks together,
// once all of them know, and no step is lost or made twice.
func TestLeavesAfterTheStepInFlight(t *testing.T) {
	cfg := smallConfig(24)
	w := newWorld(t, cfg.Chunks())
	w.tcp = true
	a, b, c := w.add(cfg), w.add(cfg), w.add(cfg)
	hears := func(r *rank, step int64) {
		r.onStep = func(s StepInfo) {
			if s.Step != step || s.Generation > 1 {
				return
			}
			r.aborts <- cluster.Abort{Generation: 1, AfterStep: true}
			for !r.trainer.gens.due() {
				time.Sleep(time.Millisecond)
			}
		}
	}
	hears(a, 3)
	hears(b, 4)
	hears(c, 7) // all continue until the last of them knows
	w.form(a, b, c)
	require.Eventually(t, func() bool { return a.last().Left && b.last().Left && c.last().Left }, 60*time.Second, time.Millisecond)
	require.Equal(t, []int64{8, 8, 8}, []int64{a.last().Step, b.last().Step, c.last().Step})
	require.Equal(t, uint64(1), a.last().CommitGeneration)
	require.Empty(t, a.last().Broken)

	c.kill()
	w.form(a, b)
	w.wait(a, b)
	require.NoError(t, a.err)
	require.Equal(t, upTo(cfg.Steps), a.told())
	require.Equal(t, upTo(8), c.told())
	require.Equal(t, runs(t, 1, cfg), a.digest)
}
