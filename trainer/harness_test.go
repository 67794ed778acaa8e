package trainer

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/allreduce/mesh"
	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/data"
	"github.com/agrdist/agrdist/diffusion"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/internal/leaktest"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// tiny is a whole UNet, dropout and attention included, that a test can afford.
func tiny() unet.Config {
	return unet.Config{
		SampleSize: 8, InChannels: 1, OutChannels: 1, BlockOutChannels: []int{8, 16}, LayersPerBlock: 1,
		AttentionLevels: []int{1}, NormNumGroups: 4, NormEps: 1e-5, Dropout: 0.1, DownsamplePadding: 1,
	}
}

// passFor is Adan(AGR) over a model's tensors.
func passFor(t *testing.T, m *unet.Model) agr.Pass {
	t.Helper()
	var segments []optim.Segment
	for _, p := range m.Params().List() {
		segments = append(segments, optim.Segment{Name: p.Name, Off: p.Off, Len: p.Len})
	}
	oc, err := optim.DefaultConfig("adan")
	require.NoError(t, err)
	pass, err := agr.NewPass(oc, true, segments, m.Params().FlatLen(), nil)
	require.NoError(t, err)
	return pass
}

func smallConfig(steps int64) Config {
	lr := optim.LRConfig{Base: 2e-3, WarmupSteps: 2, Schedule: optim.Constant, TotalSteps: steps}
	return Config{
		Seed: 7, Steps: steps, GlobalBatch: 8, Chunk: 2, MaxGradNorm: 1, EMADecay: 0.9, LR: lr.At,
		MaxSkipped: 2, DigestEvery: 2, BucketBytes: 4 << 10, OpTimeout: 20 * time.Second,
	}
}

// world is a run of several trainers in this process, with a coordinator made of
// a few lines.
type world struct {
	t      *testing.T
	mu     sync.Mutex
	number uint64
	all    map[cluster.MemberID]*rank
	live   []*rank
	groups map[uint64][]allreduce.Group
	chunks int
	tcp    bool
	open   func() tensor.Backend
	wg     sync.WaitGroup
}

// rank is one trainer and its fakes.
type rank struct {
	w       *world
	member  cluster.Member
	trainer *Trainer
	cancel  context.CancelFunc
	gens    chan cluster.Generation
	aborts  chan cluster.Abort
	end     *mesh.Endpoint

	outcome Outcome
	err     error
	done    chan struct{}

	mu     sync.Mutex
	report cluster.Report
	steps  []StepInfo
	skips  []SkipInfo
	digest string
	heard  []Saved
	onStep func(StepInfo)
}

func newWorld(t *testing.T, chunks int) *world {
	t.Helper()
	return &world{t: t, open: func() tensor.Backend { return cpu.New(cpu.Config{Threads: 1}) }, all: map[cluster.MemberID]*rank{}, groups: map[uint64][]allreduce.Group{}, chunks: chunks}
}

func (r *rank) Generations() <-chan cluster.Generation { return r.gens }
func (r *rank) Aborts() <-chan cluster.Abort           { return r.aborts }

func (r *rank) Report(p cluster.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report = p
}

func (r *rank) Connect(ctx context.Context, c allreduce.GroupConfig) (allreduce.Group, error) {
	if r.w.tcp {
		return r.end.Connect(ctx, c)
	}
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	if r.w.groups[c.Generation] == nil {
		r.w.groups[c.Generation] = allreduce.NewLocal(len(c.Peers), c.Plan)
	}
	return r.w.groups[c.Generation][c.Rank], nil
}

func (r *rank) Generation(cluster.Generation, int, int64) {}
func (r *rank) Start(Started)                             {}
func (r *rank) Stop(int64)                                {}

func (r *rank) Saved(s Saved) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = append(r.heard, s)
}

func (r *rank) Step(s StepInfo) {
	r.mu.Lock()
	r.steps = append(r.steps, s)
	f := r.onStep
	r.mu.Unlock()
	if f != nil {
		f(s)
	}
}

func (r *rank) Skip(s SkipInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.skips = append(r.skips, s)
}

func (r *rank) Finish(_ int64, digest string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.digest = digest
}

// poison makes the loss of chosen steps infinite on the rank that computes one
// draw.
type poison struct {
	Loader
	at func(draw int64) bool
}

func (p poison) LoadContext(ctx context.Context, dst []float32, draws []int64) error {
	if err := p.Loader.LoadContext(ctx, dst, draws); err != nil {
		return err
	}
	for _, d := range draws {
		if p.at(d) {
			dst[0] = float32(math.Inf(1))
		}
	}
	return nil
}

// option changes a rank's parts before it starts.
type option func(*Config, *Parts)

// add starts a trainer; it waits for a generation.
func (w *world) add(cfg Config, options ...option) *rank {
	w.t.Helper()
	be := w.open()
	model, err := unet.New(be, tiny())
	require.NoError(w.t, err)
	set, err := data.Open(data.DefaultConfig())
	require.NoError(w.t, err)
	schedule, err := diffusion.NewSchedule("linear", 100)
	require.NoError(w.t, err)

	w.mu.Lock()
	id := cluster.MemberID(fmt.Sprintf("worker-%d", len(w.all)))
	r := &rank{
		w: w, gens: make(chan cluster.Generation, 16), aborts: make(chan cluster.Abort, 16), done: make(chan struct{}),
		member: cluster.Member{ID: id, Node: "node", Slot: len(w.all)},
	}
	w.all[id] = r
	w.mu.Unlock()
	if w.tcp {
		r.end, err = mesh.Listen(mesh.EndpointConfig{RunID: "test"})
		require.NoError(w.t, err)
		r.member.DataAddr = r.end.Addr()
	}
	parts := Parts{
		Backend: be, Model: model, Pass: passFor(w.t, model), Process: Process{Schedule: schedule, Prediction: diffusion.Epsilon},
		Loader: data.NewLoader(set, cfg.Seed, true), Height: 8, Width: 8, Channel: 1,
		Session: r, Connector: r, Member: id, Node: r.member.Node, Observer: r,
	}
	for _, o := range options {
		o(&cfg, &parts)
	}
	r.trainer, err = New(cfg, parts)
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(w.t.Context())
	r.cancel = cancel
	w.wg.Go(func() {
		defer close(r.done)
		defer be.Close()
		r.outcome, r.err = r.trainer.Run(ctx)
		if r.end != nil {
			_ = r.end.Close()
		}
	})
	return r
}

// form announces a generation of these ranks.
func (w *world) form(ranks ...*rank) cluster.Generation {
	w.mu.Lock()
	w.number++
	g := cluster.Generation{Number: w.number, Reason: "test"}
	for _, r := range ranks {
		g.Members = append(g.Members, r.member)
	}
	w.live = ranks
	w.mu.Unlock()
	for _, r := range ranks {
		r.gens <- g
	}
	return g
}

// kill ends a rank as a dead process does: in the middle of whatever it does,
// its connections closed.
func (r *rank) kill() {
	r.cancel()
	<-r.done
}

func (w *world) wait(ranks ...*rank) {
	w.t.Helper()
	for _, r := range ranks {
		select {
		case <-r.done:
		case <-time.After(60 * time.Second):
			require.Fail(w.t, "a trainer does not end", "%s: %+v", r.member.ID, r.report)
		}
	}
}

// runs trains to the end in one generation and returns the digest.
func runs(t *testing.T, size int, cfg Config, options ...option) string {
	t.Helper()
	w := newWorld(t, cfg.Chunks())
	var ranks []*rank
	for range size {
		ranks = append(ranks, w.add(cfg, options...))
	}
	w.form(ranks...)
	w.wait(ranks...)
	for _, r := range ranks {
		require.NoError(t, r.err)
		require.Equal(t, Finished, r.outcome)
		require.Equal(t, cfg.Steps, r.trainer.State().Step)
		require.Equal(t, Digest(ranks[0].trainer.State()), Digest(r.trainer.State()))
	}
	require.Equal(t, Digest(ranks[0].trainer.State()), ranks[0].digest)
	return ranks[0].digest
}

// memory is a Store that keeps snapshots in memory.
type memory struct {
	now func(ctx context.Context, wait time.Duration) error // before SaveNow; nil: nothing

	mu    sync.Mutex
	saved []*checkpoint.Snapshot
}

func (m *memory) Place() string { return fmt.Sprintf("%p", m) }

func (m *memory) Restore(_ context.Context, s *State) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.saved) == 0 {
		return false, nil
	}
	return true, s.Restore(m.saved[len(m.saved)-1])
}

func (m *memory) NewestStep() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.saved) == 0 {
		return -1
	}
	return m.saved[len(m.saved)-1].Step
}

func (m *memory) RestoreSource(context.Context, *State) (bool, error) { return false, nil }

func (m *memory) Save(_ context.Context, s *State) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.saved = append(m.saved, s.Snapshot(nil))
	return nil
}

func (m *memory) SaveNow(ctx context.Context, s *State, wait time.Duration) (string, error) {
	if m.now != nil {
		if err := m.now(ctx, wait); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("memory/step-%d", s.Step), m.Save(ctx, s)
}

// numbered is a task whose item i is its number and the step.
type numbered struct {
	count int
	fail  func(step int64) error // in Share
	lost  func(step int64) error // in Merge

	mu    sync.Mutex
	grids map[int64][]float32
}

func (n *numbered) task(every int64) Task {
	return Task{Name: "numbers", Phase: cluster.PhaseSample, Every: every, Count: n.count, Each: 2, Share: n.share, Merge: n.merge}
}

func (n *numbered) share(_ context.Context, s *State, lo, hi int) (out []float32, err error) {
	if n.fail != nil {
		if err := n.fail(s.Step); err != nil {
			return nil, err
		}
	}
	for i := lo; i < hi; i++ {
		out = append(out, float32(i), float32(s.Step))
	}
	return out, nil
}

func (n *numbered) merge(step int64, images []float32) error {
	if n.lost != nil {
		if err := n.lost(step); err != nil {
			return err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.grids == nil {
		n.grids = map[int64][]float32{}
	}
	n.grids[step] = images
	return nil
}
