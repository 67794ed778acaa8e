package status

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/agrdist/agrdist/metrics"
)

// exporter makes Prometheus metrics of a run from its view and its events at the
// moment of a scrape. Names and units follow prometheus.io/docs/practices/naming.
type exporter struct {
	run   *Run
	tally tally
}

// scrapeTimeout bounds how long a scrape waits for the coordinator.
const scrapeTimeout = 2 * time.Second

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("agrdist_"+name, help, labels, nil)
}

var (
	descStep       = desc("step", "Steps committed.")
	descTotal      = desc("steps_planned", "Steps that the run is to take.")
	descImages     = desc("images_total", "Training images of the committed steps.")
	descLoss       = desc("loss", "Training loss of the newest step.")
	descNorm       = desc("gradient_norm", "Global gradient norm of the newest step, before clipping.")
	descLR         = desc("learning_rate", "Learning rate of the newest step.")
	descThird      = desc("loss_by_timestep", "Training loss of the newest measured step, of the images in a third of the timesteps: low, mid, high.", "timesteps")
	descUpdate     = desc("update_norm", "L2 norm of the change of the parameters by the newest measured step.")
	descParams     = desc("parameter_norm", "L2 norm of the parameters after the newest measured step.")
	descEMA        = desc("ema_distance_ratio", "L2 norm of the difference of parameters and moving average, over that of the parameters.")
	descAGR        = desc("agr_coefficient", "The gradient's L1 norm after AGR over that before it, of the newest measured step.")
	descSpeed      = desc("images_per_second", "Training images per second of the newest step.")
	descGeneration = desc("generation", "Number of the current generation.")
	descWorkers    = desc("workers", "Worker processes by state: training, spare, waiting, disconnected.", "state")
	descHealth     = desc("health", "1 for the run's health: healthy, waiting, stuck or over.", "health")
	descRestarts   = desc("restarts_recent", "Restarts of workers within the window of the restart budget.")
	descLeft       = desc("restarts_left", "Restarts left in the budget; absent where there is no limit.")
	descLast       = desc("last_step_timestamp_seconds", "When the newest step event was written.")
	descCkptStep   = desc("checkpoint_step", "Step of the newest checkpoint.")
	descCkptTime   = desc("checkpoint_timestamp_seconds", "When the newest checkpoint became durable.")
	descCompute    = desc("worker_compute_seconds", "Time of a step until the worker's own gradient is complete, that for images included; mean over about ten steps.", "worker", "rank")
	descData       = desc("worker_data_seconds", "Time of a step spent waiting for images; mean over about ten steps.", "worker", "rank")
	descWait       = desc("allreduce_wait_seconds", "Time of a step spent waiting for the other ranks; mean over about ten steps.", "worker", "rank")
	descRatio      = desc("worker_slowness_ratio", "Time for a chunk against the median of all ranks; a straggler is above 1.5.", "worker", "rank")
	descRSS        = desc("worker_resident_memory_bytes", "Resident memory of the worker's process.", "worker", "rank")
	descArena      = desc("worker_arena_bytes", "Memory for intermediate values of forward and backward.", "worker", "rank")
	descThrottled  = desc("worker_cpu_throttled_ratio", "Share of the periods in which the CPU limit of its cgroup held the worker back.", "worker", "rank")
	descRunnable   = desc("worker_cpu_wait_ratio", "Thread seconds a second in which the worker could run and others had its CPUs.", "worker", "rank")
	descSteal      = desc("worker_cpu_steal_ratio", "Share of its host's CPU time that the hypervisor gave to others.", "worker", "rank")
	descFaults     = desc("worker_major_faults_per_second", "Page faults that waited for a disk.", "worker", "rank")
	descPreempted  = desc("worker_preemptions_per_second", "Involuntary context switches.", "worker", "rank")
	descResent     = desc("worker_tcp_retransmits_per_second", "TCP segments that the worker's host sent again.", "worker", "rank")
	descStill      = desc("worker_unchanged_seconds", "Time since a worker's step, phase or bucket changed.", "worker", "rank", "phase")
)

// Metrics returns the handler of /metrics for a run, with the Go runtime's and the
// process's own metrics.
func Metrics(r *Run) http.Handler {
	r.prepare()
	e := &exporter{run: r, tally: r.history.tally}
	registry := prometheus.NewRegistry()
	registry.MustRegister(e, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 2 * scrapeTimeout})
}

// Describe describes what is always there; the rest depends on the run's state.
func (e *exporter) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descThird, descUpdate, descParams, descEMA, descAGR,
		descRSS, descArena, descThrottled, descRunnable, descSteal, descFaults, descPreempted, descResent,
		descStep, descTotal, descImages, descLoss, descNorm, descLR, descSpeed, descGeneration,
		descWorkers, descHealth, descRestarts, descLeft, descLast, descCkptStep, descCkptTime, descCompute, descData, descWait, descRatio, descStill,
	} {
		c <- d
	}
	e.tally.durations.Describe(c)
	e.tally.skipped.Describe(c)
}

// Collect looks at the run.
func (e *exporter) Collect(c chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	v, err := e.run.look(ctx)
	if err != nil {
		c <- prometheus.NewInvalidMetric(descStep, err)
		return
	}
	e.tally.durations.Collect(c)
	e.tally.skipped.Collect(c)
	gauge := func(d *prometheus.Desc, x float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, x, labels...)
	}
	gauge(descStep, float64(max(v.Step, 0)))
	gauge(descTotal, float64(v.TotalSteps))
	if e.run.Batch > 0 {
		c <- prometheus.MustNewConstMetric(descImages, prometheus.CounterValue, float64(max(v.Step, 0))*float64(e.run.Batch))
	}
	gauge(descGeneration, float64(v.Generation))
	gauge(descRestarts, float64(v.Restarts))
	if v.RestartsLeft >= 0 {
		gauge(descLeft, float64(v.RestartsLeft))
	}
	for _, h := range []Health{Healthy, Waiting, Stuck, Over} {
		is := 0.0
		if v.Health == h {
			is = 1
		}
		gauge(descHealth, is, string(h))
	}
	if v.Loss != 0 || v.GradNorm != 0 {
		gauge(descLoss, v.Loss)
		gauge(descNorm, v.GradNorm)
		gauge(descLR, v.LR)
		gauge(descSpeed, v.ImagesPerSecond)
	}
	measured(v.Measured, gauge)
	if !v.lastStep.IsZero() {
		gauge(descLast, float64(v.lastStep.UnixMilli())/1000)
	}
	if v.CheckpointStep >= 0 {
		gauge(descCkptStep, float64(v.CheckpointStep))
		gauge(descCkptTime, float64(time.Now().UnixMilli())/1000-v.CheckpointAge)
	}
	e.workers(v.View, gauge)
}

// measured tells what only some steps measure.
func measured(m *Measured, gauge func(d *prometheus.Desc, x float64, labels ...string)) {
	if m == nil {
		return
	}
	for _, p := range []struct {
		d      *prometheus.Desc
		x      *float64
		labels []string
	}{
		{descThird, m.LossLow, []string{"low"}},
		{descThird, m.LossMid, []string{"mid"}},
		{descThird, m.LossHigh, []string{"high"}},
		{descUpdate, m.UpdateNorm, nil},
		{descParams, m.ParamNorm, nil},
		{descEMA, m.EMADistance, nil},
		{descAGR, m.AGR, nil},
	} {
		if p.x != nil {
			gauge(p.d, *p.x, p.labels...)
		}
	}
}

func (e *exporter) workers(v View, gauge func(d *prometheus.Desc, x float64, labels ...string)) {
	states := map[string]int{"training": 0, "spare": 0, "waiting": 0, "disconnected": 0}
	for _, w := range v.Workers {
		switch {
		case !w.Connected:
			states["disconnected"]++
		case w.Spare:
			states["spare"]++
		case w.Rank >= 0:
			states["training"]++
		default:
			states["waiting"]++
		}
		if w.Rank >= 0 {
			rank := strconv.Itoa(w.Rank)
			gauge(descStill, w.Progress, w.Name, rank, w.Phase)
			gauge(descCompute, w.Compute/1000, w.Name, rank)
			gauge(descData, w.Data/1000, w.Name, rank)
			gauge(descWait, w.Wait/1000, w.Name, rank)
			gauge(descRatio, w.Ratio, w.Name, rank)
			gauge(descRSS, float64(w.Usage.RSS), w.Name, rank)
			gauge(descArena, float64(w.Usage.Arena), w.Name, rank)
			gauge(descThrottled, w.Usage.Throttled, w.Name, rank)
			gauge(descRunnable, w.Usage.Runnable, w.Name, rank)
			gauge(descSteal, w.Usage.Steal, w.Name, rank)
			gauge(descFaults, w.Usage.MajorFaults, w.Name, rank)
			gauge(descPreempted, w.Usage.Preempted, w.Name, rank)
			gauge(descResent, w.Usage.Retransmits, w.Name, rank)
		}
	}
	for state, n := range states {
		gauge(descWorkers, float64(n), state)
	}
}

// tally counts events. Where the history is cut (steps that are taken again), what was
// counted stays counted: counters do not go down.
type tally struct {
	durations prometheus.Histogram
	skipped   prometheus.Counter
}

func newTally() tally {
	return tally{
		durations: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "agrdist_step_duration_seconds", Help: "Duration of the steps that have an event.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 14),
		}),
		skipped: prometheus.NewCounter(prometheus.CounterOpts{Name: "agrdist_steps_skipped_total", Help: "Steps skipped since their loss or gradient was not finite."}),
	}
}

func (t tally) add(e *metrics.Event) {
	switch e.Event {
	case metrics.EventStep:
		t.durations.Observe(e.StepMillis / 1000)
	case metrics.EventSkip:
		t.skipped.Inc()
	}
}
