package trainer

import (
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/diffusion"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/tensor"
)

// The one idea: any number of workers, more than there are chunks too, the same
// bits.
func TestAnyWorldSizeGivesTheSameBits(t *testing.T) {
	cfg := smallConfig(4)
	want := runs(t, 1, cfg)
	for _, size := range []int{2, 3, 4, 5} {
		require.Equal(t, want, runs(t, size, cfg), "world size %d", size)
	}
	other := cfg
	other.Seed++
	require.NotEqual(t, want, runs(t, 1, other), "the digest sees the seed")
}

func TestBucketSizeChangesNothing(t *testing.T) {
	cfg := smallConfig(2)
	want := runs(t, 2, cfg)
	for _, size := range []int{4, 1 << 10, 1 << 30} {
		cfg.BucketBytes = size
		require.Equal(t, want, runs(t, 2, cfg), "buckets of %d bytes", size)
	}
}

func TestOverTCP(t *testing.T) {
	cfg := smallConfig(3)
	w := newWorld(t, cfg.Chunks())
	w.tcp = true
	a, b, c := w.add(cfg), w.add(cfg), w.add(cfg)
	w.form(a, b, c)
	w.wait(a, b, c)
	for _, r := range []*rank{a, b, c} {
		require.NoError(t, r.err)
	}
	require.Equal(t, runs(t, 1, cfg), a.digest)
}

// atStep runs f once, on its own goroutine, when the rank has committed a step.
func atStep(r *rank, step int64, f func()) {
	var once sync.Once
	r.mu.Lock()
	defer r.mu.Unlock()
	r.onStep = func(s StepInfo) {
		if s.Step >= step {
			once.Do(func() { go f() })
		}
	}
}

// A worker dies in the middle; the survivors continue in a new generation, and a
// newcomer takes its state from them. Nobody can tell afterwards.
func TestKilledEqualsUnhurt(t *testing.T) {
	cfg := smallConfig(8)
	want := runs(t, 1, cfg)
	for _, tcp := range []bool{false, true} {
		w := newWorld(t, cfg.Chunks())
		w.tcp = tcp
		a, b, c := w.add(cfg), w.add(cfg), w.add(cfg)
		killed := make(chan struct{})
		atStep(a, 3, func() {
			a.kill()
			w.form(b, c)
			close(killed)
		})
		w.form(a, b, c)
		<-killed
		d := w.add(cfg)
		w.form(b, c, d)
		w.wait(b, c, d)
		for _, r := range []*rank{b, c, d} {
			require.NoError(t, r.err)
			require.Equal(t, want, Digest(r.trainer.State()))
		}
		require.Equal(t, want, b.digest, "the lowest survivor became rank 0")
		require.Error(t, a.err)
	}
}

// Two thirds of the ranks are behind by a step when the generation breaks: they
// catch up by copying.
func TestRankAheadIsTheSource(t *testing.T) {
	cfg := smallConfig(5)
	store := &memory{}
	first := newWorld(t, cfg.Chunks())
	short := cfg
	short.Steps = 3
	a := first.add(short, func(_ *Config, p *Parts) { p.Store = store })
	first.form(a)
	first.wait(a)
	require.NoError(t, a.err)

	// Rank 1 restores step 3 (as if it had survived), rank 0 has nothing: the
	// state must come from rank 1.
	w := newWorld(t, cfg.Chunks())
	b, c := w.add(cfg), w.add(cfg)
	require.NoError(t, c.trainer.state.Restore(store.saved[len(store.saved)-1]))
	c.trainer.ready = true
	w.form(b, c)
	w.wait(b, c)
	require.NoError(t, b.err)
	require.Equal(t, runs(t, 1, cfg), b.digest)
}

func TestResumeEqualsUninterrupted(t *testing.T) {
	cfg := smallConfig(6)
	want := runs(t, 2, cfg)
	store := &memory{}
	with := func(_ *Config, p *Parts) { p.Store = store }

	w := newWorld(t, cfg.Chunks())
	a, b := w.add(cfg, with), w.add(cfg)
	atStep(b, 2, b.trainer.RequestStop) // not the rank that saves
	w.form(a, b)
	w.wait(a, b)
	require.Equal(t, []Outcome{Stopped, Stopped}, []Outcome{a.outcome, b.outcome})
	require.Len(t, store.saved, 1)
	at := store.saved[0].Step
	require.Less(t, at, cfg.Steps)
	require.Equal(t, at, a.trainer.State().Step)
	require.Equal(t, at, b.trainer.State().Step, "all stop after the same step")

	again := newWorld(t, cfg.Chunks())
	c, d, e := again.add(cfg, with), again.add(cfg), again.add(cfg)
	again.form(c, d, e)
	again.wait(c, d, e)
	require.NoError(t, c.err)
	require.Equal(t, want, c.digest)
	require.Equal(t, at+1, c.steps[0].Step, "no step is done twice")
}

// A step that is not finite on one rank is skipped by all, and named.
func TestNotFiniteIsSkippedByAll(t *testing.T) {
	cfg := smallConfig(5)
	bad := func(_ *Config, p *Parts) {
		p.Loader = poison{p.Loader, func(draw int64) bool { return draw == 2*8+5 }} // step 2, chunk 2
	}
	want := runs(t, 1, cfg, bad)
	w := newWorld(t, cfg.Chunks())
	a, b, c := w.add(cfg, bad), w.add(cfg, bad), w.add(cfg, bad)
	w.form(a, b, c)
	w.wait(a, b, c)
	for _, r := range []*rank{a, b, c} {
		require.NoError(t, r.err)
		require.Len(t, r.skips, 1)
		require.Equal(t, int64(3), r.skips[0].Step)
		require.Equal(t, []int{2}, r.skips[0].Chunks)
		require.Equal(t, []int64{2*8 + 4}, r.skips[0].Draws)
		require.Equal(t, int64(4), r.trainer.State().Updates)
	}
	require.Equal(t, want, a.digest)
	for _, v := range a.trainer.State().Values {
		require.False(t, math.IsNaN(float64(v)))
	}
}

// spoiler is a model whose backward gives NaN from a step on, though its loss is right.
type spoiler struct {
	Model
	steps func() int64
	from  int64
}

func (s spoiler) LossAndGrad(b unet.Batch, ready func(int)) (float64, error) {
	if ready == nil {
		loss, err := s.Model.LossAndGrad(b, nil)
		s.spoil()
		return loss, err
	}
	return s.Model.LossAndGrad(b, func(i int) {
		s.spoil() // before it is given away
		ready(i)
	})
}

func (s spoiler) spoil() {
	if s.steps() >= s.from {
		s.Params().Grads().(tensor.Host).Float32s()[0] = float32(math.NaN())
	}
}

// One rank's backward gives NaN, though its loss is right: no rank takes the step, and from
// the next one on the chunk is named.
func TestNotFiniteGradientIsNamed(t *testing.T) {
	cfg := smallConfig(9)
	w := newWorld(t, cfg.Chunks())
	var done atomic.Int64
	a, b := w.add(cfg), w.add(cfg, func(_ *Config, p *Parts) { p.Model = spoiler{p.Model, done.Load, 3} })
	b.onStep = func(s StepInfo) { done.Store(s.Step) }
	w.form(a, b)
	w.wait(a, b)
	for _, r := range []*rank{a, b} {
		require.ErrorIs(t, r.err, ErrDiverged)
		require.Len(t, r.skips, cfg.MaxSkipped+1)
		require.Empty(t, r.skips[0].Chunks, "all losses were right")
		for _, s := range r.skips[1:] {
			require.Equal(t, []int{2, 3}, s.Chunks, "the chunks of rank 1")
		}
		for _, v := range r.trainer.State().Values {
			require.False(t, math.IsNaN(float64(v)), "the parameters are those of before")
		}
	}
}

// The parameters of one rank become NaN: that is not taken for divergence, whose cure is
// another learning rate, and nothing is saved.
func TestNotFiniteRankIsNamed(t *testing.T) {
	cfg := smallConfig(9)
	cfg.DigestEvery = 0
	w := newWorld(t, cfg.Chunks())
	store := &memory{}
	a, b, c := w.add(cfg, func(_ *Config, p *Parts) { p.Store = store }), w.add(cfg), w.add(cfg)
	a.onStep = func(s StepInfo) {
		if s.Step == 2 {
			a.trainer.state.Values[100] = float32(math.NaN())
		}
	}
	w.form(a, b, c)
	w.wait(a, b, c)
	for _, r := range []*rank{a, b, c} {
		require.ErrorIs(t, r.err, ErrDigest)
		require.ErrorContains(t, r.err, "the state of rank 0 (node) differs from that of 2 of 3 ranks; that machine")
	}
	require.Empty(t, store.saved)
}

func TestDivergenceEndsTheRun(t *testing.T) {
	cfg := smallConfig(9)
	w := newWorld(t, cfg.Chunks())
	bad := func(_ *Config, p *Parts) {
		p.Loader = poison{p.Loader, func(draw int64) bool { return draw >= 3*8 }}
	}
	a, b := w.add(cfg, bad), w.add(cfg, bad)
	w.form(a, b)
	w.wait(a, b)
	for _, r := range []*rank{a, b} {
		require.ErrorIs(t, r.err, ErrDiverged)
		require.ErrorContains(t, r.err, "before step 3")
		require.Len(t, r.skips, cfg.MaxSkipped+1)
	}
}

// A rank whose memory went wrong is found and named.
func TestDigestNamesTheRank(t *testing.T) {
	cfg := smallConfig(8)
	w := newWorld(t, cfg.Chunks())
	a, b := w.add(cfg), w.add(cfg)
	var once sync.Once
	b.onStep = func(StepInfo) { once.Do(func() { b.trainer.state.Values[100] += 1e-3 }) }
	w.form(a, b)
	w.wait(a, b)
	for _, r := range []*rank{a, b} {
		require.ErrorIs(t, r.err, ErrDigest)
		require.ErrorContains(t, r.err, "rank 1")
	}
}

// Nothing is saved on which the ranks do not agree, be it a moment that no comparison of
// parameters has seen yet.
func TestNothingWrongIsSaved(t *testing.T) {
	cfg := smallConfig(8)
	cfg.DigestEvery, cfg.CheckpointEvery = 0, 2
	w := newWorld(t, cfg.Chunks())
	store := &memory{}
	with := func(_ *Config, p *Parts) { p.Store = store }
	a, b := w.add(cfg, with), w.add(cfg)
	a.onStep = func(s StepInfo) {
		if s.Step == 4 {
			state := a.trainer.state
			state.Flats()[len(state.Flats())-1][100] += 1e-3
		}
	}
	w.form(a, b)
	w.wait(a, b)
	for _, r := range []*rank{a, b} {
		require.ErrorIs(t, r.err, ErrDigest)
		require.ErrorContains(t, r.err, "after step 4")
	}
	require.Len(t, store.saved, 1)
	require.EqualValues(t, 2, store.saved[0].Step, "the newest checkpoint is the last one that all agreed on")
}

func TestStepsReportTheSameLossOnAnyWorld(t *testing.T) {
	cfg := smallConfig(3)
	losses := func(size int) (out []float64) {
		w := newWorld(t, cfg.Chunks())
		var ranks []*rank
		for range size {
			ranks = append(ranks, w.add(cfg))
		}
		w.form(ranks...)
		w.wait(ranks...)
		for _, s := range ranks[size-1].steps {
			out = append(out, s.Loss, s.GradNorm, s.LR)
		}
		return out
	}
	require.Equal(t, losses(1), losses(3))
}

// What is measured beside a step is the same on any world, and changes nothing.
func TestMeasuringChangesNothing(t *testing.T) {
	cfg := smallConfig(4)
	want := runs(t, 1, cfg)
	cfg.Measure = func(step int64) bool { return step%2 == 0 }
	measured := func(size int) (out []Measured) {
		w := newWorld(t, cfg.Chunks())
		var ranks []*rank
		for range size {
			ranks = append(ranks, w.add(cfg, func(_ *Config, p *Parts) {
				p.Usage = func() cluster.Usage { return cluster.Usage{RSSBytes: 77} }
			}))
		}
		w.form(ranks...)
		w.wait(ranks...)
		require.Equal(t, want, ranks[0].digest)
		for _, s := range ranks[size-1].steps {
			require.Equal(t, s.Step%2 == 0, s.Measured != nil)
			require.InDelta(t, 0.95, s.AGR, 0.05)
			if s.Measured == nil {
				continue
			}
			require.Len(t, s.Measured.Ranks, size)
			for _, r := range s.Measured.Ranks {
				require.EqualValues(t, 77, r.RSS)
				require.Positive(t, r.Compute)
			}
			m := *s.Measured
			m.Ranks = nil
			require.Positive(t, m.Movement.Update)
			require.Positive(t, m.Movement.EMA)
			total := 0.0
			for i, n := range imagesByThird(cfg, s.Step-1, 100) {
				if n > 0 {
					total += m.Loss[i] * float64(n) / float64(cfg.GlobalBatch)
				} else {
					m.Loss[i] = -1 // not a number, which is not equal to itself
				}
			}
			require.InEpsilon(t, s.Loss, total, 1e-6, "the thirds make up the loss")
			out = append(out, m)
		}
		return out
	}
	require.Equal(t, measured(1), measured(3))
}

func imagesByThird(c Config, step int64, timesteps int) (n [Thirds]int) {
	for i := range int64(c.GlobalBatch) {
		n[3*diffusion.Timestep(c.Seed, uint64(step*int64(c.GlobalBatch)+i), timesteps)/timesteps]++
	}
	return n
}

// An optimizer that works in other memory than the model's is refused before anything
// is computed.
func TestPassElsewhere(t *testing.T) {
	cfg := smallConfig(3)
	w := onOpaque(t, cfg.Chunks())
	r := w.add(cfg, device)
	parts := r.trainer.parts
	parts.Pass = parts.Pass.(*onDevice).Pass
	_, err := New(cfg, parts)
	require.ErrorContains(t, err, "not in the same memory")
	w.form(r)
	w.wait(r)
}

// Every rank computes a share of a task; rank 0 puts them together. Where one cannot, or
// rank 0 cannot, training continues without.
func TestTaskIsShared(t *testing.T) {
	cfg := smallConfig(6)
	at := func(bad int64) func(step int64) error {
		return func(step int64) error {
			if step == bad {
				return errors.New("no image")
			}
			return nil
		}
	}
	for _, size := range []int{1, 3, 5} {
		w := newWorld(t, cfg.Chunks())
		samplers := make([]*numbered, size)
		var ranks []*rank
		for i := range size {
			samplers[i] = &numbered{count: 4}
			if i == size-1 {
				samplers[i].fail = at(2)
			}
			samplers[0].lost = at(4)
			off := Task{Name: "off", Each: 1, Share: samplers[i].share, Merge: samplers[i].merge}
			ranks = append(ranks, w.add(cfg, func(_ *Config, p *Parts) { p.Tasks = []Task{off, samplers[i].task(2)} }))
		}
		w.form(ranks...)
		w.wait(ranks...)
		for _, r := range ranks {
			require.NoError(t, r.err)
		}
		require.Equal(t, map[int64][]float32{6: {0, 6, 1, 6, 2, 6, 3, 6}}, samplers[0].grids)
		for _, s := range samplers[1:] {
			require.Empty(t, s.grids)
		}
	}
}

func TestTaskErrors(t *testing.T) {
	w := newWorld(t, 4)
	cfg := smallConfig(1)
	r := w.add(cfg)
	parts := r.trainer.parts
	parts.Tasks = []Task{{Name: "no work", Count: 3, Each: 1}}
	_, err := New(cfg, parts)
	require.ErrorContains(t, err, `"no work"`)
	w.form(r)
	w.wait(r)
}
