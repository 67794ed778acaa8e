package trainer

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/cluster"
)

// wordless loses a rank's first commit word on its way.
type wordless struct {
	Connector
	given func() // a commit word is about to be sent
	lost  atomic.Bool
}

func (w *wordless) Connect(ctx context.Context, c allreduce.GroupConfig) (allreduce.Group, error) {
	g, err := w.Connector.Connect(ctx, c)
	return wordlessGroup{g, w}, err
}

type wordlessGroup struct {
	allreduce.Group
	of *wordless
}

func (g wordlessGroup) AllGather(ctx context.Context, b []byte) ([][]byte, error) {
	if _, word := chunksOf(b); word && len(b) != standingLen && len(b) > wordHeader {
		g.of.given()
		if g.of.lost.CompareAndSwap(false, true) {
			return nil, &allreduce.Error{Op: allreduce.OpAllGather, Peer: allreduce.NoPeer, Err: errors.New("the cable is cut")}
		}
	}
	return g.Group.AllGather(ctx, b)
}

// A worker says that it gave its part of a commit word before anybody can have received it,
// and until it commits a step itself: a coordinator must not take a generation for one that
// never committed while one of its words is on its way.
func TestWordsThatWereGivenAreReported(t *testing.T) {
	cfg := smallConfig(4)
	w := newWorld(t, cfg.Chunks())
	var a *rank
	reported := func() cluster.Report {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.report
	}
	var given [][]uint64
	words := &wordless{given: func() {
		a.trainer.progress.mu.Lock()
		defer a.trainer.progress.mu.Unlock()
		given = append(given, a.trainer.progress.report.Pledged)
	}}
	a = w.add(cfg, func(_ *Config, p *Parts) { words.Connector, p.Connector = p.Connector, words })
	b := w.add(cfg)
	w.form(a, b)
	require.Eventually(t, func() bool { return reported().Broken != "" }, time.Minute, time.Millisecond)
	require.True(t, reported().Left)
	require.Equal(t, []uint64{1}, reported().Pledged)
	require.Zero(t, reported().CommitGeneration)

	w.form(a, b)
	w.wait(a, b)
	require.NoError(t, errors.Join(a.err, b.err))
	require.Equal(t, runs(t, 1, cfg), a.digest)
	require.Equal(t, [][]uint64{{1}, {1, 2}}, given[:2])
	for _, g := range given[2:] {
		require.Empty(t, g, "a committed step leaves no doubt")
	}
	require.Empty(t, reported().Pledged)
}
