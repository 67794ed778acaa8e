package mesh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/internal/flight"
	"github.com/agrdist/agrdist/internal/sharedmem"
)

// minBandwidth is what a Broadcast may count on: its deadline is OpTimeout plus
// its bytes / minBandwidth (bytes per second).
const minBandwidth = 16 << 20

// group is an allreduce.Group over one connection to every peer.
//
// Per connection there are two goroutines: a reader that takes frames and puts
// their payload straight where the running operation wants it, and a writer
// that sends what the operation has queued. The goroutine that called the
// operation does the arithmetic and the waiting. One mutex guards the state
// that they share; nobody holds it while computing or in a system call.
type group struct {
	rank, world int
	generation  uint64
	plan        *allreduce.Plan
	order       allreduce.Order
	opTimeout   time.Duration
	log         *slog.Logger
	flight      *flight.Recorder
	links       []*link // by rank; nil at the own

	gate  chan struct{} // holds a token: the right to run an operation
	wake  chan struct{} // tells the running operation to look again
	timer *time.Timer   // of the running operation
	dead  chan struct{} // closed with the first failure
	torn  chan struct{} // closed when that failure has reached the connections
	wg    sync.WaitGroup

	sums  bool // some link's payloads need checksums
	watch stallWatch

	mu      sync.Mutex
	cond    sync.Cond // readers: an operation or room; failed operation: busy fell
	op      opState
	current collective // nil between operations
	frames  uint32     // received in this operation
	busy    int        // readers and writers that touch an operation's memory
	fault   *fault

	tree  treeReduce
	ring  ringReduce
	chain chainCast
	words wordGather
}

// opState is an operation that has begun. number counts from 1.
type opState struct {
	allreduce.Operation

	number uint32
}

// collective is the part of an operation that differs between operations. All
// methods but work are called with the group's mutex held.
type collective interface {
	// start queues what can be sent at once.
	start()
	// place says where the payload of a frame goes; ok is false while there is
	// no room for it yet.
	place(peer int, h *header) (to place, ok bool, err error)
	// arrived tells that the payload is in its place and correct.
	arrived(peer int, h *header) error
	// next says whether there is arithmetic to do, and whether all is done.
	next() (work, done bool)
	// work does the arithmetic that next announced, without the mutex.
	work()
	// owes says what is still to come from a peer.
	owes(peer int) debt
	// release drops the references to the caller's memory.
	release()
}

// place is where a payload goes. It comes from the stream, or from memory that
// the peer has lent.
type place struct{ dst, from []byte }

// debt is what a peer still owes to an operation.
type debt int

const (
	owesNothing debt = iota
	owesRelayed      // something that it can send only when others have done their part
	owesOwn          // something that needs nobody else
)

// fault is the first failure of a group.
type fault struct {
	peer    int // at fault, or NoPeer
	err     error
	note    *abortNote // of a peer, to be passed on; nil: this rank's own failure
	goodbye bool       // Close between operations: no failure at all
}

func newGroup(cfg allreduce.GroupConfig, streams []stream, log *slog.Logger) *group {
	g := &group{
		rank: cfg.Rank, world: cfg.Plan.World(), generation: cfg.Generation,
		plan: cfg.Plan, order: cfg.Order, opTimeout: cfg.OpTimeout,
		log:   log.With("rank", cfg.Rank, "generation", cfg.Generation),
		links: make([]*link, cfg.Plan.World()),
		gate:  make(chan struct{}, 1), wake: make(chan struct{}, 1),
		dead: make(chan struct{}), torn: make(chan struct{}),
		timer: time.NewTimer(time.Hour),
	}
	g.timer.Stop()
	g.cond.L = &g.mu
	g.gate <- struct{}{}
	g.tree.init(g, cfg.SegmentElems)
	g.ring.init(g, cfg.SegmentElems)
	g.chain.init(g, cfg.SegmentElems)
	g.words.init(g)
	for peer, s := range streams {
		if peer == g.rank {
			continue
		}
		l := &link{g: g, peer: peer, conn: s}
		l.shm, _ = s.(*shmStream)
		l.lending.open = sharedmem.Open
		l.work.L = &g.mu
		g.links[peer] = l
		g.sums = g.sums || !s.Checks()
	}
	for _, l := range g.links {
		if l == nil {
			continue
		}
		g.wg.Go(l.run)
	}
	return g
}

// Rank implements allreduce.Group.
func (g *group) Rank() int { return g.rank }

// Size implements allreduce.Group.
func (g *group) Size() int { return g.world }

// Generation implements allreduce.Group.
func (g *group) Generation() uint64 { return g.generation }

// AllReduce implements allreduce.Group.
func (g *group) AllReduce(ctx context.Context, bucket uint32, parts [][]float32, dst []float32) error {
	g.plan.CheckParts(g.rank, parts, dst)
	op := allreduce.Operation{Name: allreduce.OpAllReduce, Bucket: bucket, Elems: len(dst)}
	if err := g.enter(ctx, op); err != nil {
		return err
	}
	if g.order == allreduce.OrderRing {
		g.ring.prepare(parts, dst)
		return g.run(ctx, &g.ring, op, g.opTimeout)
	}
	g.tree.prepare(parts, dst)
	return g.run(ctx, &g.tree, op, g.opTimeout)
}

// Broadcast implements allreduce.Group.
func (g *group) Broadcast(ctx context.Context, root int, buf []float32) error {
	if root < 0 || root >= g.world {
		panic(fmt.Sprintf("allreduce: broadcast from rank %d in a group of %d", root, g.world))
	}
	op := allreduce.Operation{Name: allreduce.OpBroadcast, Bucket: u32(root), Elems: len(buf)}
	if err := g.enter(ctx, op); err != nil {
		return err
	}
	g.chain.prepare(root, buf)
	extra := time.Duration(float64(len(buf)) * 4 / minBandwidth * float64(time.Second))
	return g.run(ctx, &g.chain, op, g.opTimeout+extra)
}

// AllGather implements allreduce.Group.
func (g *group) AllGather(ctx context.Context, word []byte) ([][]byte, error) {
	return g.gather(ctx, allreduce.Operation{Name: allreduce.OpAllGather}, word)
}

// Barrier implements allreduce.Group.
func (g *group) Barrier(ctx context.Context) error {
	_, err := g.gather(ctx, allreduce.Operation{Name: allreduce.OpBarrier}, nil)
	return err
}

func (g *group) gather(ctx context.Context, op allreduce.Operation, word []byte) ([][]byte, error) {
	if len(word) > allreduce.MaxWord {
		panic(fmt.Sprintf("allreduce: word of %d bytes, at most %d are allowed", len(word), allreduce.MaxWord))
	}
	if err := g.enter(ctx, op); err != nil {
		return nil, err
	}
	result := g.words.prepare(word)
	if err := g.run(ctx, &g.words, op, g.opTimeout); err != nil {
		return nil, err
	}
	return result, nil
}

// enter waits for the group's turn.
func (g *group) enter(ctx context.Context, op allreduce.Operation) error {
	select {
	case <-g.dead:
		return g.failure(op)
	default:
	}
	select {
	case <-g.gate:
		return nil
	case <-g.dead:
	case <-ctx.Done():
		g.fail(&fault{peer: allreduce.NoPeer, err: fmt.Errorf("gave up while another operation ran: %w", context.Cause(ctx))})
	}
	return g.failure(op)
}

// run drives an operation to its end. The caller has entered; run leaves.
func (g *group) run(ctx context.Context, c collective, op allreduce.Operation, timeout time.Duration) error {
	begin := time.Now()
	g.watch = stallWatch{every: max(timeout/4, time.Millisecond), peer: allreduce.NoPeer}
	g.mu.Lock()
	g.op = opState{Operation: op, number: g.op.number + 1}
	g.current, g.frames = c, 0
	c.start()
	g.cond.Broadcast()
	g.mu.Unlock()
	g.flush()
	g.note(flight.Begin, allreduce.NoPeer)

	for {
		g.mu.Lock()
		work, done := c.next()
		if g.fault != nil || (done && g.drained()) {
			break
		}
		left := g.gone(c)
		g.mu.Unlock()

		if work {
			c.work()
			continue
		}
		if left != allreduce.NoPeer {
			g.fail(&fault{peer: left, err: allreduce.ErrPeerLeft})
			continue
		}
		elapsed := time.Since(begin)
		g.timer.Reset(min(timeout, g.watch.next()) - elapsed)
		select {
		case <-g.wake:
		case <-g.dead:
		case <-ctx.Done():
			g.fail(g.overdue(c, context.Cause(ctx)))
		case <-g.timer.C:
			if time.Since(begin) >= timeout {
				g.fail(g.overdue(c, fmt.Errorf("%w: not done after %v; if a worker may be this slow, raise allreduce.timeout", allreduce.ErrTimeout, timeout)))
			} else {
				g.stalled(ctx, c, time.Since(begin))
			}
		}
	}
	// Locked. After a failure the connections are being torn down; wait until
	// the last reader and writer have let go of the caller's memory.
	failed := g.fault != nil
	if failed {
		g.note(flight.Waits, g.waitsFor(c))
		g.note(flight.Failed, g.fault.peer)
	} else {
		g.note(flight.End, allreduce.NoPeer)
	}
	for failed && g.busy > 0 {
		g.cond.Wait()
	}
	g.current = nil
	c.release()
	if failed {
		g.withdraw()
		g.cond.Broadcast()
	}
	g.mu.Unlock()
	g.timer.Stop()
	g.gate <- struct{}{}
	if failed {
		return g.failure(op)
	}
	return nil
}

// note records what happens to the running operation. The goroutine that runs it calls.
func (g *group) note(kind flight.Kind, peer int) {
	if kind == flight.Waits && peer == allreduce.NoPeer {
		return
	}
	g.flight.Add(flight.Record{
		Kind: kind, Generation: g.generation, Rank: g.rank, Peer: peer, Number: g.op.number, Bucket: int(g.op.Bucket), Name: g.op.Name,
	})
}

// drained tells whether everything queued has been handed to the kernel.
func (g *group) drained() bool {
	for _, l := range g.links {
		if l != nil && l.pending > 0 {
			return false
		}
	}
	return true
}

// gone returns a peer that has left and is still needed, or NoPeer.
func (g *group) gone(c collective) int {
	for _, l := range g.links {
		if l != nil && l.left && (c.owes(l.peer) != owesNothing || l.mute && l.pending > 0) {
			return l.peer
		}
	}
	return allreduce.NoPeer
}

// notify makes the running operation look again.
func (g *group) notify() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// Abort implements allreduce.Group.
func (g *group) Abort(cause error) {
	if cause == nil {
		cause = errNoCause
	}
	g.fail(&fault{
		peer: allreduce.NoPeer, err: fmt.Errorf("%w: %w", allreduce.ErrAborted, cause),
		note: &abortNote{origin: g.rank, culprit: allreduce.NoPeer, reason: cause.Error()},
	})
}

// Close implements allreduce.Group.
func (g *group) Close() error {
	select {
	case <-g.gate:
		g.fail(&fault{peer: allreduce.NoPeer, err: allreduce.ErrClosed, goodbye: true})
		g.gate <- struct{}{}
	default: // an operation is running
		g.fail(&fault{peer: allreduce.NoPeer, err: allreduce.ErrClosed})
	}
	g.wg.Wait()
	return nil
}

// fail ends the group; the first failure counts.
func (g *group) fail(f *fault) {
	if f.note == nil {
		reason := strings.TrimPrefix(f.err.Error(), "allreduce: ")
		f.note = &abortNote{origin: g.rank, culprit: f.peer, reason: reason}
	}
	g.mu.Lock()
	if g.fault != nil {
		g.mu.Unlock()
		return
	}
	g.fault = f
	close(g.dead)
	g.cond.Broadcast()
	for _, l := range g.links {
		if l != nil {
			l.work.Broadcast()
		}
	}
	g.mu.Unlock()

	if !f.goodbye {
		g.log.Info("group failed", "peer", f.peer, "err", f.err)
	}
	for _, l := range g.links {
		if l != nil {
			l.interrupt()
		}
	}
	close(g.torn)
}

// Dead implements allreduce.Watched.
func (g *group) Dead() <-chan struct{} { return g.dead }

// Failure implements allreduce.Watched.
func (g *group) Failure(op string, bucket uint32) error {
	return g.failure(allreduce.Operation{Name: op, Bucket: bucket})
}

// failure returns the group's failure as the error of an operation.
func (g *group) failure(op allreduce.Operation) error {
	g.mu.Lock()
	f := g.fault
	g.mu.Unlock()
	return &allreduce.Error{
		Rank: g.rank, Peer: f.peer, Op: op.Name,
		Generation: g.generation, Bucket: op.Bucket, Err: f.err,
	}
}

var (
	_ allreduce.Group   = (*group)(nil)
	_ allreduce.Watched = (*group)(nil)
)

var errNoCause = errors.New("no cause given")
