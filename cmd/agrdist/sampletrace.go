package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/agrdist/agrdist/internal/grid"
)

// Frames of a trace: of an animation and of a strip at most so many, spread evenly over
// the steps, the noise and the result among them.
const (
	animationFrames = 60
	stripFrames     = 10
	// An animation takes about animationTime and rests on the result.
	animationTime = 4 * time.Second
	restTime      = 2 * time.Second
)

// trace draws how the images of the first batch come out of noise.
type trace struct {
	path   string
	strip  bool
	sheet        // of the first batch
	show   []int // steps that are drawn, ascending
	movie  grid.Animation
	states []float32 // for a strip: [frame, image, ...]
	err    error     // the first
}

// openTrace finds out whether the trace can be written.
func openTrace(path, form string, s sheet, calls int) (*trace, error) {
	if strings.ToLower(filepath.Ext(path)) != ".png" {
		return nil, &usageError{fmt.Errorf("--trace %s: its name must end in .png", path)}
	}
	t := &trace{path: path, sheet: s}
	frames := animationFrames
	switch form {
	case "animation":
	case "strip":
		t.strip, frames = true, stripFrames
	default:
		return nil, &usageError{fmt.Errorf("--trace-as is %q; choose animation or strip", form)}
	}
	frames = min(frames, calls+1)
	for i := range frames {
		t.show = append(t.show, (i*calls+(frames-1)/2)/max(frames-1, 1))
	}
	if _, err := grid.Bytes(t.images(), s.size, s.size, s.channels, t.layout()); err != nil {
		return nil, fmt.Errorf("--trace %s: %w", path, err)
	}
	if err := writable(path); err != nil {
		return nil, fmt.Errorf("--trace %s: %w", path, err)
	}
	return t, nil
}

// images is how many are in one drawing.
func (t *trace) images() int {
	if t.strip {
		return t.count * len(t.show)
	}
	return t.count
}

func (t *trace) layout() grid.Options {
	if t.strip {
		return grid.Options{Columns: len(t.show)}
	}
	return grid.Options{}
}

// see takes the images after a step; 0 is noise.
func (t *trace) see(images []float32, done, total int) {
	if t.err != nil || !slices.Contains(t.show, done) {
		return
	}
	if t.strip {
		t.states = append(t.states, images...)
		return
	}
	shown := max(animationTime/time.Duration(len(t.show)), 20*time.Millisecond)
	if done == total {
		shown = restTime
	}
	t.err = t.movie.Add(images, t.count, t.size, t.size, t.channels, grid.Options{}, shown)
}

// write puts the trace in its place.
func (t *trace) write() error {
	if t.err == nil && t.strip {
		rows := make([]float32, 0, len(t.states))
		for i := range t.count {
			for f := range t.show {
				rows = append(rows, t.states[(f*t.count+i)*t.each():][:t.each()]...)
			}
		}
		t.err = grid.WriteFile(t.path, rows, t.images(), t.size, t.size, t.channels, t.layout())
	} else if t.err == nil {
		t.err = t.movie.WriteFile(t.path)
	}
	if t.err != nil {
		return fmt.Errorf("--trace %s: %w", t.path, t.err)
	}
	return nil
}
