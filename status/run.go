package status

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/agrdist/agrdist/cluster"
)

// Run is a run that the server shows.
type Run struct {
	Name string
	Dir  string // with events.jsonl, samples/, logs/ and config.yaml
	// Status asks the coordinator; nil where only the files are at hand.
	Status func(ctx context.Context) (cluster.Status, error)
	// Batch is the global batch, for the ETA; 0 where it is not known.
	Batch int
	// Checkpoint and Stop carry out what a person asks for; nil: not offered.
	Checkpoint func(ctx context.Context) error
	Stop       func(ctx context.Context) error
	// Differs lists the settings that are not the defaults; nil: not shown.
	Differs func(yaml []byte) ([]Setting, error)

	history *history
}

// Setting is a key whose value is not the default.
type Setting struct {
	Key     string `json:"key"`
	Value   string `json:"value"`
	Default string `json:"default"`
}

// View is the run as it is now.
func (r *Run) View(ctx context.Context) (View, error) {
	g, err := r.look(ctx)
	return g.View, err
}

// look returns the view with what the events alone tell.
func (r *Run) look(ctx context.Context) (glance, error) {
	g, err := r.history.look(r.Name, time.Now())
	if err == nil {
		g.View = r.live(ctx, g.View)
	}
	return g, err
}

// live completes the files' view by what the coordinator says.
func (r *Run) live(ctx context.Context, v View) View {
	if r.Status == nil {
		return v
	}
	s, err := r.Status(ctx)
	if err != nil {
		v.Detail = "no answer from the coordinator: " + err.Error()
		if v.Health == Healthy {
			v.Health = Waiting
		}
		return v
	}
	live := FromCluster(r.Name, s, r.Batch)
	live.Checkpoint, live.CheckpointStep, live.CheckpointAge = v.Checkpoint, v.CheckpointStep, v.CheckpointAge
	live.Digest, live.Measured = v.Digest, v.Measured
	return live
}

// Sample is one grid of generated images.
type Sample struct {
	Step int64  `json:"step"`
	File string `json:"file"`
}

var stepFile = regexp.MustCompile(`^step-([0-9]{1,18})\.png$`)

// Samples lists the run's sample grids by step.
func (r *Run) Samples() ([]Sample, error) {
	entries, err := os.ReadDir(filepath.Join(r.Dir, "samples"))
	if errors.Is(err, fs.ErrNotExist) {
		return []Sample{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	out := []Sample{}
	for _, e := range entries {
		if m := stepFile.FindStringSubmatch(e.Name()); m != nil && e.Type().IsRegular() {
			step, err := strconv.ParseInt(m[1], 10, 64)
			if err == nil {
				out = append(out, Sample{step, e.Name()})
			}
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Step < out[j].Step })
	return out, nil
}

// Logs lists the names of the run's log files.
func (r *Run) Logs() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(r.Dir, "logs"))
	if errors.Is(err, fs.ErrNotExist) {
		return []string{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	out := []string{}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".log") && e.Type().IsRegular() {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// logWindow is how much of a log's end is searched.
const logWindow = 1 << 20

// Tail returns the last lines of a log that contain the filter.
func (r *Run) Tail(name string, lines int, filter string) ([]string, error) {
	names, err := r.Logs()
	if err != nil {
		return nil, err
	}
	known := false
	for _, n := range names {
		known = known || n == name
	}
	if !known {
		return nil, fmt.Errorf("status: the run has no log %q", name)
	}
	f, err := os.Open(filepath.Join(r.Dir, "logs", name))
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > logWindow {
		if _, err := f.Seek(-logWindow, io.SeekEnd); err != nil {
			return nil, fmt.Errorf("status: %w", err)
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, 2*logWindow))
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	out := []string{}
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		if filter == "" || strings.Contains(strings.ToLower(s.Text()), strings.ToLower(filter)) {
			out = append(out, strings.ToValidUTF8(s.Text(), "�"))
		}
	}
	if len(out) > lines {
		out = out[len(out)-lines:]
	}
	return out, nil
}

// Configuration is what a run trains.
type Configuration struct {
	YAML    string    `json:"yaml"`
	Differs []Setting `json:"differs"`
}

// Configuration reads RUN/config.yaml.
func (r *Run) Configuration() (Configuration, error) {
	text, err := os.ReadFile(filepath.Join(r.Dir, "config.yaml"))
	if errors.Is(err, fs.ErrNotExist) {
		return Configuration{Differs: []Setting{}}, nil
	}
	if err != nil {
		return Configuration{}, fmt.Errorf("status: %w", err)
	}
	c := Configuration{YAML: strings.ToValidUTF8(string(text), "�"), Differs: []Setting{}}
	if r.Differs != nil {
		if d, err := r.Differs(text); err == nil && d != nil {
			c.Differs = d
		}
	}
	return c, nil
}
