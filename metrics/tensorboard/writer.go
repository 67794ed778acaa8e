package tensorboard

import (
	"bytes"
	"fmt"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/agrdist/agrdist/metrics"
)

// Config says what a Writer writes besides events.
type Config struct {
	Dir string // of the event files, RUN/tb; made when needed
	// RunDir is where relative paths of sample grids begin.
	RunDir string
	// Run names the run in TensorBoard's table of hyperparameters.
	Run string
	// HParams are the settings to compare runs by: numbers, booleans and text.
	HParams map[string]any
	// Settings is the whole configuration, shown as text.
	Settings string
}

// Writer is a metrics.Sink of TensorBoard's event files. Its file is made by the
// first event: of a run's workers only rank 0 writes any.
type Writer struct {
	cfg Config

	mu sync.Mutex
	f  *os.File
}

var _ metrics.Sink = (*Writer)(nil)

// New returns a writer of the directory cfg.Dir.
func New(cfg Config) *Writer { return &Writer{cfg: cfg} }

// Write writes what TensorBoard can show of an event.
func (w *Writer) Write(e metrics.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	when := e.When()
	if when.IsZero() {
		when = time.Now()
	}
	wall := float64(when.UnixMicro()) / 1e6
	values, err := w.values(e)
	if err != nil || len(values) == 0 && w.f != nil {
		return err
	}
	if w.f == nil {
		if err := w.open(when, wall, e); err != nil {
			return err
		}
	}
	if len(values) == 0 {
		return nil
	}
	return w.append(event(wall, e.Step, summary(values...)))
}

// values are the summaries of an event.
func (w *Writer) values(e metrics.Event) ([][]byte, error) {
	var values [][]byte
	add := func(tag string, v *float64) {
		if v != nil {
			values = append(values, scalar(tag, *v))
		}
	}
	positive := func(tag string, v float64) {
		if v > 0 {
			values = append(values, scalar(tag, v))
		}
	}
	switch e.Event {
	case metrics.EventStep:
		for _, c := range metrics.Columns {
			add(c.Tag, c.Value(e))
		}
		positive("run/world_size", float64(e.WorldSize))
	case metrics.EventSkip:
		positive("run/skipped_in_a_row", float64(e.InARow))
	case metrics.EventGeneration:
		positive("run/generation", float64(e.Generation))
	case metrics.EventEval:
		add("eval/heldout_loss", e.HeldOutLoss)
	case metrics.EventSample:
		p, err := w.grid(e.Path)
		if err != nil {
			return nil, err
		}
		values = append(values, p)
	}
	return values, nil
}

// grid reads a sample grid.
func (w *Writer) grid(path string) ([]byte, error) {
	if !filepath.IsAbs(path) {
		if _, err := os.Stat(path); err != nil {
			path = filepath.Join(w.cfg.RunDir, path)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("tensorboard: sample grid: %w", err)
	}
	c, err := png.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("tensorboard: sample grid %s: %w", path, err)
	}
	return picture("samples", c.Height, c.Width, 3, data), nil
}

// open begins a file with its version, the mark from which on it replaces what
// earlier files say, and the settings.
func (w *Writer) open(when time.Time, wall float64, first metrics.Event) error {
	if err := os.MkdirAll(w.cfg.Dir, 0o755); err != nil {
		return fmt.Errorf("tensorboard: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "host"
	}
	// TensorBoard reads the files of a directory in the order of their names.
	name := fmt.Sprintf("events.out.tfevents.%010d.%s.%d.%d", when.Unix(), host, os.Getpid(), when.Nanosecond())
	f, err := os.OpenFile(filepath.Join(w.cfg.Dir, name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("tensorboard: %w", err)
	}
	w.f = f
	step := first.Step
	if first.Event != metrics.EventStep && step > 0 {
		step++ // what happened at that step is told already; the next step is new
	}
	head := [][]byte{
		event(wall, 0, appendString(nil, eventFileVersion, "brain.Event:2")),
		event(wall, step, appendBytes(nil, eventSessionLog, appendInt(nil, sessionStatus, sessionStart))),
	}
	if step == 0 {
		if len(w.cfg.HParams) > 0 {
			names := slices.Sorted(maps.Keys(w.cfg.HParams))
			head = append(head, event(wall, 0, summary(hparams(names, w.cfg.HParams, w.cfg.Run, wall))))
		}
		if w.cfg.Settings != "" {
			head = append(head, event(wall, 0, summary(text("config", "```yaml\n"+w.cfg.Settings+"```\n"))))
		}
	}
	return w.append(head...)
}

// append writes records in one write, so that a reader sees whole ones.
func (w *Writer) append(events ...[]byte) error {
	var b []byte
	for _, e := range events {
		b = appendRecord(b, e)
	}
	if _, err := w.f.Write(b); err != nil {
		return fmt.Errorf("tensorboard: write %s: %w", w.f.Name(), err)
	}
	return nil
}

// Close closes the file, if there is one.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == nil {
		return nil
	}
	return w.f.Close()
}
