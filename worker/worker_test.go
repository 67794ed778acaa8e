package worker

import (
	"bytes"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/internal/leaktest"
	"github.com/agrdist/agrdist/recipe"
	"github.com/agrdist/agrdist/setup"
	"github.com/agrdist/agrdist/trainer"
	"github.com/agrdist/agrdist/worker/spec"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// What the log warns of becomes a notice, in words; the rest does not.
func TestNotices(t *testing.T) {
	var out, log bytes.Buffer
	l := slog.New(&noticeHandler{Handler: slog.NewTextHandler(&log, nil), records: &recordWriter{&out}})
	l = l.With("part", "checkpoint", "rank", 1)
	l.Info("checkpoint", "step", 5)
	require.Empty(t, out.String())
	l.Warn("step skipped", "in_a_row", 2, "err", errors.New("caf\xe9"))
	r, err := spec.ParseRecord(out.Bytes())
	require.NoError(t, err)
	require.Equal(t, &spec.Notice{Level: "WARN", Text: `step skipped, rank 1, in a row 2: caf\xe9`}, r.Notice)
	require.Equal(t, 2, bytes.Count(log.Bytes(), []byte("\n")), "the log has both")
}

// state is a run of the default recipe before its first step.
func state(t *testing.T, c *config.Config) (*trainer.State, *store) {
	t.Helper()
	dev, err := setup.Open(setup.DeviceConfig{Device: "cpu", Threads: 1})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, dev.Close()) })
	model, err := setup.Model(dev.Backend, c)
	require.NoError(t, err)
	model.Init(c.Seed)
	pass, err := dev.Pass(c, model.Params())
	require.NoError(t, err)
	s, err := trainer.NewState(dev.Backend, model.Params(), pass, c.Train.EMADecay > 0)
	require.NoError(t, err)
	require.NoError(t, s.Pull())
	kept, err := newStore(c, c.Out, model.Config(), slog.New(slog.DiscardHandler), nil)
	require.NoError(t, err)
	kept.meta = recipe.Meta(c, "cpu/go")
	t.Cleanup(func() { require.NoError(t, kept.Close()) })
	return s, kept
}

func recipeIn(t *testing.T) *config.Config {
	t.Helper()
	c := config.Default()
	c.Out = filepath.Join(t.TempDir(), "run")
	c.Model.BlockOutChannels, c.Model.NormNumGroups = []int{8, 16}, 4
	return &c
}

// Workers of one node that are left without a group save the same state at once.
func TestSaveNowTogether(t *testing.T) {
	c := recipeIn(t)
	var all sync.WaitGroup
	paths, errs := make([]string, 4), make([]error, 4)
	for i := range paths {
		s, kept := state(t, c)
		all.Go(func() { paths[i], errs[i] = kept.SaveNow(t.Context(), s, 0) })
	}
	all.Wait()
	for i, path := range paths {
		require.NoError(t, errs[i])
		require.Equal(t, filepath.Join(c.Out, "checkpoints", "step-0"), path)
	}
	info, err := checkpoint.Verify(t.Context(), paths[0])
	require.NoError(t, err)
	require.Equal(t, "cpu/go", info.Meta[recipe.MetaRounding])
	left, err := filepath.Glob(filepath.Join(c.Out, "checkpoints", ".*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// A worker takes over what it can continue with the same bits, and nothing else.
func TestRestore(t *testing.T) {
	c := recipeIn(t)
	s, kept := state(t, c)
	found, err := kept.Restore(t.Context(), s)
	require.NoError(t, err)
	require.False(t, found, "there is nothing yet")
	s.Step, s.Updates = 3, 3
	_, err = kept.SaveNow(t.Context(), s, 0)
	require.NoError(t, err)

	other, again := state(t, c)
	found, err = again.Restore(t.Context(), other)
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, int64(3), other.Step)
	require.Equal(t, trainer.Digest(s), trainer.Digest(other))

	again.meta = recipe.Meta(c, "cpu/avx2")
	_, err = again.Restore(t.Context(), other)
	var bits *recipe.OtherBitsError
	require.ErrorAs(t, err, &bits)
	again.otherBits = true
	_, err = again.Restore(t.Context(), other)
	require.NoError(t, err)

	changed := *c
	changed.Seed++
	_, third := state(t, &changed)
	_, err = third.Restore(t.Context(), other)
	var differ *recipe.ContradictionError
	require.ErrorAs(t, err, &differ)

	fresh := recipeIn(t)
	fresh.Checkpoint.Resume = "/no/such/run"
	_, fourth := state(t, fresh)
	found, err = fourth.Restore(t.Context(), other)
	require.NoError(t, err)
	require.False(t, found, "the directory that is named is not the run's own")
	_, err = fourth.RestoreSource(t.Context(), other)
	require.ErrorContains(t, err, "checkpoint.resume: /no/such/run: no such directory")
}
