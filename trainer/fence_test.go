package trainer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/cluster"
)

// Two coordinators give the number 1 to two groups, and ranks of both are connected
// with each other: no step is made. In a generation that all agree on they train.
func TestOneNumberTwoGroups(t *testing.T) {
	cfg := smallConfig(4)
	w := newWorld(t, cfg.Chunks())
	a, b := w.add(cfg), w.add(cfg)
	stranger := cluster.Member{ID: "stranger", Node: "node", Slot: 9}
	w.number = 1
	a.gens <- cluster.Generation{Number: 1, Members: []cluster.Member{a.member, b.member}}
	b.gens <- cluster.Generation{Number: 1, Members: []cluster.Member{stranger, b.member}}
	for _, r := range []*rank{a, b} {
		var broken string
		require.Eventually(t, func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			require.Empty(t, r.steps)
			broken = r.report.Broken
			return broken != ""
		}, time.Minute, time.Millisecond)
		require.Contains(t, broken, "two coordinators")
	}
	w.form(a, b)
	w.wait(a, b)
	require.NoError(t, a.err)
	require.Equal(t, runs(t, 1, cfg), a.digest)
}
