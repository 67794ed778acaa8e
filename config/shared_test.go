package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestConflictsAndAdopt(t *testing.T) {
	mine, err := Load(Source{
		Set:     []string{"train.steps=400", "train.threads=3", "optimizer.eps=1e-6", "out=here", "data.dir=/mine", "seed=7"},
		Environ: []string{"AGRDIST_LR_BASE=0.5"},
	})
	require.NoError(t, err)
	run, err := Load(Source{
		Set:     []string{"train.steps=450", "seed=7", "train.threads=1", "data.dir=/theirs", "sample.every=3"},
		Environ: noEnv,
	})
	require.NoError(t, err)

	conflicts := mine.Conflicts(run)
	require.Equal(t, "train.steps is 400 on node b and 450 on node a; optimizer.eps is 1e-06 on node b and the default on node a; "+
		"lr.base is 0.5 on node b and 0.004 on node a", Describe(conflicts, "on node b", "on node a"),
		"what a node decides, what agrees and what was not given (sample.every) are no conflicts")

	require.NotEqual(t, run.SharedHash(), mine.SharedHash())
	adopted := mine.Adopt(run)
	require.Equal(t, run.SharedHash(), adopted.SharedHash())
	require.Empty(t, Diff(adopted, run))
	require.EqualValues(t, 450, adopted.Train.Steps)
	require.EqualValues(t, 3, adopted.Sample.Every)
	require.Equal(t, 3, adopted.Train.Threads)
	require.Equal(t, "here", adopted.Out)
	require.Equal(t, "/mine", adopted.Data.Dir)
	require.EqualValues(t, 400, mine.Train.Steps, "the node's own is not changed")
	require.Len(t, mine.Conflicts(run), 3)
	require.Empty(t, mine.Conflicts(mine.Adopt(mine)))
}

// A setting that changes what a run computes, or when its ranks meet, is not a node's to
// decide.
func TestNodesOwnKeys(t *testing.T) {
	own := map[string]bool{}
	for _, k := range Keys() {
		require.False(t, k.Node && k.Bits, "%s: the model depends on it", k.Name)
		own[k.Name] = k.Node
	}
	for _, must := range []string{
		"train.steps", "train.digest_every", "train.max_skipped", "allreduce.order", "allreduce.bucket_mb", "allreduce.timeout",
		"checkpoint.every", "sample.every", "sample.count", "log.every", "seed", "lr.base", "data.fingerprint",
	} {
		own, known := own[must]
		require.True(t, known && !own, must)
	}
}
