package checkpoint

import (
	"bytes"
	"maps"
	"slices"
)

// Staging is one set of buffers that a state is copied into at the end of a
// step, so that training continues while the copy is written. The buffers are
// allocated once, at their first use. Not safe for concurrent use; a store
// lends out its own (see SaveAsyncFunc).
type Staging struct {
	buffers map[string][]float32
}

// Buffer returns the buffer of that name, n elements with any contents. A
// caller whose layout differs from the file's converts straight into it.
func (g *Staging) Buffer(name string, n int) []float32 {
	if b, ok := g.buffers[name]; ok && len(b) == n {
		return b
	}
	if g.buffers == nil {
		g.buffers = map[string][]float32{}
	}
	b := make([]float32, n)
	g.buffers[name] = b
	return b
}

// Copy returns a copy of s that shares no memory with it; it is good until the
// next Copy.
func (g *Staging) Copy(s *Snapshot) *Snapshot {
	c := *s
	c.Config = bytes.Clone(s.Config)
	c.UNetConfig = bytes.Clone(s.UNetConfig)
	c.SchedulerConfig = bytes.Clone(s.SchedulerConfig)
	c.Meta = maps.Clone(s.Meta)
	c.Model = g.copyList("model/", s.Model)
	c.EMA = g.copyList("ema/", s.EMA)
	c.Optimizer = g.copyList("optimizer/", s.Optimizer)
	return &c
}

func (g *Staging) copyList(prefix string, list []Tensor) []Tensor {
	out := make([]Tensor, len(list))
	for i, t := range list {
		out[i] = Tensor{Name: t.Name, Shape: slices.Clone(t.Shape), Data: g.Buffer(prefix+t.Name, len(t.Data))}
		copy(out[i].Data, t.Data)
	}
	return out
}
