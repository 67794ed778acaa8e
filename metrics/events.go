package metrics

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// Names of events.
const (
	EventStart      = "start"
	EventStep       = "step"
	EventSkip       = "skip"
	EventGeneration = "generation"
	EventCheckpoint = "checkpoint"
	EventSample     = "sample"
	EventEval       = "eval"
	EventStop       = "stop"
	EventFinish     = "finish"
)

// Event is one line of events.jsonl. Fields that do not belong to an event's
// kind are left out.
type Event struct {
	Event string `json:"event"`
	Time  string `json:"time"`
	Step  int64  `json:"step"` // steps committed

	Loss            *float64 `json:"loss,omitempty"`
	GradNorm        *float64 `json:"grad_norm,omitempty"`
	LR              *float64 `json:"lr,omitempty"`
	ImagesPerSecond float64  `json:"images_per_s,omitempty"`
	StepMillis      float64  `json:"step_ms,omitempty"`
	AGR             *float64 `json:"agr_coefficient,omitempty"`

	// Of steps that were measured.
	LossLow     *float64  `json:"loss_t_low,omitempty"` // by thirds of the timesteps
	LossMid     *float64  `json:"loss_t_mid,omitempty"`
	LossHigh    *float64  `json:"loss_t_high,omitempty"`
	UpdateNorm  *float64  `json:"update_norm,omitempty"`
	ParamNorm   *float64  `json:"param_norm,omitempty"`
	EMADistance *float64  `json:"ema_distance,omitempty"`
	Data        []float64 `json:"data_ms,omitempty"` // by rank, as the next three
	Compute     []float64 `json:"compute_ms,omitempty"`
	Wait        []float64 `json:"wait_ms,omitempty"`
	RSS         []uint64  `json:"rss_bytes,omitempty"`

	WorldSize  int    `json:"world_size,omitempty"`
	Generation uint64 `json:"generation,omitempty"`

	Members []string `json:"members,omitempty"`
	Spares  int      `json:"spares,omitempty"` // so many of the last members compute nothing
	Reason  string   `json:"reason,omitempty"`
	Path    string   `json:"path,omitempty"`

	HeldOutLoss   *float64 `json:"heldout_loss,omitempty"`
	HeldOutStdErr *float64 `json:"heldout_stderr,omitempty"` // over images
	Images        int      `json:"images,omitempty"`         // that it was measured on
	Weights       string   `json:"weights,omitempty"`        // ema or raw

	Chunks []int   `json:"chunks,omitempty"` // of a skip: whose loss was not finite
	Draws  []int64 `json:"draws,omitempty"`  // first sample draw of each
	InARow int     `json:"in_a_row,omitempty"`

	Steps       int64  `json:"steps,omitempty"`
	ModelDigest string `json:"model_digest,omitempty"`

	Version    string `json:"version,omitempty"`
	ConfigHash string `json:"config_hash,omitempty"`
	Backend    string `json:"backend,omitempty"`
	Parameters int    `json:"parameters,omitempty"`
	Order      string `json:"allreduce_order,omitempty"`
	Transport  string `json:"allreduce_transport,omitempty"` // host, nccl and its version, ...
	ResumedAt  *int64 `json:"resumed_at,omitempty"`
}

// Log appends events to a file. The nil Log drops them.
type Log struct {
	path string

	mu sync.Mutex
	f  *os.File // nil: nothing was written yet
}

// New returns the log of the file at path, which the first event opens or makes:
// of a run's workers only rank 0 writes any.
func New(path string) *Log { return &Log{path: path} }

// open opens the file for appending. A last line that was cut short (a full disk,
// a power cut) is closed first, so that the next event starts on a line of its
// own.
func (l *Log) open() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("metrics: open events: %w", err)
	}
	if info, err := f.Stat(); err == nil && info.Size() > 0 {
		var last [1]byte
		if _, err := f.ReadAt(last[:], info.Size()-1); err == nil && last[0] != '\n' {
			if _, err := f.Write([]byte{'\n'}); err != nil {
				return errors.Join(fmt.Errorf("metrics: complete the last line of %s: %w", l.path, err), f.Close())
			}
		}
	}
	l.f = f
	return nil
}

// timeLayout is RFC 3339 with milliseconds.
const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// stamp gives an event the time of now, unless it has one.
func stamp(e *Event) {
	if e.Time == "" {
		e.Time = time.Now().UTC().Format(timeLayout)
	}
}

// When parses the event's time; the zero time where it has none.
func (e Event) When() time.Time {
	t, err := time.Parse(timeLayout, e.Time)
	if err != nil {
		return time.Time{}
	}
	return t
}

// Write stamps an event and appends it in one write.
func (l *Log) Write(e Event) error {
	if l == nil {
		return nil
	}
	stamp(&e)
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("metrics: %s event: %w", e.Event, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		if err := l.open(); err != nil {
			return err
		}
	}
	if _, err := l.f.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("metrics: write %s: %w", l.f.Name(), err)
	}
	return nil
}

// Close closes the file; a later event opens it again, or makes a new one. Closing the
// nil Log is fine.
func (l *Log) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	f := l.f
	l.f = nil
	return f.Close()
}

// Finite returns a pointer to x, or nil where x has no form in JSON.
func Finite(x float64) *float64 {
	if x-x != 0 { // NaN or infinite
		return nil
	}
	return &x
}
