package trainer

import (
	"fmt"
	"strings"

	"github.com/agrdist/agrdist/checkpoint"
)

// Snapshot copies the state into tensors under the model's diffusers keys and in
// PyTorch's layouts. buffer returns the memory for a name, n elements with any
// contents; nil allocates. What is not the state's to know (seed, configuration)
// is left for the caller to fill in.
func (s *State) Snapshot(buffer func(name string, n int) []float32) *checkpoint.Snapshot {
	if buffer == nil {
		buffer = func(_ string, n int) []float32 { return make([]float32, n) }
	}
	snap := &checkpoint.Snapshot{Step: s.Step, Updates: s.Updates, Meta: s.lineageMeta()}
	snap.Model = s.tensors("", flatValues, s.Values, buffer)
	if s.EMA != nil {
		snap.EMA = s.tensors("", flatEMA, s.EMA, buffer)
	}
	for _, slot := range s.Slots {
		snap.Optimizer = append(snap.Optimizer, s.tensors(slot.Name+".", slot.Name, slot.Float32s(), buffer)...)
	}
	return snap
}

// Names of flat slices in the buffers of Snapshot.
const (
	flatValues = "model"
	flatEMA    = "ema"
)

func (s *State) tensors(prefix, flat string, from []float32, buffer func(string, int) []float32) []checkpoint.Tensor {
	out := make([]checkpoint.Tensor, len(s.Layout))
	for i, p := range s.Layout {
		out[i] = checkpoint.Tensor{Name: prefix + p.Name, Shape: p.Shape, Data: buffer(flat+"/"+p.Name, p.Len)}
		p.ToTorch(out[i].Data, from[p.Off:p.Off+p.Len])
	}
	return out
}

// Restore takes a snapshot's state over. The error names the first tensor that
// does not fit; the state is then unchanged.
func (s *State) Restore(snap *checkpoint.Snapshot) error {
	model := make([]checkpoint.Tensor, len(s.Layout))
	var slots []checkpoint.Tensor
	for i, p := range s.Layout {
		model[i] = checkpoint.Tensor{Name: p.Name, Shape: p.Shape}
	}
	for _, slot := range s.Slots {
		for _, t := range model {
			slots = append(slots, checkpoint.Tensor{Name: slot.Name + "." + t.Name, Shape: t.Shape})
		}
	}
	ema := model
	if s.EMA == nil {
		ema = nil
	}
	for _, set := range []struct {
		what      string
		want, got []checkpoint.Tensor
	}{{"model", model, snap.Model}, {"EMA", ema, snap.EMA}, {"optimizer state", slots, snap.Optimizer}} {
		if err := checkpoint.CheckTensors(set.want, set.got); err != nil {
			return fmt.Errorf("the checkpoint's %s does not fit this run: %w", set.what, err)
		}
	}
	s.load("", s.Values, snap.Model)
	if s.EMA != nil {
		s.load("", s.EMA, snap.EMA)
	}
	for _, slot := range s.Slots {
		s.load(slot.Name+".", slot.Float32s(), snap.Optimizer)
	}
	s.Step, s.Updates, s.InARow, s.Generation = snap.Step, snap.Updates, 0, 0
	s.lineage = lineageOf(snap)
	s.Flushed()
	return nil
}

func (s *State) load(prefix string, flat []float32, from []checkpoint.Tensor) {
	data := make(map[string][]float32, len(s.Layout))
	for _, t := range from {
		if name, ok := strings.CutPrefix(t.Name, prefix); ok {
			data[name] = t.Data
		}
	}
	for _, p := range s.Layout {
		p.FromTorch(flat[p.Off:p.Off+p.Len], data[p.Name])
	}
}

// Digest is the model digest of the state (checkpoint.Digest).
func Digest(s *State) string { return checkpoint.Digest(s.Snapshot(nil)) }
