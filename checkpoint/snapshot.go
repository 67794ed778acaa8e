package checkpoint

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/agrdist/agrdist/nn/weights"
)

// Tensor is a named array of float32 in PyTorch's layout and order. In the optimizer
// state its name is SLOT.KEY.
type Tensor = weights.Tensor

// Snapshot is the state of a run between two steps.
type Snapshot struct {
	Step       int64  // steps done
	Updates    int64  // updates applied: steps less the skipped ones
	Seed       uint64 // of the run
	ConfigHash string // of what determines the result
	DataCursor uint64 // the next draw: Step x global batch
	Config     []byte // the resolved configuration, YAML; nil for none
	// UNetConfig and SchedulerConfig are the two documents of a diffusers
	// pipeline, JSON; nil for none. They make a checkpoint exportable alone.
	UNetConfig, SchedulerConfig []byte
	Meta                        map[string]string // free text for people

	Model     []Tensor
	EMA       []Tensor // empty, or the same names and shapes as Model
	Optimizer []Tensor // for each slot, SLOT.KEY for every KEY of Model
}

// ErrSnapshot is matched by errors about a snapshot that makes no sense.
var ErrSnapshot = errors.New("checkpoint: inconsistent snapshot")

// Validate checks that the three lists belong together.
func (s *Snapshot) Validate() error {
	if s.Step < 0 || s.Updates < 0 || s.Updates > s.Step {
		return fmt.Errorf("%w: step %d with %d updates", ErrSnapshot, s.Step, s.Updates)
	}
	for _, list := range [][]Tensor{s.Model, s.EMA, s.Optimizer} {
		for _, t := range list {
			if n, ok := elements(t.Shape); !ok || n != len(t.Data) {
				return fmt.Errorf("%w: %q has shape %v and %d elements", ErrSnapshot, t.Name, t.Shape, len(t.Data))
			}
		}
	}
	for k, v := range s.Meta {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return fmt.Errorf("%w: meta %q is not UTF-8", ErrSnapshot, k)
		}
	}
	if !utf8.ValidString(s.ConfigHash) {
		return fmt.Errorf("%w: the config hash is not UTF-8", ErrSnapshot)
	}
	return checkSets(s.Model, s.EMA, s.Optimizer)
}

func elements(shape []int) (int, bool) {
	n := 1
	for _, d := range shape {
		if d < 0 || d > 0 && n > (1<<56)/d {
			return 0, false
		}
		n *= d
	}
	return n, true
}

// checkSets looks at names and shapes only.
func checkSets(model, ema, optimizer []Tensor) error {
	if len(model) == 0 {
		return fmt.Errorf("%w: no model tensors", ErrSnapshot)
	}
	if err := unique(model); err != nil {
		return fmt.Errorf("%w: model: %w", ErrSnapshot, err)
	}
	if len(ema) > 0 {
		if err := CheckTensors(model, ema); err != nil {
			return fmt.Errorf("%w: ema: %w", ErrSnapshot, err)
		}
	}
	slots := map[string][]Tensor{}
	for _, t := range optimizer {
		slot, key, ok := strings.Cut(t.Name, ".")
		if !ok || slot == "" || key == "" {
			return fmt.Errorf("%w: optimizer: %q is not SLOT.KEY", ErrSnapshot, t.Name)
		}
		slots[slot] = append(slots[slot], Tensor{Name: key, Shape: t.Shape})
	}
	for _, t := range optimizer { // in the order given: the first error is always the same
		slot, _, _ := strings.Cut(t.Name, ".")
		if list := slots[slot]; list != nil {
			if err := CheckTensors(model, list); err != nil {
				return fmt.Errorf("%w: optimizer slot %q: %w", ErrSnapshot, slot, err)
			}
			delete(slots, slot)
		}
	}
	return nil
}

func unique(list []Tensor) error {
	seen := make(map[string]bool, len(list))
	for _, t := range list {
		if seen[t.Name] {
			return fmt.Errorf("%q occurs twice", t.Name)
		}
		seen[t.Name] = true
	}
	return nil
}

// CheckTensors tells whether got has the names and shapes of want, in any
// order; the error names the first tensor that is missing, unexpected or of
// another shape.
func CheckTensors(want, got []Tensor) error {
	if err := unique(got); err != nil {
		return err
	}
	have := make(map[string][]int, len(got))
	for _, t := range got {
		have[t.Name] = t.Shape
	}
	for _, t := range want {
		shape, ok := have[t.Name]
		if !ok {
			return fmt.Errorf("%q is missing", t.Name)
		}
		if !slices.Equal(shape, t.Shape) {
			return fmt.Errorf("%q has shape %v, not %v", t.Name, shape, t.Shape)
		}
		delete(have, t.Name)
	}
	for _, t := range got {
		if _, left := have[t.Name]; left {
			return fmt.Errorf("%q is not expected", t.Name)
		}
	}
	return nil
}

func sortedByName(list []Tensor) []Tensor {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b Tensor) int { return cmp.Compare(a.Name, b.Name) })
	return list
}
