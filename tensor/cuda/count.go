//go:build cuda

package cuda

import (
	"cmp"
	"maps"
	"slices"
	"unsafe"

	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/tensor"
)

var _ tensor.Counter = (*Backend)(nil)

// counts is what the host has asked for; nil counts nothing.
type counts struct {
	operations map[what]*done
	total      tensor.Counts // without Operations
}

type what struct {
	class, name string
	own         bool
}

type done struct {
	calls int
	bytes int64
}

func newCounts() *counts { return &counts{operations: map[what]*done{}} }

// called adds calls of an operation outside of a graph, or to a recording.
func (c *counts) called(w what, calls int, bytes int64) {
	if c == nil {
		return
	}
	d := c.operations[w]
	if d == nil {
		d = &done{}
		c.operations[w] = d
	}
	d.calls += calls
	d.bytes += bytes
	c.total.Launches += calls
}

// replayed adds a launch of the graph that was recorded as r.
func (c *counts) replayed(r *counts, nodes int) {
	if c == nil {
		return
	}
	launches := c.total.Launches
	for w, d := range r.operations {
		c.called(w, d.calls, d.bytes)
	}
	c.total.Launches = launches
	c.total.Graphs++
	c.total.Nodes += nodes
}

// add adds what another one has counted.
func (c *counts) add(o *counts) {
	t, u := c.total, o.total
	for w, d := range o.operations {
		c.called(w, d.calls, d.bytes)
	}
	c.total = tensor.Counts{Launches: t.Launches + u.Launches, Graphs: t.Graphs + u.Graphs, Nodes: t.Nodes + u.Nodes, Waits: t.Waits + u.Waits}
}

func (c *counts) waited() {
	if c != nil {
		c.total.Waits++
	}
}

// Count implements tensor.Counter.
func (b *Backend) Count() {
	b.counts = newCounts()
	b.lane.mu.Lock()
	defer b.lane.mu.Unlock()
	b.lane.counts = newCounts()
}

// Counts implements tensor.Counter.
func (b *Backend) Counts() tensor.Counts {
	if b.counts == nil {
		return tensor.Counts{}
	}
	sum := newCounts()
	sum.add(b.counts)
	b.lane.mu.Lock()
	sum.add(b.lane.counts)
	b.lane.mu.Unlock()
	all := sum.total
	for _, w := range slices.SortedFunc(maps.Keys(sum.operations), func(x, y what) int {
		return cmp.Or(cmp.Compare(x.class, y.class), cmp.Compare(x.name, y.name))
	}) {
		d := sum.operations[w]
		all.Operations = append(all.Operations, tensor.Operation{Class: w.class, Name: w.name, Own: w.own, Calls: d.calls, Bytes: d.bytes})
	}
	return all
}

// countCall counts a call of a library that reads and writes these parts, each once.
func (b *Backend) countCall(class, name string, parts ...*part) {
	if b.counts == nil {
		return
	}
	bytes := int64(0)
	for _, p := range parts {
		bytes += int64(p.n) * int64(p.dtype.Size())
	}
	b.counts.called(what{class: class, name: name}, 1, bytes)
}

// copyWithin copies device memory.
func (q *queue) copyWithin(dst, src cu.DevicePtr, bytes int64) error {
	q.counts.called(what{class: "copies", name: "device to device"}, 1, 2*bytes)
	return cu.MemcpyDtoDAsync(dst, src, bytes, q.stream)
}

// copyToDevice and copyToHost copy between pinned memory and the device's.
func (b *Backend) copyToDevice(dst cu.DevicePtr, src unsafe.Pointer, bytes int64, on cu.Stream) error {
	b.counts.called(what{class: "copies", name: "host to device"}, 1, bytes)
	return cu.MemcpyHtoDAsync(dst, src, bytes, on)
}

func (b *Backend) copyToHost(dst unsafe.Pointer, src cu.DevicePtr, bytes int64) error {
	b.counts.called(what{class: "copies", name: "device to host"}, 1, bytes)
	return cu.MemcpyDtoHAsync(dst, src, bytes, b.stream)
}

// synchronize waits for the stream of operations.
func (b *Backend) synchronize() error {
	b.counts.waited()
	err := b.stream.Synchronize()
	if err == nil {
		b.staging.drained()
	}
	return err
}
