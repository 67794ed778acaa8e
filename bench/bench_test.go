package bench

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/bench/probe"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu"
)

func TestStep(t *testing.T) {
	r, err := Step(StepConfig{Preset: "digits", Batch: 2, Threads: 1, Precision: "f32", Steps: 2})
	require.NoError(t, err)
	require.Equal(t, 701345, r.Parameters)
	require.Positive(t, r.ImagesPerS)
	require.GreaterOrEqual(t, r.RSSMB, 4*3*0.7, "at least the parameters, gradients and average")
	require.InDelta(t, r.StepMillis, r.ComputeMillis+r.UpdateMillis, r.StepMillis)
	flops, err := unet.Digits().TrainingFLOPs()
	require.NoError(t, err)
	require.InEpsilon(t, 2*float64(flops)/1e9, r.GFLOP, 1e-9)
	require.Positive(t, r.PeakGFLOPS)
	require.InEpsilon(t, r.GFLOP/r.CPUMillis*1e3/r.PeakGFLOPS, r.FLOPSShare, 1e-9)
	requireKeys(t, r, "preset", "parameters", "batch", "threads", "precision", "backend", "step_ms", "compute_ms", "update_ms",
		"cpu_ms", "images_per_s", "step_gflop", "peak_gflops", "flops_share", "rss_mb", "version")
	r, err = Step(StepConfig{Preset: "digits", Batch: 2, Threads: 1, Precision: "bf16", Steps: 1})
	require.NoError(t, err)
	require.Equal(t, "bf16", r.Precision)
	require.True(t, strings.HasSuffix(r.Backend, " bf16"), r.Backend)
	require.Positive(t, r.PeakGFLOPS)
	for _, bad := range []StepConfig{
		{Preset: "huge", Batch: 1, Threads: 1, Precision: "f32", Steps: 1},
		{Preset: "digits", Batch: 0, Threads: 1, Precision: "f32", Steps: 1},
		{Preset: "digits", Batch: 1, Threads: 1, Precision: "f8", Steps: 1},
	} {
		_, err := Step(bad)
		require.Error(t, err)
	}
}

// requireKeys checks the names that scripts read.
func requireKeys(t *testing.T, v any, want ...string) map[string]any {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	var fields map[string]any
	require.NoError(t, json.Unmarshal(text, &fields))
	require.ElementsMatch(t, want, slices.Collect(maps.Keys(fields)))
	return fields
}

func TestKernels(t *testing.T) {
	var begun KernelsResult
	var rows []KernelResult
	c := KernelsConfig{Threads: 1, Filter: "^(conv3x3.*|dropout|groupnorm_silu) (32x16x16x64|8x32x32x128)$", Budget: time.Millisecond, ProbeBytes: 1 << 20}
	r, err := Kernels(c, func(r KernelsResult) { begun = r }, func(k KernelResult) { rows = append(rows, k) })
	require.NoError(t, err)
	require.Equal(t, r.Kernels, rows)
	require.Len(t, rows, 3+3+1+1)
	require.LessOrEqual(t, begun.GFLOPS, r.GFLOPS, "the best only gets better")
	require.Positive(t, begun.GFLOPS)
	for _, x := range []float64{r.GFLOPS, r.ReadGBS, r.ScaleGBS} {
		require.Positive(t, x)
		require.Less(t, x, 1e6, "beyond any processor")
	}
	for _, k := range rows {
		require.Positive(t, k.Millis)
		require.Positive(t, k.Share)
		require.GreaterOrEqual(t, k.Samples, 3)
		if strings.HasPrefix(k.Name, "conv") {
			require.Zero(t, k.GBS)
			require.Positive(t, k.GFLOPS)
			continue
		}
		require.Zero(t, k.GFLOPS)
		require.InEpsilon(t, 2*4*8*32*32*128/k.Millis/1e6, k.GBS, 1e-9)
	}
	require.InEpsilon(t, 2*9*8*32*32*128*128/rows[0].Millis/1e6, rows[0].GFLOPS, 1e-9)
	requireKeys(t, r, "backend", "threads", "probe", "peak_gflops", "read_gb_s", "scale_gb_s", "probe_mb", "clock", "probe_threads", "kernels")
	requireKeys(t, rows[0], "name", "shape", "time_ms", "gflops", "share", "samples")
	requireKeys(t, rows[7], "name", "shape", "time_ms", "gb_s", "share", "samples")

	for _, bad := range []KernelsConfig{
		{Threads: 0, Budget: 1, ProbeBytes: 1},
		{Threads: 1, ProbeBytes: 1},
		{Threads: 1, Budget: 1},
		{Threads: 1, Budget: 1, ProbeBytes: 1, Filter: "("},
		{Threads: 1, Budget: 1, ProbeBytes: 1, Filter: "no such thing"},
	} {
		_, err := Kernels(bad, nil, nil)
		require.Error(t, err)
	}
}

// Every operation runs, on more than one thread.
func TestOperationsRun(t *testing.T) {
	be := fusedBackend{cpu.New(cpu.Config{Threads: 2})}
	defer be.Close()
	names := map[string]bool{}
	for _, o := range operations(be) {
		names[o.name] = true
		require.Positive(t, o.flop+o.bytes)
		require.Zero(t, o.flop*o.bytes, "arithmetic or memory")
		if o.flop > 0.4e9 {
			continue // the smaller shapes of the same operation run
		}
		w := &workbench{be: be}
		o.prepare(w)()
		require.NoError(t, w.err, o.name)
		w.free()
	}
	require.Equal(t, []string{
		"attention", "attention.grad", "conv1x1", "conv3x3", "conv3x3.input_grad", "conv3x3.weight_grad", "dropout", "gemm",
		"groupnorm_silu", "groupnorm_silu.grad",
	}, slices.Sorted(maps.Keys(names)))
}

// fusedBackend has an attention that writes zeros, whether the CPU has one or not.
type fusedBackend struct{ *cpu.Backend }

func (b fusedBackend) Attention(y, lse, _, _, _ tensor.Tensor, _ int, _ float32) {
	b.Fill(y, 0)
	b.Fill(lse, 0)
}

func (b fusedBackend) AttentionGrad(dq, dk, dv, _, _, _, _, _, _ tensor.Tensor, _ int, _ float32) {
	b.Fill(dq, 0)
	b.Fill(dk, 0)
	b.Fill(dv, 0)
}

// A backend without room is an error, not a crash.
func TestOperationsWithoutMemory(t *testing.T) {
	be := fusedBackend{cpu.New(cpu.Config{Threads: 1})}
	defer be.Close()
	full := &fullBackend{fusedBackend: be}
	for _, o := range operations(full) {
		w := &workbench{be: full}
		full.room = 1
		o.prepare(w)
		require.ErrorIs(t, w.err, cpu.ErrMemory, o.name)
		w.free()
	}
	require.Zero(t, full.held)
}

// fullBackend has room for a few buffers.
type fullBackend struct {
	fusedBackend
	room, held int
}

func (b *fullBackend) Alloc(dt tensor.DType, n int) (tensor.Buffer, error) {
	if b.room == 0 {
		return nil, cpu.ErrMemory
	}
	b.room--
	b.held++
	return b.Backend.Alloc(dt, n)
}

func (b *fullBackend) Free(buf tensor.Buffer) {
	b.held--
	b.Backend.Free(buf)
}

func TestOptimizer(t *testing.T) {
	const n = 2*(9*256*256+256) + 1001 // three layers, the last one cut and odd
	for _, threads := range []int{1, 2} {
		var rows []OptimizerResult
		err := Optimizer(OptimizerConfig{Params: n, Threads: threads, Steps: 2, ProbeBytes: 1 << 20}, func(r OptimizerResult) { rows = append(rows, r) })
		require.NoError(t, err)
		require.Len(t, rows, 2)
		require.Equal(t, "fused", rows[0].Variant)
		require.NotEmpty(t, rows[0].Kernel)
		require.Equal(t, "unfused", rows[1].Variant)
		for _, r := range rows {
			require.Equal(t, n, r.Parameters)
			require.Positive(t, r.NormsMillis)
			require.Positive(t, r.Share)
			require.Positive(t, r.ScaleGBS)
			require.Positive(t, r.ReadGBS)
			require.InEpsilon(t, 56*n/r.Millis/1e6, r.GBS, 1e-9)
		}
		requireKeys(t, rows[0], "variant", "parameters", "threads", "kernel", "time_ms", "norms_ms", "gb_s", "bandwidth_share", "clock", "scale_gb_s", "read_gb_s")
	}
	require.Error(t, Optimizer(OptimizerConfig{}, nil))
}

func TestLayers(t *testing.T) {
	for _, n := range []int{1, 15, 16, 9 * 256 * 256, 9*256*256 + 1, 35746307} {
		segments, flat := layers(n)
		require.NoError(t, optim.CheckSegments(segments, flat))
		sum := 0
		for _, s := range segments {
			sum += s.Len
		}
		require.Equal(t, n, sum)
		require.Equal(t, (n+15)/16*16, flat)
	}
}

// The thread's clock counts what this thread computes, and nothing while it waits.
func TestClock(t *testing.T) {
	c, stop := startClock(1)
	defer stop()
	loops := probe.Supported()[0]
	busy := c.time(func() { loops.FMA(3_000_000) })
	require.Positive(t, busy)
	if c.Name == "thread CPU time" {
		done := make(chan struct{})
		waited := c.time(func() {
			go func() {
				loops.FMA(30_000_000)
				close(done)
			}()
			<-done
		})
		require.Less(t, waited, busy, "ten times the work, elsewhere")
	}
	wall, stop2 := startClock(2)
	defer stop2()
	require.Equal(t, "wall", wall.Name)
	require.Positive(t, wall.time(func() { loops.FMA(1000) }))
}

func TestAllReduce(t *testing.T) {
	for _, order := range []allreduce.Order{allreduce.OrderTree, allreduce.OrderRing} {
		var got []int64
		err := AllReduce(t.Context(), AllReduceConfig{World: 3, From: 4, To: 4096, Factor: 32, Iterations: 2, Order: order}, func(r AllReduceResult) {
			require.Positive(t, r.AlgBW)
			require.InEpsilon(t, r.AlgBW*4/3, r.BusBW, 1e-9)
			got = append(got, r.Bytes)
		})
		require.NoError(t, err)
		require.Equal(t, []int64{4, 128, 4096}, got)
	}
	require.Error(t, AllReduce(t.Context(), AllReduceConfig{}, nil))
}

func TestMedian(t *testing.T) {
	require.Equal(t, 2.0, median([]float64{3, 1, 2}))
	require.Equal(t, 2.5, median([]float64{4, 1, 2, 3}))
}

// BenchmarkThreads makes steps of the full model alternating between one
// thread and two, and reports what a step of each takes and the median of their ratios.
func BenchmarkThreads(b *testing.B) {
	model, err := preset("full")
	require.NoError(b, err)
	var sides [2]*step
	for i := range sides {
		sides[i], err = newStep(StepConfig{Batch: 8, Threads: i + 1, Precision: "f32"}, model)
		require.NoError(b, err)
		defer sides[i].close()
	}
	var ms [2][]float64
	var whole, computed []float64 // ratios
	turn := func() (compute, whole [2]float64) {
		for i, s := range sides {
			c, u, err := s.run()
			require.NoError(b, err)
			compute[i], whole[i] = c, c+u
		}
		return compute, whole
	}
	turn()
	for b.Loop() {
		compute, step := turn()
		for i, t := range step {
			ms[i] = append(ms[i], t)
		}
		whole, computed = append(whole, step[0]/step[1]), append(computed, compute[0]/compute[1])
	}
	b.ReportMetric(median(ms[0]), "ms/step-1-thread")
	b.ReportMetric(median(ms[1]), "ms/step-2-threads")
	b.ReportMetric(median(whole), "speedup")
	b.ReportMetric(median(computed), "speedup-compute")
}
