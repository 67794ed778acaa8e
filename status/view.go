package status

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/agrdist/agrdist/cluster"
)

// Health is the answer to "is my run all right?".
type Health string

// The healths of a run.
const (
	Healthy Health = "healthy" // it trains
	Waiting Health = "waiting" // it waits for workers or recovers
	Stuck   Health = "stuck"   // nobody has made progress for long
	Over    Health = "over"    // it has ended
)

// ExitCode is what `agrdist status` exits with: 0 healthy, 3 waiting, 4 stuck, 5 over.
func (h Health) ExitCode() int {
	switch h {
	case Healthy:
		return 0
	case Waiting:
		return 3
	case Stuck:
		return 4
	case Over:
		return 5
	}
	return 1
}

// View is a run as JSON shows it.
type View struct {
	Run        string  `json:"run"`
	Health     Health  `json:"health"`
	State      string  `json:"state"`
	Detail     string  `json:"detail,omitempty"` // what is awaited and from whom, or how it ended
	Step       int64   `json:"step"`
	TotalSteps int64   `json:"total_steps,omitempty"`
	Generation uint64  `json:"generation,omitempty"`
	Reason     string  `json:"generation_reason,omitempty"`
	Loss       float64 `json:"loss,omitempty"`
	GradNorm   float64 `json:"grad_norm,omitempty"`
	LR         float64 `json:"lr,omitempty"`
	// ImagesPerSecond is of the newest step; ETASeconds follows from it.
	ImagesPerSecond float64 `json:"images_per_s,omitempty"`
	ETASeconds      float64 `json:"eta_s,omitempty"`

	Measured *Measured `json:"measured,omitempty"`

	Restarts     int    `json:"restarts"`      // within the window of the budget
	RestartsLeft int    `json:"restarts_left"` // -1: no limit
	Checkpoint   string `json:"checkpoint,omitempty"`
	// CheckpointStep is the step of the newest checkpoint, -1 where there is none;
	// CheckpointAge its age in seconds.
	CheckpointStep int64   `json:"checkpoint_step"`
	CheckpointAge  float64 `json:"checkpoint_age_s,omitempty"`
	Digest         string  `json:"model_digest,omitempty"`
	Live           bool    `json:"live"` // from the coordinator; otherwise from the files alone
	// Age is how old the newest event is, in seconds, where the run is not live.
	Age float64 `json:"age_s,omitempty"`

	Workers []WorkerView `json:"workers,omitempty"` // by rank, then those that wait
	Nodes   []NodeView   `json:"nodes,omitempty"`
}

// WorkerView is one worker.
type WorkerView struct {
	Name      string  `json:"name"` // node/slot
	Node      string  `json:"node"`
	Host      string  `json:"host,omitempty"`
	Topology  string  `json:"topology,omitempty"` // where the node is: cluster.topology
	PID       int     `json:"pid,omitempty"`
	Rank      int     `json:"rank"`            // -1: not in the generation
	Spare     bool    `json:"spare,omitempty"` // it holds the state, or copies it, and computes nothing
	Step      int64   `json:"step"`
	Phase     string  `json:"phase"`
	Bucket    int     `json:"bucket"`
	Seen      float64 `json:"seen_s"`     // since its last word
	Progress  float64 `json:"progress_s"` // since its step, phase or bucket changed
	Connected bool    `json:"connected"`
	Broken    string  `json:"broken,omitempty"`
	// How it spent its last steps, in milliseconds a step; compute includes data.
	Data    float64 `json:"data_ms,omitempty"`
	Compute float64 `json:"compute_ms,omitempty"`
	Wait    float64 `json:"wait_ms,omitempty"`
	// Ratio is its time for a chunk against the median of all ranks: 1 is normal, a
	// straggler is above Straggles.
	Ratio float64 `json:"ratio,omitempty"`
	// Slow says why, where Ratio is above Straggles.
	Slow  string    `json:"slow,omitempty"`
	Usage UsageView `json:"usage"`
}

// Measured is what the newest step that was measured tells; see docs/events.md. A number
// that is not known is null.
type Measured struct {
	Step        int64    `json:"step"`
	LossLow     *float64 `json:"loss_t_low"`
	LossMid     *float64 `json:"loss_t_mid"`
	LossHigh    *float64 `json:"loss_t_high"`
	UpdateNorm  *float64 `json:"update_norm"`
	ParamNorm   *float64 `json:"param_norm"`
	EMADistance *float64 `json:"ema_distance"`
	AGR         *float64 `json:"agr_coefficient"`
}

// Straggles is the ratio from which on a worker is called slow, as in NVIDIA's
// resiliency extension.
const Straggles = 1.5

// NodeView is one node's agent.
type NodeView struct {
	Name      string `json:"name"`
	Host      string `json:"host,omitempty"`
	Slots     int    `json:"slots"`
	Connected bool   `json:"connected"`
	// Secrets are the fingerprints of the run's secrets that it accepts, with a space in
	// between; the first is in use.
	Secrets string `json:"secrets,omitempty"`
}

// stuckAfter is how long no worker may change its step, phase or bucket before a
// run is called stuck: more than any single phase of a healthy step takes.
const stuckAfter = 60 * time.Second

// FromCluster makes the view of a live run. batch is the global batch, for the ETA; 0
// where it is not known.
func FromCluster(name string, s cluster.Status, batch int) View {
	v := View{
		Run: name, State: string(s.State), Detail: s.Detail, Step: s.Step, TotalSteps: s.TotalSteps,
		Generation: s.Generation.Number, Reason: s.Generation.Reason,
		Loss: finite(s.Loss), GradNorm: finite(s.GradNorm), LR: finite(s.LR), ImagesPerSecond: finite(s.ImagesPerSecond),
		Restarts: s.Restarts, RestartsLeft: -1, CheckpointStep: -1, Live: true,
	}
	if s.MaxRestarts >= 0 {
		v.RestartsLeft = max(0, s.MaxRestarts-s.Restarts)
	}
	if left := s.TotalSteps - s.Step; batch > 0 && left > 0 && v.ImagesPerSecond > 0 {
		v.ETASeconds = float64(left) * float64(batch) / v.ImagesPerSecond
	}
	least := time.Duration(math.MaxInt64)
	ratios := ratiosOf(s.Workers)
	for i, w := range s.Workers {
		if w.Rank >= 0 {
			least = min(least, w.ProgressAgo)
		}
		view := WorkerView{
			Name: w.Member.Seat(), Node: w.Member.Node, Host: w.Member.Host, Topology: w.Member.Topology, PID: w.Member.PID, Rank: w.Rank, Spare: s.Spare(w),
			Step: w.Report.Step, Phase: w.Report.Phase, Bucket: w.Report.Bucket,
			Data: w.Report.DataMillis, Compute: w.Report.ComputeMillis, Wait: w.Report.WaitMillis, Ratio: ratios[i],
			Seen: seconds(w.SeenAgo), Progress: seconds(w.ProgressAgo), Connected: w.Connected, Broken: w.Report.Broken,
			Usage: usageView(w.Report.Usage),
		}
		if view.Ratio > Straggles {
			view.Slow = view.because()
		}
		v.Workers = append(v.Workers, view)
	}
	for _, a := range s.Agents {
		v.Nodes = append(v.Nodes, NodeView{Name: a.Node, Host: a.Host, Slots: a.Slots, Connected: a.Connected, Secrets: a.Secrets})
	}
	switch s.State {
	case cluster.StateOver:
		v.Health = Over
	case cluster.StateRunning, cluster.StateStopping, cluster.StateFinishing:
		v.Health = Healthy
		if least != math.MaxInt64 && least > stuckAfter {
			v.Health = Stuck
			v.Detail = slowest(v.Workers)
		}
	default:
		v.Health = Waiting
	}
	return v
}

// ratiosOf is each rank's time for a chunk against the median; 0 where it has none.
func ratiosOf(workers []cluster.WorkerStatus) []float64 {
	own := make([]float64, len(workers))
	var all []float64
	for i, w := range workers {
		if w.Rank >= 0 && w.Report.Chunks > 0 && w.Report.ComputeMillis > 0 {
			own[i] = w.Report.ComputeMillis / float64(w.Report.Chunks)
			all = append(all, own[i])
		}
	}
	if len(all) == 0 {
		return own
	}
	slices.Sort(all)
	median := (all[(len(all)-1)/2] + all[len(all)/2]) / 2
	for i := range own {
		own[i] = math.Round(100*own[i]/median) / 100
	}
	return own
}

// slowest names who has not moved for longest among those that do not wait for
// others, or among all.
func slowest(workers []WorkerView) string {
	own := make([]WorkerView, 0, len(workers))
	for _, w := range workers {
		if w.Rank >= 0 && w.Phase != cluster.PhaseAllReduce && w.Phase != cluster.PhaseBarrier {
			own = append(own, w)
		}
	}
	if len(own) == 0 {
		return "all workers wait for one another"
	}
	sort.SliceStable(own, func(i, j int) bool { return own[i].Progress > own[j].Progress })
	w := own[0]
	return fmt.Sprintf("waiting for rank %d (%s): in %s of step %d for %s", w.Rank, w.Name, w.Phase, w.Step+1, roundSeconds(w.Progress))
}

// Text is the view for a terminal.
func (v View) Text() string {
	var b strings.Builder
	line := func(key, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", key, fmt.Sprintf(format, args...))
	}
	state := string(v.Health)
	if v.State != "" && v.State != state {
		state += " (" + v.State + ")"
	}
	line("run", "%s  %s", v.Run, state)
	if v.Detail != "" {
		line("", "%s", v.Detail)
	}
	switch {
	case v.TotalSteps > 0:
		line("step", "%d of %d (%.1f %%)", v.Step, v.TotalSteps, 100*float64(max(v.Step, 0))/float64(v.TotalSteps))
	default:
		line("step", "%d", v.Step)
	}
	if v.Loss != 0 {
		line("loss", "%.4f", v.Loss)
	}
	if m := v.Measured; m != nil {
		line("by timestep", "low %s  mid %s  high %s  (step %d)", optional(m.LossLow), optional(m.LossMid), optional(m.LossHigh), m.Step)
		line("update", "norm %s  EMA distance %s  AGR coefficient %s", optional(m.UpdateNorm), optional(m.EMADistance), optional(m.AGR))
	}
	if v.ImagesPerSecond > 0 {
		eta := ""
		if v.ETASeconds > 0 {
			eta = "  ETA " + roundSeconds(v.ETASeconds)
		}
		line("speed", "%.0f images/s%s", v.ImagesPerSecond, eta)
	}
	if v.Generation > 0 {
		line("generation", "%d: %s", v.Generation, v.Reason)
	}
	if v.Live {
		left := "no limit"
		if v.RestartsLeft >= 0 {
			left = fmt.Sprintf("%d left", v.RestartsLeft)
		}
		line("restarts", "%d (%s)", v.Restarts, left)
	}
	if v.CheckpointStep >= 0 {
		line("checkpoint", "step %d, %s ago  %s", v.CheckpointStep, roundSeconds(v.CheckpointAge), v.Checkpoint)
	}
	if v.Digest != "" {
		line("digest", "%s", v.Digest)
	}
	for _, text := range v.secrets() {
		line("secret", "%s", text)
	}
	if !v.Live && v.Age > 0 {
		line("last event", "%s ago", roundSeconds(v.Age))
	}
	if len(v.Workers) > 0 {
		fmt.Fprintf(&b, "\n%-5s %-20s %-8s %-10s %-12s %-6s %-9s %-9s %-6s %-8s %s\n",
			"rank", "worker", "pid", "step", "phase", "bucket", "compute", "wait", "ratio", "memory", "unchanged for")
		for _, w := range v.Workers {
			rank := w.place()
			note := roundSeconds(w.Progress)
			if w.Slow != "" {
				note += "  slow: " + w.Slow
			}
			if !w.Connected {
				note += "  not connected"
			}
			fmt.Fprintf(&b, "%-5s %-20s %-8d %-10d %-12s %-6d %-9s %-9s %-6.2f %-8s %s\n",
				rank, w.Name, w.PID, w.Step, w.Phase, w.Bucket, millis(w.Compute), millis(w.Wait), w.Ratio, size(w.Usage.RSS), note)
		}
	}
	return b.String()
}

// secrets says which of the run's secrets the nodes use and accept: one line where all are
// alike, else one for each kind. A run of one node that has one secret says nothing.
func (v View) secrets() (lines []string) {
	by := map[string][]string{}
	for _, n := range v.Nodes {
		if n.Secrets != "" {
			by[n.Secrets] = append(by[n.Secrets], n.Name)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(by)) {
		use, also, two := strings.Cut(kind, " ")
		text := use + " in use"
		if two {
			text += ", " + also + " accepted"
		}
		switch nodes := by[kind]; {
		case len(by) > 1:
			text += " on " + strings.Join(nodes, ", ")
		case len(v.Nodes) == 1 && !two:
			return nil
		default:
			text += fmt.Sprintf(" on %d of %d nodes", len(nodes), len(v.Nodes))
		}
		lines = append(lines, text)
	}
	return lines
}

// place is what people read for a rank.
func (w WorkerView) place() string {
	switch {
	case w.Rank < 0:
		return "waits"
	case w.Spare:
		return "spare"
	}
	return fmt.Sprint(w.Rank)
}

func optional(x *float64) string {
	if x == nil {
		return "–"
	}
	return fmt.Sprintf("%.4g", *x)
}

// size is a number of bytes for people.
func size(n uint64) string {
	if n == 0 {
		return "–"
	}
	return fmt.Sprintf("%.0f MB", float64(n)/1e6)
}

func millis(ms float64) string { return fmt.Sprintf("%.0f ms", ms) }

func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }

func roundSeconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// finite is x, or 0 where JSON has no form of it.
func finite(x float64) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0
	}
	return x
}
