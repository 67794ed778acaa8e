package trainer

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/cluster"
)

// next announces a generation that follows the last one after its step in flight, the
// last of whose ranks are spares.
func (w *world) next(spares int, ranks ...*rank) {
	w.mu.Lock()
	after := w.number
	w.number++
	g := cluster.Generation{Number: w.number, Reason: "test", After: after, Spares: spares}
	for _, r := range ranks {
		g.Members = append(g.Members, r.member)
	}
	w.live = ranks
	w.mu.Unlock()
	for _, r := range ranks {
		r.gens <- g
	}
}

// told returns the numbers of the steps that a rank committed.
func (r *rank) told() (steps []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.steps {
		steps = append(steps, s.Step)
	}
	return steps
}

func upTo(n int64) (steps []int64) {
	for s := int64(1); s <= n; s++ {
		steps = append(steps, s)
	}
	return steps
}

func (r *rank) hasState() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.report.HasState
}

// A newcomer learns the state while the others train, block by block, and then computes
// with them. The others do no step twice, and the bits are those of one worker.
func TestLearnsWhileOthersTrain(t *testing.T) {
	before, tries := transferBlock, lessonTries
	t.Cleanup(func() { transferBlock, lessonTries = before, tries })
	transferBlock, lessonTries = 1000, 1 // many ranges, over several steps, right at once
	for _, on := range []string{"host", "device"} {
		t.Run(on, func(t *testing.T) {
			cfg := smallConfig(24)
			cfg.DigestEvery = 0
			w, options := newWorld(t, cfg.Chunks()), []option(nil)
			if on == "device" {
				w, options = onOpaque(t, cfg.Chunks()), []option{device}
			}
			w.tcp = true
			a, b, c := w.add(cfg, options...), w.add(cfg, options...), w.add(cfg, options...)
			atStep(a, 3, func() { w.next(1, a, b, c) })
			taught := make(chan int64, 1)
			c.mu.Lock()
			c.onStep = func(s StepInfo) {
				if c.hasState() && len(taught) == 0 {
					taught <- s.Step
					go w.next(0, a, b, c)
				}
			}
			c.mu.Unlock()
			w.form(a, b)
			w.wait(a, b, c)
			for _, r := range []*rank{a, b, c} {
				require.NoError(t, r.err)
				require.Equal(t, runs(t, 1, cfg), Digest(r.trainer.State()))
			}
			require.Equal(t, upTo(cfg.Steps), a.told(), "no step was done twice")
			require.Equal(t, upTo(cfg.Steps), b.told())
			require.Less(t, <-taught, cfg.Steps, "it had the state before the end")
			require.Equal(t, 3, a.steps[len(a.steps)-1].WorldSize, "and computed with the others")
			require.Equal(t, 2, a.steps[0].WorldSize)
		})
	}
}

// The run ends, stops, saves or compares while somebody learns: what needs the state on
// all ranks waits for it.
func TestLessonIsEndedWhereTheStateIsNeeded(t *testing.T) {
	cfg := smallConfig(6)
	cfg.DigestEvery = 1
	want := runs(t, 1, cfg)
	w := newWorld(t, cfg.Chunks())
	a, b := w.add(cfg), w.add(cfg)
	atStep(a, 2, func() { w.next(1, a, b) })
	w.form(a)
	w.wait(a, b)
	require.NoError(t, a.err)
	require.NoError(t, b.err)
	require.Equal(t, want, a.digest)
	require.Equal(t, want, Digest(b.trainer.State()))

	store := &memory{}
	with := func(_ *Config, p *Parts) { p.Store = store }
	w = newWorld(t, cfg.Chunks())
	c, d := w.add(cfg, with), w.add(cfg, with)
	c.mu.Lock()
	c.onStep = func(s StepInfo) {
		if s.Step == 2 {
			c.trainer.RequestStop()
		}
	}
	c.mu.Unlock()
	g := cluster.Generation{Number: 1, Spares: 1, Members: []cluster.Member{c.member, d.member}}
	require.NoError(t, c.trainer.state.init(c.trainer.parts.Model, cfg.Seed))
	c.trainer.ready = true
	c.gens <- g
	d.gens <- g
	w.wait(c, d)
	require.Equal(t, []Outcome{Stopped, Stopped}, []Outcome{c.outcome, d.outcome})
	require.Equal(t, Digest(c.trainer.State()), Digest(d.trainer.State()))
}

// A spare holds the state of every step: it takes a lost worker's place, and nothing is
// copied and no step is lost.
func TestSpareTakesOver(t *testing.T) {
	cfg := smallConfig(8)
	want := runs(t, 1, cfg)
	for _, tcp := range []bool{false, true} {
		w := newWorld(t, cfg.Chunks())
		w.tcp = tcp
		a, b, s := w.add(cfg), w.add(cfg), w.add(cfg)
		atStep(b, 3, func() {
			a.kill()
			w.form(b, s)
		})
		w.next(1, a, b, s)
		w.wait(a, b, s)
		for _, r := range []*rank{b, s} {
			require.NoError(t, r.err)
			require.Equal(t, want, Digest(r.trainer.State()))
			require.Equal(t, 2, r.steps[0].WorldSize)
			require.Equal(t, 2, r.steps[len(r.steps)-1].WorldSize)
		}
		require.Equal(t, upTo(cfg.Steps), b.told())
		// The last words of the step at which a was killed may have reached b alone.
		require.Subset(t, upTo(cfg.Steps), s.told())
		require.GreaterOrEqual(t, len(s.told()), int(cfg.Steps)-1)
	}
}

// noisy damages one block that a rank receives.
type noisy struct {
	allreduce.Group
	once *atomic.Bool
}

func (n noisy) Broadcast(ctx context.Context, root int, buf []float32) error {
	err := n.Group.Broadcast(ctx, root, buf)
	if n.Rank() != root && n.once.CompareAndSwap(false, true) {
		buf[0]++
	}
	return err
}

type noisyConnector struct {
	Connector
	once *atomic.Bool
}

func (n noisyConnector) Connect(ctx context.Context, c allreduce.GroupConfig) (allreduce.Group, error) {
	g, err := n.Connector.Connect(ctx, c)
	return noisy{g, n.once}, err
}

func TestLessonIsRepeatedWhereItWentWrong(t *testing.T) {
	cfg := smallConfig(12)
	cfg.DigestEvery = 0
	var once atomic.Bool
	w := newWorld(t, cfg.Chunks())
	a := w.add(cfg)
	b := w.add(cfg, func(_ *Config, p *Parts) { p.Connector = noisyConnector{p.Connector, &once} })
	atStep(a, 2, func() { w.next(1, a, b) })
	w.form(a)
	w.wait(a, b)
	require.NoError(t, a.err)
	require.NoError(t, b.err)
	require.True(t, once.Load())
	require.Equal(t, runs(t, 1, cfg), Digest(b.trainer.State()))
}
