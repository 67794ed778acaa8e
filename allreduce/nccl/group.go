//go:build cuda

package nccl

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/tensor"
)

// Lane is what a group needs of a rank's device: memory, and arithmetic on a stream
// of its own. Mark and Free belong to the goroutine that calls the backend, the other
// methods may be called from another at the same time.
type Lane interface {
	allreduce.Lane
	Fill(dst tensor.Tensor, v float32)
	// Pointer is the device address of a buffer.
	Pointer(b tensor.Buffer) uintptr
	// Stream is the stream's handle, a CUstream.
	Stream() uintptr
	// Current calls f on a thread on which the device is current.
	Current(f func() error) error
	// Mark notes what the backend was given so far; follow, to be called once, makes
	// the stream wait for that.
	Mark() (follow func() error, err error)
	// Err is the first failure of what was put on the stream.
	Err() error
	// Done reports whether all that was put on the stream has run.
	Done() (bool, error)
	// ID names the physical device, the same in all processes: two ranks cannot
	// share one.
	ID() string
}

// Patience of a group that ends.
const (
	finalizePatience = 5 * time.Second  // for the peers to end theirs
	abortPatience    = 10 * time.Second // for the library and the stream, after an abort
	poll             = 50 * time.Microsecond
	watchEvery       = 2 * time.Millisecond
)

// ErrStuck is returned where an aborted communicator does not let go of the device.
// The process cannot use it any more.
var ErrStuck = errors.New("nccl: the device is stuck in an operation that was aborted")

// maxPending is how many operations may wait for the library before the backend's
// goroutine does.
const maxPending = 1024

// operation is one that waits for its turn.
type operation struct {
	name   string
	bucket uint32
	follow func() error // makes the stream wait for the operands
	queue  func() error
}

// group is an allreduce.DeviceGroup: the connections, and a communicator beside them.
// A goroutine of its own gives the communicator its operations, one after another: the
// library takes its time to begin one, in which backward continues.
type group struct {
	allreduce.Group
	watched allreduce.Watched
	lane    Lane
	comm    *Comm
	plan    *allreduce.Plan
	order   allreduce.Order
	timeout time.Duration
	log     *slog.Logger
	version string

	tree    *allreduce.DeviceTree
	scratch tensor.Buffer
	outworn []tensor.Buffer // scratch that was too short, perhaps still in use

	operations chan operation
	served     chan struct{} // closed when the goroutine that serves them has ended

	quit    chan struct{}
	closing sync.Once
	watch   sync.WaitGroup
	gone    chan struct{} // closed when the communicator was aborted after a failure

	mu     sync.Mutex
	queued int       // operations that the library has not been given
	since  time.Time // when the oldest operation that is pending was queued; zero: none is
	op     string    // that the library was given last
	seq    uint32    // its bucket
	err    error     // the first failure of the communicator or the device
	broken error     // the first failure of this rank's own memory or stream
}

func newGroup(base allreduce.Group, w allreduce.Watched, cfg allreduce.GroupConfig, lane Lane, comm *Comm, log *slog.Logger) *group {
	g := &group{
		Group: base, watched: w, lane: lane, comm: comm, plan: cfg.Plan, order: cfg.Order, timeout: cfg.OpTimeout,
		log: log, version: comm.lib.Version(), tree: allreduce.NewDeviceTree(cfg.Plan, base.Rank(), lane),
		operations: make(chan operation, maxPending), served: make(chan struct{}),
		quit: make(chan struct{}), gone: make(chan struct{}),
	}
	g.watch.Go(g.guard)
	go g.serve()
	return g
}

// Transport implements allreduce.DeviceGroup.
func (g *group) Transport() string {
	if g.order == allreduce.OrderRing {
		return "nccl " + g.version + ", its own all-reduce"
	}
	return "nccl " + g.version
}

// guard aborts the communicator as soon as the connections fail, whatever the other
// goroutines do: they may be waiting for a device that waits for a dead peer.
func (g *group) guard() {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-g.quit:
			return
		case <-g.watched.Dead():
			g.comm.Abort()
			close(g.gone)
			return
		case <-ticker.C:
			g.look()
		}
	}
}

// look fails the group where a pending operation has failed or takes too long.
func (g *group) look() {
	g.mu.Lock()
	since := g.since
	g.mu.Unlock()
	if since.IsZero() {
		return
	}
	if err := g.comm.Err(); err != nil {
		g.fail(err)
	} else if waited := time.Since(since); waited >= g.timeout {
		g.fail(fmt.Errorf("%w: device operations have not ended for %v", allreduce.ErrTimeout, g.timeout))
	}
}

// fail ends the group on all ranks. The guard does the rest.
func (g *group) fail(err error) {
	g.mu.Lock()
	if g.err == nil {
		g.err = err
	}
	g.mu.Unlock()
	g.Abort(err)
}

// failure is why the group has ended, as the error of the newest operation. A failure
// of this rank's own says more than the abort that followed.
func (g *group) failure() error {
	g.mu.Lock()
	own, op, seq := g.err, g.op, g.seq
	g.mu.Unlock()
	if own != nil {
		return &allreduce.Error{
			Rank: g.Rank(), Peer: allreduce.NoPeer, Op: op, Generation: g.Generation(), Bucket: seq, Err: own,
		}
	}
	return g.watched.Failure(op, seq)
}

// queue puts an operation behind what the backend was given, and returns. Its failure
// shows in Wait.
func (g *group) queue(name string, bucket uint32, f func() error) error {
	g.mu.Lock()
	if g.op == "" {
		g.op, g.seq = name, bucket
	}
	g.mu.Unlock()
	select {
	case <-g.watched.Dead():
		return g.failure()
	default:
	}
	follow, err := g.lane.Mark()
	if err != nil {
		return err
	}
	g.mu.Lock()
	g.queued++
	if g.since.IsZero() {
		g.since = time.Now()
	}
	g.mu.Unlock()
	g.operations <- operation{name, bucket, follow, f}
	return nil
}

// serve gives the library the operations, in their order, until shut.
func (g *group) serve() {
	defer close(g.served)
	for o := range g.operations {
		g.begin(o)
		g.mu.Lock()
		g.queued--
		g.mu.Unlock()
	}
}

// begin runs the calls of an operation. A refusal ends the group on all ranks; what fails
// here alone is for Wait to tell. After a failure nothing more is begun.
func (g *group) begin(o operation) {
	_, broken := g.idle()
	stop := broken != nil
	select {
	case <-g.watched.Dead():
		stop = true
	default:
	}
	if !stop { // an error names the operation that failed, none behind it
		g.mu.Lock()
		g.op, g.seq = o.name, o.bucket
		g.mu.Unlock()
	}
	err := g.lane.Current(func() error {
		if err := o.follow(); err != nil || stop {
			return err
		}
		if err := o.queue(); err != nil {
			return err
		}
		return g.lane.Err()
	})
	switch refused := (*Error)(nil); {
	case err == nil, errors.Is(err, ErrGone): // the guard was faster
	case errors.As(err, &refused):
		g.fail(err)
	default:
		g.mu.Lock()
		if g.broken == nil {
			g.broken = err
		}
		g.mu.Unlock()
	}
}

// idle says whether the library was given all operations, and what has failed here.
func (g *group) idle() (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.queued == 0, g.broken
}

// AllReduceDevice implements allreduce.DeviceGroup.
func (g *group) AllReduceDevice(_ context.Context, bucket uint32, parts []tensor.Buffer, dst tensor.Buffer) error {
	parts = slices.Clone(parts) // the caller's list is for the next bucket
	return g.queue(allreduce.OpAllReduce, bucket, func() error {
		if g.order == allreduce.OrderTree {
			return g.tree.Reduce(g, parts, dst)
		}
		if err := g.presum(parts, dst); err != nil {
			return err
		}
		p := g.lane.Pointer(dst)
		return g.comm.AllReduce(p, p, dst.Len(), F32, g.lane.Stream())
	})
}

// presum adds this rank's own parts, left to right, into dst, which may be any of
// them.
func (g *group) presum(parts []tensor.Buffer, dst tensor.Buffer) error {
	n := dst.Len()
	of := func(b tensor.Buffer) tensor.Tensor { return tensor.Tensor{Buf: b, Shape: tensor.Of(n)} }
	switch len(parts) {
	case 0:
		g.lane.Fill(of(dst), 0)
	case 1:
		g.lane.Copy(of(dst), of(parts[0]))
	case 2:
		g.lane.Add(of(dst), of(parts[0]), of(parts[1]))
	default:
		if g.scratch == nil || g.scratch.Len() < n {
			b, err := g.lane.Alloc(tensor.F32, n)
			if err != nil {
				return fmt.Errorf("nccl: room for partial sums: %w", err)
			}
			if g.scratch != nil {
				g.outworn = append(g.outworn, g.scratch)
			}
			g.scratch = b
		}
		sum := of(g.lane.Slice(g.scratch, 0, n))
		g.lane.Add(sum, of(parts[0]), of(parts[1]))
		for _, part := range parts[2 : len(parts)-1] {
			g.lane.Add(sum, sum, of(part))
		}
		g.lane.Add(of(dst), sum, of(parts[len(parts)-1]))
	}
	return nil
}

// BroadcastDevice implements allreduce.DeviceGroup.
func (g *group) BroadcastDevice(_ context.Context, root int, buf tensor.Buffer) error {
	return g.queue(allreduce.OpBroadcast, 0, func() error {
		return g.comm.Broadcast(g.lane.Pointer(buf), buf.Len(), F32, root, g.lane.Stream())
	})
}

// Exchange implements allreduce.Peers.
func (g *group) Exchange(f func() error) error { return g.comm.Group(f) }

// Send implements allreduce.Peers.
func (g *group) Send(b tensor.Buffer, peer int) error {
	return g.comm.Send(g.lane.Pointer(b), b.Len(), F32, peer, g.lane.Stream())
}

// Recv implements allreduce.Peers.
func (g *group) Recv(b tensor.Buffer, peer int) error {
	return g.comm.Recv(g.lane.Pointer(b), b.Len(), F32, peer, g.lane.Stream())
}

// Wait implements allreduce.DeviceGroup.
func (g *group) Wait(ctx context.Context) error {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		select {
		case <-g.watched.Dead():
			if err := g.drain(); err != nil {
				return err
			}
			return g.failure()
		default:
		}
		idle, err := g.idle()
		if err != nil {
			return err
		}
		done, err := g.lane.Done()
		if err != nil {
			return fmt.Errorf("nccl: wait for the device: %w", err)
		}
		if idle && done {
			g.mu.Lock()
			g.since = time.Time{}
			g.mu.Unlock()
			// An operation that failed leaves the stream as one that ended.
			if err := g.comm.Err(); err != nil && !errors.Is(err, ErrGone) {
				g.fail(err)
				continue
			}
			return nil
		}
		select {
		case <-g.watched.Dead():
		case <-ticker.C:
		case <-ctx.Done():
			g.fail(context.Cause(ctx)) // which is death
		}
	}
}

// drain waits until nothing of a failed group touches the device any more.
func (g *group) drain() error {
	late := time.After(abortPatience)
	select {
	case <-g.gone:
	case <-late:
		return fmt.Errorf("%w: %w", ErrStuck, g.failure())
	}
	for {
		idle, _ := g.idle()
		done, err := g.lane.Done()
		switch {
		case err != nil:
			return fmt.Errorf("nccl: after an abort: %w", err)
		case idle && done:
			return nil
		}
		select {
		case <-late:
			return fmt.Errorf("%w: %w", ErrStuck, g.failure())
		case <-time.After(watchEvery):
		}
	}
}

// Close implements allreduce.Group.
func (g *group) Close() error {
	var failed error
	g.closing.Do(func() { failed = g.shut() })
	return errors.Join(failed, g.Group.Close())
}

// shut ends the communicator: in peace where the group is well, else by the guard.
func (g *group) shut() (err error) {
	close(g.operations)
	select {
	case <-g.served: // as a rule; the library may be slow, or wait for a dead peer
	case <-g.watched.Dead():
	}
	select {
	case <-g.watched.Dead():
		err = g.drain()
	default:
		close(g.quit)
		g.watch.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), finalizePatience)
		defer cancel()
		go func() {
			select {
			case <-g.watched.Dead(): // no peer will come any more
				cancel()
			case <-ctx.Done():
			}
		}()
		err = g.lane.Current(func() error { return g.comm.Close(ctx) })
		if err != nil {
			g.log.Info("communicator was aborted in the end", "err", err)
			err = nil
		}
	}
	if err == nil {
		<-g.served
		g.watch.Wait()
		g.tree.Free()
		for _, b := range append(g.outworn, g.scratch) {
			if b != nil {
				g.lane.Free(b)
			}
		}
	}
	return err
}
