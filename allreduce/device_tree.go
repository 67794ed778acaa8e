package allreduce

import (
	"fmt"

	"github.com/agrdist/agrdist/tensor"
)

// Peers moves device memory between ranks. Everything is queued, and runs in the
// order of the calls; a NCCL communicator with its stream is one.
type Peers interface {
	// Exchange queues the Sends and Recvs that f calls as one step: none of them
	// waits for another.
	Exchange(f func() error) error
	Send(b tensor.Buffer, peer int) error
	Recv(b tensor.Buffer, peer int) error
}

// Lane is what DeviceTree needs of a backend: memory, and arithmetic that is
// queued behind the same Peers' exchanges.
type Lane interface {
	Alloc(dt tensor.DType, n int) (tensor.Buffer, error)
	Free(b tensor.Buffer)
	Slice(b tensor.Buffer, off, n int) tensor.Buffer
	Copy(dst, a tensor.Tensor)
	Add(dst, a, b tensor.Tensor)
}

// DeviceTree is AllReduce in OrderTree on device buffers, with the bits of a group
// of connections. It is the same reduce-scatter and all-gather: every rank sends
// its subtree sums of a slice to the slice's owner, the owner adds them in tree
// order, and sends the sum to all.
type DeviceTree struct {
	rank, world int
	prog        *Program
	lane        Lane

	room    int             // elements of a register
	memory  []tensor.Buffer // by register: staging of the others' leaves, and scratch; nil for the own leaves
	regs    []tensor.Buffer // the operation's view of them
	pending []tensor.Buffer // replaced by longer ones, perhaps still in use
}

// NewDeviceTree returns the tree of a rank. Memory is taken as vectors need it: a
// slice (the length / world) for each subtree sum of the other ranks.
func NewDeviceTree(p *Plan, rank int, lane Lane) *DeviceTree {
	p.check(rank)
	prog := p.Program()
	regs := prog.leaves + prog.scratch
	return &DeviceTree{
		rank: rank, world: p.world, prog: prog, lane: lane,
		memory: make([]tensor.Buffer, regs), regs: make([]tensor.Buffer, regs),
	}
}

// Reduce queues the sum of all ranks' parts into dst. parts and dst are as in
// Group.AllReduce, in F32.
func (t *DeviceTree) Reduce(peers Peers, parts []tensor.Buffer, dst tensor.Buffer) error {
	if want := t.prog.first[t.rank+1] - t.prog.first[t.rank]; len(parts) != want {
		panic(fmt.Sprintf("allreduce: %d parts from rank %d, the plan has %d subtrees there", len(parts), t.rank, want))
	}
	at := Cut{Elems: dst.Len(), Slices: t.world}
	lo, hi := at.Slice(t.rank)
	if err := t.reserve(hi - lo); err != nil {
		return err
	}
	if err := peers.Exchange(func() error { return t.scatter(peers, at, parts) }); err != nil {
		return err
	}
	if lo < hi {
		t.sum(parts, dst, lo, hi)
	}
	return peers.Exchange(func() error { return t.gather(peers, at, dst) })
}

// reserve makes the registers at least n elements long.
func (t *DeviceTree) reserve(n int) error {
	if n <= t.room {
		return nil
	}
	t.room = 0
	for i, old := range t.memory {
		if i >= t.prog.first[t.rank] && i < t.prog.first[t.rank+1] {
			continue
		}
		if old != nil {
			t.pending = append(t.pending, old)
			t.memory[i] = nil
		}
		b, err := t.lane.Alloc(tensor.F32, n)
		if err != nil {
			return fmt.Errorf("allreduce: room for the sums of other ranks: %w", err)
		}
		t.memory[i] = b
	}
	t.room = n
	return nil
}

// scatter sends every slice's subtree sums to its owner.
func (t *DeviceTree) scatter(peers Peers, at Cut, parts []tensor.Buffer) error {
	for peer := range t.world {
		if peer == t.rank {
			continue
		}
		if lo, hi := at.Slice(peer); lo < hi {
			for _, part := range parts {
				if err := peers.Send(t.lane.Slice(part, lo, hi-lo), peer); err != nil {
					return err
				}
			}
		}
		lo, hi := at.Slice(t.rank)
		if lo == hi {
			continue
		}
		for leaf := t.prog.first[peer]; leaf < t.prog.first[peer+1]; leaf++ {
			if err := peers.Recv(t.lane.Slice(t.memory[leaf], 0, hi-lo), peer); err != nil {
				return err
			}
		}
	}
	return nil
}

// sum adds the leaves of the own slice, in tree order, into dst.
func (t *DeviceTree) sum(parts []tensor.Buffer, dst tensor.Buffer, lo, hi int) {
	first := t.prog.first[t.rank]
	for i, b := range t.memory {
		if b != nil {
			t.regs[i] = t.lane.Slice(b, 0, hi-lo)
		} else {
			t.regs[i] = t.lane.Slice(parts[i-first], lo, hi-lo)
		}
	}
	shape := tensor.Of(hi - lo)
	out := tensor.Tensor{Buf: t.lane.Slice(dst, lo, hi-lo), Shape: shape}
	reg := func(i int) tensor.Tensor { return tensor.Tensor{Buf: t.regs[i], Shape: shape} }
	if len(t.prog.ops) == 0 {
		t.lane.Copy(out, reg(0))
	}
	for i, op := range t.prog.ops {
		to := out
		if i < len(t.prog.ops)-1 { // only the root touches dst, which may be a part
			to = reg(op.dst)
		}
		t.lane.Add(to, reg(op.a), reg(op.b))
	}
	clear(t.regs)
}

// gather sends the own slice's sum to all and takes theirs.
func (t *DeviceTree) gather(peers Peers, at Cut, dst tensor.Buffer) error {
	for peer := range t.world {
		if peer == t.rank {
			continue
		}
		if lo, hi := at.Slice(t.rank); lo < hi {
			if err := peers.Send(t.lane.Slice(dst, lo, hi-lo), peer); err != nil {
				return err
			}
		}
		if lo, hi := at.Slice(peer); lo < hi {
			if err := peers.Recv(t.lane.Slice(dst, lo, hi-lo), peer); err != nil {
				return err
			}
		}
	}
	return nil
}

// Free gives the memory back. Nothing that was queued may still run.
func (t *DeviceTree) Free() {
	for _, b := range append(t.pending, t.memory...) {
		if b != nil {
			t.lane.Free(b)
		}
	}
	t.pending, t.room = nil, 0
	clear(t.memory)
}
