//go:build cuda

package nccl

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/tensor"
)

// Lane is what a group needs of a rank's device: memory, and arithmetic on a stream
// of its own. Its methods belong to the goroutine that calls the backend, but for
// Done.
type Lane interface {
	allreduce.Lane
	Fill(dst tensor.Tensor, v float32)
	// Pointer is the device address of a buffer.
	Pointer(b tensor.Buffer) uintptr
	// Stream is the stream's handle, a CUstream.
	Stream() uintptr
	// Current calls f on a thread on which the device is current.
	Current(f func() error) error
	// Follow makes the stream wait for what the backend was given so far.
	Follow() error
	// Done reports whether all that was put on the stream has run. It may be called
	// from any goroutine.
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

// group is an allreduce.DeviceGroup: the connections, and a communicator beside them.
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

	quit    chan struct{}
	closing sync.Once
	watch   sync.WaitGroup
	gone    chan struct{} // closed when the communicator was aborted after a failure

	mu    sync.Mutex
	since time.Time // when the oldest operation that is pending was queued; zero: none is
	op    string    // of the newest
	seq   uint32    // its bucket
	err   error     // the first failure of the communicator or the device
}

func newGroup(base allreduce.Group, w allreduce.Watched, cfg allreduce.GroupConfig, lane Lane, comm *Comm, log *slog.Logger) *group {
	g := &group{
		Group: base, watched: w, lane: lane, comm: comm, plan: cfg.Plan, order: cfg.Order, timeout: cfg.OpTimeout,
		log: log, version: comm.lib.Version(), tree: allreduce.NewDeviceTree(cfg.Plan, base.Rank(), lane),
		quit: make(chan struct{}), gone: make(chan struct{}),
	}
	g.watch.Go(g.guard)
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

// start begins an operation: its stream comes after what the backend was given.
func (g *group) start(op string, bucket uint32) error {
	g.mu.Lock()
	g.op, g.seq = op, bucket
	if g.since.IsZero() {
		g.since = time.Now()
	}
	g.mu.Unlock()
	select {
	case <-g.watched.Dead():
		return g.failure()
	default:
		return g.lane.Follow()
	}
}

// queue runs the calls of an operation. A refusal ends the group.
func (g *group) queue(op string, bucket uint32, f func() error) error {
	err := g.lane.Current(func() error {
		if err := g.start(op, bucket); err != nil {
			return err
		}
		return f()
	})
	switch refused := (*Error)(nil); {
	case err == nil:
		return nil
	case errors.Is(err, ErrGone): // the guard was faster
		return g.failure()
	case errors.As(err, &refused):
		g.fail(err)
		return g.failure()
	}
	return err
}

// AllReduceDevice implements allreduce.DeviceGroup.
func (g *group) AllReduceDevice(_ context.Context, bucket uint32, parts []tensor.Buffer, dst tensor.Buffer) error {
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
				g.lane.Free(g.scratch)
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
		done, err := g.lane.Done()
		if err != nil {
			return fmt.Errorf("nccl: wait for the device: %w", err)
		}
		if done {
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
		done, err := g.lane.Done()
		switch {
		case err != nil:
			return fmt.Errorf("nccl: after an abort: %w", err)
		case done:
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
		g.watch.Wait()
		g.tree.Free()
		if g.scratch != nil {
			g.lane.Free(g.scratch)
		}
	}
	return err
}
