package allreduce

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// NewLocal returns the groups of world ranks that live in this process, by
// rank: the same contract as a group of connections, over shared memory and
// channels. It opens no socket and no file, reads no clock (an operation's only
// deadline is its context), and starts no goroutine, so it works inside
// testing/synctest. The order is OrderTree. It panics where world is not the
// plan's.
func NewLocal(world int, plan *Plan) []Group {
	if plan.World() != world {
		panic(fmt.Sprintf("allreduce: %d local ranks with a plan for %d", world, plan.World()))
	}
	h := &hub{plan: plan, prog: plan.Program(), dead: make(chan struct{}), left: make([]bool, world)}
	h.meeting = newMeeting(world)
	groups := make([]Group, world)
	for rank := range groups {
		groups[rank] = &localGroup{
			hub: h, rank: rank, machine: NewMachine(h.prog),
			gate: make(chan struct{}, 1), closed: make(chan struct{}),
		}
		groups[rank].(*localGroup).gate <- struct{}{}
	}
	return groups
}

// hub is what the local ranks share.
type hub struct {
	plan *Plan
	prog *Program

	mu      sync.Mutex
	meeting *meeting
	left    []bool // by rank: Close was called
	peer    int    // at fault
	err     error  // the first failure
	dead    chan struct{}
}

// meeting is one operation: the ranks put their arguments on the table; when
// all have, each does its share of the work; when all have done that, it ends.
type meeting struct {
	args      []*localArgs // by rank
	present   int
	finished  int
	assembled chan struct{} // closed when all are present
	ended     chan struct{} // closed when all have finished
}

type localArgs struct {
	op    Operation
	parts [][]float32
	dst   []float32
	word  []byte
}

func newMeeting(world int) *meeting {
	return &meeting{
		args: make([]*localArgs, world), assembled: make(chan struct{}), ended: make(chan struct{}),
	}
}

// localGroup is one rank's end of a hub.
type localGroup struct {
	*hub
	rank    int
	machine *Machine
	gate    chan struct{} // holds a token: the right to run an operation
	closing sync.Once
	closed  chan struct{}
}

// Rank implements Group.
func (g *localGroup) Rank() int { return g.rank }

// Size implements Group.
func (g *localGroup) Size() int { return g.plan.World() }

// Generation implements Group: local groups belong to generation 0.
func (g *localGroup) Generation() uint64 { return 0 }

// AllReduce implements Group.
func (g *localGroup) AllReduce(ctx context.Context, bucket uint32, parts [][]float32, dst []float32) error {
	g.plan.CheckParts(g.rank, parts, dst)
	op := Operation{Name: OpAllReduce, Bucket: bucket, Elems: len(dst)}
	return g.meet(ctx, &localArgs{op: op, parts: parts, dst: dst}, func(m *meeting) {
		lo, hi := Cut{Elems: len(dst), Slices: g.Size()}.Slice(g.rank)
		var leaves [][]float32
		for _, a := range m.args {
			for _, part := range a.parts {
				leaves = append(leaves, part[lo:hi])
			}
		}
		sum := dst[lo:hi]
		g.machine.Reduce(sum, leaves)
		for rank, a := range m.args {
			if rank != g.rank {
				copy(a.dst[lo:hi], sum)
			}
		}
	})
}

// Broadcast implements Group.
func (g *localGroup) Broadcast(ctx context.Context, root int, buf []float32) error {
	if root < 0 || root >= g.Size() {
		panic(fmt.Sprintf("allreduce: broadcast from rank %d in a group of %d", root, g.Size()))
	}
	op := Operation{Name: OpBroadcast, Bucket: uint32(root), Elems: len(buf)}
	return g.meet(ctx, &localArgs{op: op, dst: buf}, func(m *meeting) {
		if g.rank != root {
			copy(buf, m.args[root].dst)
		}
	})
}

// AllGather implements Group.
func (g *localGroup) AllGather(ctx context.Context, word []byte) ([][]byte, error) {
	if len(word) > MaxWord {
		panic(fmt.Sprintf("allreduce: word of %d bytes, at most %d are allowed", len(word), MaxWord))
	}
	var words [][]byte
	op := Operation{Name: OpAllGather}
	if err := g.meet(ctx, &localArgs{op: op, word: word}, func(m *meeting) {
		for _, a := range m.args {
			words = append(words, append(make([]byte, 0, len(a.word)), a.word...))
		}
	}); err != nil {
		return nil, err
	}
	return words, nil
}

// Barrier implements Group.
func (g *localGroup) Barrier(ctx context.Context) error {
	return g.meet(ctx, &localArgs{op: Operation{Name: OpBarrier}}, func(*meeting) {})
}

// meet runs one operation.
func (g *localGroup) meet(ctx context.Context, args *localArgs, share func(*meeting)) error {
	select {
	case <-g.dead:
		return g.failure(args.op)
	case <-g.closed:
		return g.failure(args.op)
	default:
	}
	select {
	case <-g.gate:
		defer func() { g.gate <- struct{}{} }()
	case <-g.dead:
		return g.failure(args.op)
	case <-g.closed:
		return g.failure(args.op)
	case <-ctx.Done():
		g.fail(NoPeer, fmt.Errorf("gave up while another operation ran: %w", context.Cause(ctx)))
		return g.failure(args.op)
	}

	m := g.join(args)
	if err := g.await(ctx, m, args.op); err != nil {
		return err
	}
	share(m)
	g.mu.Lock()
	m.finished++
	if m.finished == g.Size() {
		g.meeting = newMeeting(g.Size())
		close(m.ended)
	}
	g.mu.Unlock()
	// The work has begun on every rank and ends by itself: nothing may return
	// before that, since every rank touches every rank's arguments.
	<-m.ended
	return nil
}

// join puts the arguments on the table.
func (g *localGroup) join(args *localArgs) *meeting {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.meeting
	if g.err != nil || g.left[g.rank] {
		return m
	}
	for rank, left := range g.left {
		if left {
			g.end(rank, ErrPeerLeft)
			return m
		}
	}
	for rank, a := range m.args {
		if a != nil && (a.op != args.op) {
			g.end(rank, fmt.Errorf("%w: it runs %v, rank %d %v", ErrMismatch, a.op, g.rank, args.op))
			return m
		}
	}
	m.args[g.rank] = args
	m.present++
	if m.present == g.Size() {
		close(m.assembled)
	}
	return m
}

// await waits until all ranks are present.
func (g *localGroup) await(ctx context.Context, m *meeting, op Operation) error {
	select {
	case <-m.assembled:
		return nil
	case <-g.dead:
	case <-g.closed:
	case <-ctx.Done():
		g.giveUp(m, context.Cause(ctx))
	}
	// All may have come in the same moment: then they have begun and count on
	// this rank.
	select {
	case <-m.assembled:
		return nil
	default:
		return g.failure(op)
	}
}

// giveUp ends the group because of the first rank that has not come to a
// meeting, unless all have.
func (g *localGroup) giveUp(m *meeting, cause error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for rank, a := range m.args {
		if a == nil {
			g.end(rank, fmt.Errorf("waiting for it: %w", cause))
			return
		}
	}
}

// Abort implements Group.
func (g *localGroup) Abort(cause error) {
	if cause == nil {
		cause = errNoCause
	}
	g.fail(g.rank, fmt.Errorf("%w by rank %d: %w", ErrAborted, g.rank, cause))
}

var errNoCause = errors.New("no cause given")

// Close implements Group.
func (g *localGroup) Close() error {
	g.closing.Do(func() {
		g.mu.Lock()
		g.left[g.rank] = true
		if m := g.meeting; g.err == nil && m.present > 0 && m.present < g.Size() {
			g.end(g.rank, ErrPeerLeft) // peers wait for this rank, or it waits for them
		}
		g.mu.Unlock()
		close(g.closed)
	})
	<-g.gate // an operation that has begun ends first
	g.gate <- struct{}{}
	return nil
}

func (g *localGroup) fail(peer int, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.end(peer, err)
}

// end records the first failure; h.mu is held. It does not stop a meeting that
// is complete.
func (h *hub) end(peer int, err error) {
	if h.err == nil {
		h.peer, h.err = peer, err
		close(h.dead)
	}
}

func (g *localGroup) failure(op Operation) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := &Error{Rank: g.rank, Peer: g.peer, Op: op.Name, Bucket: op.Bucket, Err: g.err}
	switch {
	case g.left[g.rank]:
		e.Peer, e.Err = NoPeer, ErrClosed
	case e.Peer == g.rank:
		e.Peer = NoPeer
	}
	return e
}

// Dead implements Watched.
func (g *localGroup) Dead() <-chan struct{} { return g.dead }

// Failure implements Watched.
func (g *localGroup) Failure(op string, bucket uint32) error {
	return g.failure(Operation{Name: op, Bucket: bucket})
}

var (
	_ Group   = (*localGroup)(nil)
	_ Watched = (*localGroup)(nil)
)
