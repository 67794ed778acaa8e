package trainer

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu"
)

// onOpaque makes a world of devices.
func onOpaque(t *testing.T, chunks int) *world {
	t.Helper()
	w := newWorld(t, chunks)
	w.open = func() tensor.Backend { return opaque{cpu.New(cpu.Config{Threads: 1})} }
	return w
}

// The state's home is no part of the model: on devices of 1 to 4 workers, through
// the canonical tree, the bits are those of the host's path.
func TestStateOnTheDevice(t *testing.T) {
	cfg := smallConfig(4)
	want := runs(t, 1, cfg)
	for size := 1; size <= 4; size++ {
		w := onOpaque(t, cfg.Chunks())
		var ranks []*rank
		for range size {
			r := w.add(cfg, device)
			r.forget()
			ranks = append(ranks, r)
		}
		w.form(ranks...)
		w.wait(ranks...)
		for _, r := range ranks {
			require.NoError(t, r.err)
			require.Equal(t, want, Digest(r.trainer.State()), "%d workers: every rank's copy is fresh after Run", size)
			require.Equal(t, r.trainer.state.Values, inside(r.trainer.state.values.buf))
		}
		require.Equal(t, want, ranks[0].digest)
	}
	cfg.EMADecay, cfg.DigestEvery = 0, 0
	w := onOpaque(t, cfg.Chunks())
	r := w.add(cfg, device)
	w.form(r)
	w.wait(r)
	require.Equal(t, runs(t, 1, cfg), r.digest, "without an average")
}

// Losses that are copied behind the device's work arrive with its norm: alone, a worker
// waits for its device once a step.
func TestLossesArriveWithTheNorm(t *testing.T) {
	cfg := smallConfig(4)
	cfg.Measure = func(int64) bool { return true }
	told := func(open func() tensor.Backend, size int, options ...option) (losses []float64) {
		w := newWorld(t, cfg.Chunks())
		w.open = open
		var ranks []*rank
		for range size {
			ranks = append(ranks, w.add(cfg, options...))
		}
		w.form(ranks...)
		w.wait(ranks...)
		require.NoError(t, ranks[0].err)
		for _, s := range ranks[0].steps {
			losses = append(losses, s.Loss)
			losses = append(losses, s.Measured.Loss[:]...)
		}
		return losses
	}
	want := told(func() tensor.Backend { return cpu.New(cpu.Config{Threads: 1}) }, 1)
	require.Len(t, want, int(cfg.Steps)*(1+Thirds))
	for size := 1; size <= 2; size++ {
		var mu sync.Mutex
		var devices []*fetching
		got := told(func() tensor.Backend {
			mu.Lock()
			defer mu.Unlock()
			devices = append(devices, &fetching{opaque: opaque{cpu.New(cpu.Config{Threads: 1})}})
			return devices[len(devices)-1]
		}, size, device)
		for i := range want {
			require.Equal(t, math.Float64bits(want[i]), math.Float64bits(got[i]), "%d workers, number %d", size, i)
		}
		for _, d := range devices {
			require.Equal(t, size*int(cfg.Steps), d.waits, "%d workers: once more where the others wait for the gradients", size)
		}
	}
}

// A worker dies, the others continue, and a newcomer gets its state from device to
// device.
func TestKilledOnTheDevice(t *testing.T) {
	cfg := smallConfig(8)
	want := runs(t, 1, cfg)
	for _, tcp := range []bool{false, true} {
		w := onOpaque(t, cfg.Chunks())
		w.tcp = tcp
		a, b, c := w.add(cfg, device), w.add(cfg, device), w.add(cfg, device)
		killed := make(chan struct{})
		atStep(a, 3, func() {
			a.kill()
			w.form(b, c)
			close(killed)
		})
		for _, r := range []*rank{a, b, c} {
			r.forget()
		}
		w.form(a, b, c)
		<-killed
		d := w.add(cfg, device)
		d.forget()
		w.form(b, c, d)
		w.wait(b, c, d)
		for _, r := range []*rank{b, c, d} {
			require.NoError(t, r.err)
			require.Equal(t, want, Digest(r.trainer.State()))
		}
	}
}

// Checkpoints, stops and resumes see the device's state, and the host's path can
// take it over.
func TestResumeOnTheDevice(t *testing.T) {
	cfg := smallConfig(6)
	cfg.CheckpointEvery = 2
	want := runs(t, 2, cfg)
	store := &memory{}
	with := func(_ *Config, p *Parts) { p.Store = store }
	w := onOpaque(t, cfg.Chunks())
	a, b := w.add(cfg, device, with), w.add(cfg, device)
	a.forget()
	b.forget()
	atStep(b, 2, b.trainer.RequestStop)
	w.form(a, b)
	w.wait(a, b)
	require.Equal(t, []Outcome{Stopped, Stopped}, []Outcome{a.outcome, b.outcome})
	require.NotEmpty(t, store.saved)
	require.GreaterOrEqual(t, store.saved[0].Step, int64(2))

	again := onOpaque(t, cfg.Chunks())
	c, d, e := again.add(cfg, device, with), again.add(cfg, device), again.add(cfg, device)
	for _, r := range []*rank{c, d, e} {
		r.forget()
	}
	again.form(c, d, e)
	again.wait(c, d, e)
	require.NoError(t, c.err)
	require.Equal(t, want, c.digest)

	store.saved = store.saved[:1]
	require.Equal(t, want, runs(t, 1, cfg, with), "on the host, from the device's checkpoint")
}

// A step that is not finite leaves the device's state alone.
func TestNotFiniteOnTheDevice(t *testing.T) {
	cfg := smallConfig(5)
	bad := func(_ *Config, p *Parts) {
		p.Loader = poison{p.Loader, func(draw int64) bool { return draw == 2*8+5 }}
	}
	w := onOpaque(t, cfg.Chunks())
	a, b := w.add(cfg, bad, device), w.add(cfg, bad, device)
	w.form(a, b)
	w.wait(a, b)
	require.NoError(t, errors.Join(a.err, b.err))
	require.Len(t, b.skips, 1)
	require.Equal(t, runs(t, 1, cfg, bad), a.digest)
}

// A device whose memory went wrong is found and named, by its own digest or the
// host's.
func TestDigestOnTheDevice(t *testing.T) {
	cfg := smallConfig(8)
	for _, open := range []func() tensor.Backend{
		func() tensor.Backend { return opaque{cpu.New(cpu.Config{Threads: 1})} },
		func() tensor.Backend { return fingerprinting{opaque{cpu.New(cpu.Config{Threads: 1})}} },
	} {
		w := newWorld(t, cfg.Chunks())
		w.open = open
		a, b := w.add(cfg, device), w.add(cfg, device)
		var once sync.Once
		b.onStep = func(StepInfo) { once.Do(func() { inside(b.trainer.state.values.buf)[100] += 1e-3 }) }
		w.form(a, b)
		w.wait(a, b)
		for _, r := range []*rank{a, b} {
			require.ErrorIs(t, r.err, ErrDigest)
			require.ErrorContains(t, r.err, "rank 1")
		}
	}
	require.Implements(t, (*Digester)(nil), fingerprinting{})
}

// Drawing with the average does not disturb training.
func TestAverageOnTheDevice(t *testing.T) {
	cfg := smallConfig(4)
	want := runs(t, 1, cfg)
	var seen [][]float32 // the model's parameters in the device while the average stands in for them
	task := (&numbered{count: 3}).task(2)
	task.Share = func(_ context.Context, st *State, lo, hi int) ([]float32, error) {
		return make([]float32, 2*(hi-lo)), st.WithEMA(func() error {
			seen = append(seen, append([]float32(nil), inside(st.values.buf)...))
			return nil
		})
	}
	w := onOpaque(t, cfg.Chunks())
	r := w.add(cfg, device, func(_ *Config, p *Parts) { p.Tasks = []Task{task} })
	r.forget()
	w.form(r)
	w.wait(r)
	require.NoError(t, r.err)
	require.Equal(t, want, r.digest)
	require.Len(t, seen, 2)
	require.Equal(t, r.trainer.state.EMA, seen[1])
	require.NotEqual(t, r.trainer.state.Values, seen[1])
	require.Equal(t, r.trainer.state.Values, inside(r.trainer.state.values.buf))
}

// The host's state does the same.
func TestAverageOnTheHost(t *testing.T) {
	cfg := smallConfig(2)
	w := newWorld(t, cfg.Chunks())
	r := w.add(cfg)
	w.form(r)
	w.wait(r)
	s := r.trainer.State()
	values := append([]float32(nil), s.Values...)
	require.NotEqual(t, values, s.EMA)
	failed := errors.New("no image")
	require.ErrorIs(t, s.WithEMA(func() error {
		require.Equal(t, s.EMA, s.Values)
		return failed
	}), failed)
	require.Equal(t, values, s.Values)
}

// grouped makes a rank's groups device groups that fail when told to.
type grouped struct {
	Connector
	be   tensor.Backend
	fail func(bucket uint32) error
}

type faultyDevices struct {
	allreduce.DeviceGroup
	fail func(bucket uint32) error
}

func (g grouped) Connect(ctx context.Context, c allreduce.GroupConfig) (allreduce.Group, error) {
	group, err := g.Connector.Connect(ctx, c)
	if err != nil {
		return nil, err
	}
	return faultyDevices{allreduce.Staged(group, g.be), g.fail}, nil
}

func (g faultyDevices) AllReduceDevice(ctx context.Context, bucket uint32, parts []tensor.Buffer, dst tensor.Buffer) error {
	if err := g.fail(bucket); err != nil {
		return &allreduce.Error{Rank: g.Rank(), Peer: allreduce.NoPeer, Op: allreduce.OpAllReduce, Bucket: bucket, Err: err}
	}
	return g.DeviceGroup.AllReduceDevice(ctx, bucket, parts, dst)
}

func (g faultyDevices) Transport() string { return "faulty" }

// An operation that cannot even be queued in the middle of backward ends the
// generation, not the run; the next one begins from scratch.
func TestDeviceGroupFails(t *testing.T) {
	cfg := smallConfig(4)
	w := onOpaque(t, cfg.Chunks())
	broken := make(chan struct{})
	var calls int
	a := w.add(cfg, device, func(_ *Config, p *Parts) {
		p.Connector = grouped{p.Connector, p.Backend, func(uint32) error {
			if calls++; calls == 7 {
				close(broken)
				return errors.New("no stream")
			}
			return nil
		}}
	})
	b := w.add(cfg, device)
	w.form(a, b)
	<-broken
	w.form(b, a)
	w.wait(a, b)
	require.NoError(t, errors.Join(a.err, b.err))
	require.Equal(t, runs(t, 1, cfg), b.digest)
}

// A device that fails in the update, or before it, ends the worker, not the state of
// its peers.
func TestDeviceUpdateFails(t *testing.T) {
	cfg := smallConfig(4)
	gone := errors.New("the device has fallen off the bus")
	for want, b := range map[string]broken{
		"gradient of step 0": {measure: gone}, "update of step 0": {apply: gone},
	} {
		w := onOpaque(t, cfg.Chunks())
		a := w.add(cfg, device, func(_ *Config, p *Parts) {
			b.Pass = p.Pass
			p.Pass = b
		})
		w.form(a)
		w.wait(a)
		require.ErrorIs(t, a.err, gone)
		require.ErrorContains(t, a.err, want)
	}
}

type broken struct {
	agr.Pass
	measure, apply error
}

func (b broken) Measure(u optim.Update) (optim.Stats, error) {
	if b.measure != nil {
		return optim.Stats{GradNorm: math.NaN()}, b.measure
	}
	return b.Pass.Measure(u)
}

func (b broken) Apply() error {
	if b.apply != nil {
		return b.apply
	}
	return b.Pass.Apply()
}

// stuck is a group that cannot let go of the device.
type stuck struct{ allreduce.Group }

var errStuck = errors.New("the device does not let go")

func (s stuck) Close() error { return errors.Join(s.Group.Close(), errStuck) }

type stuckConnector struct{ Connector }

func (c stuckConnector) Connect(ctx context.Context, g allreduce.GroupConfig) (allreduce.Group, error) {
	group, err := c.Connector.Connect(ctx, g)
	return stuck{group}, err
}

// A worker whose device is lost with a generation does not continue to the next.
func TestStuckGroup(t *testing.T) {
	cfg := smallConfig(100)
	w := newWorld(t, cfg.Chunks())
	a := w.add(cfg, func(_ *Config, p *Parts) { p.Connector = stuckConnector{p.Connector} })
	b := w.add(cfg)
	atStep(b, 1, b.kill)
	w.form(a, b)
	w.wait(a, b)
	require.ErrorIs(t, a.err, errStuck)
	require.ErrorContains(t, a.err, "leave generation 1")
}
