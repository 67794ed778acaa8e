package worker

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/metrics"
	"github.com/agrdist/agrdist/rundir"
	"github.com/agrdist/agrdist/setup"
	"github.com/agrdist/agrdist/status"
	"github.com/agrdist/agrdist/trainer"
	"github.com/agrdist/agrdist/worker/spec"
)

// BenchmarkWatching is what watching a run costs, measured so that the load and the clock
// of the machine drop out: one process trains the digits recipe, and everything that
// observes it (events, TensorBoard, the measurements of every 50th step, the page with a
// client on its stream and a scrape a second) is switched on and off by the segment of 50
// steps, in pairs whose order is drawn. It reports the median over the pairs of the ratio
// of processor time a step, less 1, with its 95 % confidence interval (by ranks, so
// without assuming a distribution). The clients are a process of their own and do not
// count. N is the number of pairs:
//
//	go test ./worker -run '^$' -bench Watching -benchtime 200x
func BenchmarkWatching(b *testing.B) {
	c := config.Default()
	c.Out = b.TempDir()
	c.Train.Threads, c.Train.Steps, c.Train.DigestEvery = 1, int64(segment*(warmUp+2*b.N)), 0
	c.Sample.Count, c.Checkpoint.Every = 0, c.Train.Steps
	require.NoError(b, rundir.Dir(c.Out).Make())
	w := &worker{spec: spec.Spec{RunDir: c.Out, Member: "n/0", Node: "n"}, cfg: &c, log: slog.New(slog.DiscardHandler), out: &recordWriter{io.Discard}}
	defer w.shut()
	p, err := w.parts()
	require.NoError(b, err)
	cfg, err := w.trainerConfig()
	require.NoError(b, err)

	o := &switched{observer: p.Observer.(*observer), crowd: startCrowd(b, &c), steps: segment * warmUp, r: rand.New(rand.NewPCG(1, 2))}
	measure := cfg.Measure
	cfg.Measure = func(step int64) bool { return o.on.Load() && measure(step) }
	p.Observer, p.Session, p.Connector, p.Member, p.Node = o, alone{}, alone{}, "n/0", "n"
	t, err := trainer.New(cfg, p)
	require.NoError(b, err)
	outcome, err := t.Run(b.Context())
	require.NoError(b, err)
	require.Equal(b, trainer.Finished, outcome)

	seen, err := metrics.History(rundir.Dir(c.Out).Events())
	require.NoError(b, err)
	var events, measured int
	for _, e := range seen {
		if e.Event == metrics.EventStep {
			events++
		}
		if e.UpdateNorm != nil {
			measured++
		}
	}
	require.Equal(b, segment*b.N, events, "every step of the segments that are on has an event")
	require.Equal(b, b.N, measured, "and one of them is measured")
	median, lo, hi := interval(o.ratios)
	b.ReportMetric(100*(median-1), "%median")
	b.ReportMetric(100*(lo-1), "%low95")
	b.ReportMetric(100*(hi-1), "%high95")
	b.ReportMetric(o.off.Seconds()*1e3/float64(segment*b.N), "cpu-ms/step-off")
	b.ReportMetric(o.onTime.Seconds()*1e3/float64(segment*b.N), "cpu-ms/step-on")
}

// BenchmarkStepEvent is what one step event costs the worker: the line in events.jsonl and
// TensorBoard's record.
func BenchmarkStepEvent(b *testing.B) {
	c := config.Default()
	c.Out = b.TempDir()
	require.NoError(b, rundir.Dir(c.Out).Make())
	w := &worker{spec: spec.Spec{RunDir: c.Out}, cfg: &c, log: slog.New(slog.DiscardHandler), out: &recordWriter{io.Discard}}
	dev, err := setup.Open(setup.DeviceConfig{Device: "cpu", Threads: 1})
	require.NoError(b, err)
	w.later(dev.Close)
	o, err := w.observer(dev.Backend, 1)
	require.NoError(b, err)
	o.leader.Store(true)
	step := int64(0)
	for b.Loop() {
		step++
		o.Step(trainer.StepInfo{Step: step, Loss: 0.1, GradNorm: 0.2, LR: 1e-3, Millis: 40, ImagesPerSecond: 800, AGR: 0.99, WorldSize: 2, Generation: 1})
	}
	w.shut()
}

const (
	segment = 50 // steps; as many as lie between two that are measured
	warmUp  = 2  // segments
)

// switched is an observer that is on and off by segments, and takes their times.
type switched struct {
	*observer
	crowd *crowd
	r     *rand.Rand
	on    atomic.Bool
	steps int64 // that are left of this segment

	second      bool // of a pair
	began       time.Duration
	first       time.Duration // what the pair's first segment took
	ratios      []float64
	onTime, off time.Duration
	started     bool
}

func (s *switched) Step(i trainer.StepInfo) {
	if s.on.Load() {
		s.observer.Step(i)
	}
	if s.steps--; s.steps > 0 {
		return
	}
	s.steps = segment
	now := processTime()
	switch took := now - s.began; {
	case !s.started: // the warm-up is over
		s.started = true
		s.turn(s.r.IntN(2) == 0)
	case !s.second:
		s.first, s.second = took, true
		s.turn(!s.on.Load())
	default:
		on, off := took, s.first
		if !s.on.Load() {
			on, off = off, on
		}
		s.onTime, s.off = s.onTime+on, s.off+off
		s.ratios = append(s.ratios, on.Seconds()/off.Seconds())
		s.second = false
		s.turn(s.r.IntN(2) == 0)
	}
	s.began = processTime()
}

func (s *switched) turn(on bool) {
	s.on.Store(on)
	s.crowd.turn(on)
}

// alone is the session and the group of a run of one worker.
type alone struct{}

func (alone) Generations() <-chan cluster.Generation {
	c := make(chan cluster.Generation, 1)
	c <- cluster.Generation{Number: 1, Members: []cluster.Member{{ID: "n/0", Node: "n"}}}
	return c
}

func (alone) Aborts() <-chan cluster.Abort { return nil }
func (alone) Report(cluster.Report)        {}

func (alone) Connect(_ context.Context, c allreduce.GroupConfig) (allreduce.Group, error) {
	return allreduce.NewLocal(1, c.Plan)[0], nil
}

// crowd is the page of a run in this process, and a process that looks at it.
type crowd struct{ to io.Writer }

const watcher = "AGRDIST_TEST_WATCHER"

func startCrowd(b *testing.B, c *config.Config) *crowd {
	b.Helper()
	run := &status.Run{Name: "run", Dir: c.Out, Batch: c.Train.GlobalBatch}
	s, err := status.Listen(status.Config{Bind: "127.0.0.1:0", Token: "t", Runs: status.One(run), Metrics: status.Metrics(run)})
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(context.Background()) // beyond the benchmark, until its clean-up
	served := make(chan error)
	go func() { served <- s.Serve(ctx) }()
	client := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestWatcher$")
	client.Env = append(os.Environ(), watcher+"=http://"+s.Addr())
	to, err := client.StdinPipe()
	require.NoError(b, err)
	require.NoError(b, client.Start())
	b.Cleanup(func() {
		require.NoError(b, to.Close())
		require.NoError(b, client.Wait())
		cancel()
		require.NoError(b, <-served)
	})
	return &crowd{to: to}
}

// turn tells the clients to look, or not to.
func (c *crowd) turn(on bool) {
	if _, err := fmt.Fprintln(c.to, on); err != nil {
		panic(err) // the process that looks is gone, so the numbers would be wrong
	}
}

// TestWatcher is the process that looks at a page, while its input says "true".
func TestWatcher(t *testing.T) {
	url := os.Getenv(watcher)
	if url == "" {
		t.Skip("part of BenchmarkWatching")
	}
	var stop context.CancelFunc = func() {}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		stop()
		var ctx context.Context
		ctx, stop = context.WithCancel(context.Background())
		if in.Text() == "true" {
			go look(ctx, url+"/api/runs/run/stream", time.Second)
			go look(ctx, url+"/metrics", time.Second)
		}
	}
	stop()
	http.DefaultClient.CloseIdleConnections()
}

// look asks for an address, again every so often, until the context ends.
func look(ctx context.Context, url string, every time.Duration) {
	for ctx.Err() == nil {
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			panic(err)
		}
		q.Header.Set("Authorization", "Bearer t")
		if r, err := http.DefaultClient.Do(q); err == nil {
			_, _ = io.Copy(io.Discard, r.Body) // until the context ends
			_ = r.Body.Close()
		}
		select {
		case <-ctx.Done():
		case <-time.After(every):
		}
	}
}

// interval is the median and its confidence interval: the order statistics whose ranks
// leave at most 2.5 % of a binomial distribution on each side. Fewer than 6 values have
// none.
func interval(values []float64) (median, lo, hi float64) {
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	if n == 0 {
		return math.NaN(), math.NaN(), math.NaN()
	}
	median = (s[(n-1)/2] + s[n/2]) / 2
	tail, p, k := 0.0, math.Pow(0.5, float64(n)), 0
	for ; k < n; k++ {
		if tail += p; tail > 0.025 {
			break
		}
		p *= float64(n-k) / float64(k+1)
	}
	if k == 0 {
		return median, math.Inf(-1), math.Inf(1)
	}
	return median, s[k-1], s[n-k]
}

func TestInterval(t *testing.T) {
	var x []float64
	for i := range 10 {
		x = append(x, float64(i+1))
	}
	median, lo, hi := interval(x)
	require.Equal(t, []float64{5.5, 2, 9}, []float64{median, lo, hi}, "the sign test's ranks for n = 10")
	_, lo, hi = interval(x[:5])
	require.True(t, math.IsInf(lo, -1) && math.IsInf(hi, 1))
	_, lo, hi = interval(x[:6])
	require.Equal(t, []float64{1, 6}, []float64{lo, hi})
}
