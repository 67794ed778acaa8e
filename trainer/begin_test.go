package trainer

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/checkpoint"
)

// ruined is a store all of whose checkpoints are damaged.
type ruined struct{ memory }

func (*ruined) Restore(context.Context, *State) (bool, error) {
	return false, &checkpoint.NoneValidError{}
}

// Two nodes, each with its own checkpoints, begin a run.
func TestCheckpointsOfTwoNodes(t *testing.T) {
	saved := func(steps int64, seed uint64) *memory {
		m := &memory{}
		cfg := smallConfig(steps)
		cfg.Seed, cfg.CheckpointEvery = seed, 1
		runs(t, 1, cfg, func(_ *Config, p *Parts) { p.Store = m })
		return m
	}
	cfg := smallConfig(6)
	begin := func(t *testing.T, stores [2]Store, fresh bool) (ranks [2]*rank) {
		t.Helper()
		w := newWorld(t, cfg.Chunks())
		for i, s := range stores {
			ranks[i] = w.add(cfg, func(_ *Config, p *Parts) { p.Store, p.Fresh = s, fresh && i == 0 })
			ranks[i].member.Node = []string{"n1", "n2"}[i]
		}
		w.form(ranks[:]...)
		w.wait(ranks[:]...)
		return ranks
	}
	want := runs(t, 1, cfg)
	for name, c := range map[string]struct {
		stores [2]Store
		fresh  bool
		first  int64 // step that is computed first
	}{
		"rank 0 is behind":             {[2]Store{saved(2, cfg.Seed), saved(4, cfg.Seed)}, false, 4},
		"rank 0 is ahead":              {[2]Store{saved(4, cfg.Seed), saved(2, cfg.Seed)}, false, 4},
		"rank 0 has none":              {[2]Store{&memory{}, saved(4, cfg.Seed)}, false, 4},
		"rank 0 has only damaged ones": {[2]Store{&ruined{}, saved(4, cfg.Seed)}, false, 4},
		"both have the same":           {[2]Store{saved(4, cfg.Seed), saved(4, cfg.Seed)}, false, 4},
		"from scratch":                 {[2]Store{&memory{}, &memory{}}, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			ranks := begin(t, c.stores, c.fresh)
			for _, r := range ranks {
				require.NoError(t, r.err)
				require.Len(t, r.steps, int(cfg.Steps-c.first))
			}
			require.Equal(t, want, ranks[0].digest)
		})
	}
	t.Run("two histories", func(t *testing.T) {
		for _, r := range begin(t, [2]Store{saved(4, cfg.Seed), saved(4, cfg.Seed+1)}, false) {
			require.ErrorIs(t, r.err, ErrHistories)
			require.ErrorContains(t, r.err, "nodes n1 and n2 have different checkpoints of step 4")
			require.Empty(t, r.steps)
		}
	})
	t.Run("two histories, of different steps", func(t *testing.T) {
		// The newest remembers what it was at step 2; the older one is something else.
		for i, stores := range [][2]Store{{saved(2, cfg.Seed+1), saved(4, cfg.Seed)}, {saved(4, cfg.Seed), saved(2, cfg.Seed+1)}} {
			for _, r := range begin(t, stores, false) {
				require.ErrorIs(t, r.err, ErrHistories)
				at, other := []string{"n2", "n1"}[i], []string{"n1", "n2"}[i]
				require.ErrorContains(t, r.err, "node "+at+"'s checkpoint of step 4 does not continue node "+other+"'s of step 2")
				require.Empty(t, r.steps)
			}
		}
	})
	t.Run("an old run on the other node", func(t *testing.T) {
		for _, r := range begin(t, [2]Store{&memory{}, saved(4, cfg.Seed)}, true) {
			require.ErrorIs(t, r.err, ErrHistories)
			require.ErrorContains(t, r.err, "node n1 was given --resume never, and node n2 has a checkpoint of step 4")
		}
	})
}
