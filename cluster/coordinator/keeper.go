package coordinator

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/agrdist/agrdist/cluster"
	pb "github.com/agrdist/agrdist/cluster/clusterpb"
)

// keeper keeps a session alive: it opens a stream, again and again, until the
// session ends for good.
type keeper struct {
	client   *Client
	name     string // in logs, and the key of the jitter
	cancel   context.CancelFunc
	admitted chan struct{} // closed at the first admission
	done     chan struct{}

	taken   bool // since the last attempt ended; of the session's goroutine
	once    sync.Once
	leaving chan struct{}
	leave   sync.Once

	mu   sync.Mutex
	err  error // why the session ended, once done is closed
	last error // of the last attempt
}

// errLeft ends a session by agreement.
var errLeft = errors.New("coordinator: left")

// final wraps an error that ends the session for good.
type final struct{ error }

// keep starts a session whose streams are run by attempt; attempt calls admit
// when the coordinator has taken it in.
func (c *Client) keep(ctx context.Context, name string, attempt func(ctx context.Context, k *keeper) error) (*keeper, error) {
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	k := &keeper{
		client: c, name: name, cancel: cancel,
		admitted: make(chan struct{}), done: make(chan struct{}), leaving: make(chan struct{}),
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		cancel()
		return nil, ErrClosed
	}
	c.sessions[k] = struct{}{}
	c.mu.Unlock()
	go func() {
		defer cancel()
		k.run(run, attempt)
		c.mu.Lock()
		delete(c.sessions, k)
		c.mu.Unlock()
		close(k.done)
	}()
	select {
	case <-k.admitted:
		return k, nil
	case <-k.done:
		return nil, k.err
	case <-ctx.Done():
		cancel()
		<-k.done
		return nil, fmt.Errorf("coordinator: register %s: %w (last: %w)", name, context.Cause(ctx), k.lastError())
	}
}

func (k *keeper) run(ctx context.Context, attempt func(context.Context, *keeper) error) {
	delay := delays{least: k.client.cfg.BackoffMin, most: k.client.cfg.BackoffMax, key: k.name}
	warned := false
	for {
		err := attempt(ctx, k)
		var end final
		switch {
		case errors.As(err, &end):
			if !errors.Is(end.error, errLeft) {
				k.err = end.error
			}
			return
		case ctx.Err() != nil:
			k.err = ErrClosed
			return
		case !away(err): // not authorised, say: no retry fixes it
			k.err = fmt.Errorf("coordinator: register %s: %w", k.name, err)
			return
		}
		k.mu.Lock()
		k.last = err
		k.mu.Unlock()
		if k.taken {
			delay.reset()
		}
		if k.taken || !warned { // on change only
			k.taken, warned = false, true
			k.client.log.WarnContext(ctx, "coordinator is away; training continues, trying to reach it", slog.String("session", k.name), slog.Any("error", err))
		}
		if !sleep(ctx, delay.next()) {
			k.err = ErrClosed
			return
		}
	}
}

func (k *keeper) lastError() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.last == nil {
		return errors.New("no answer yet")
	}
	return k.last
}

func (k *keeper) admit() {
	k.taken = true
	k.once.Do(func() { close(k.admitted) })
	k.client.log.Info("registered with the coordinator", slog.String("session", k.name))
}

// goodbye asks the session to leave and waits for it.
func (k *keeper) goodbye(ctx context.Context) error {
	k.leave.Do(func() { close(k.leaving) })
	select {
	case <-k.done:
		return nil
	case <-ctx.Done():
		k.cancel()
		<-k.done
		return fmt.Errorf("coordinator: leave %s: %w (last: %w)", k.name, context.Cause(ctx), k.lastError())
	}
}

func (k *keeper) result() error {
	select {
	case <-k.done:
		return k.err
	default:
		return nil
	}
}

// link is one open stream, watched: when nothing arrives for SilentAfter the
// stream is cancelled and the connection under it replaced.
type link[Req, Res any] struct {
	grpc.BidiStreamingClient[Req, Res]
	in     chan *Res // closed at the stream's end
	err    error     // why, once in is closed
	cancel func()
	watch  *time.Timer
}

func open[Req, Res any](ctx context.Context, c *Client,
	call func(context.Context, pb.CoordinatorServiceClient) (grpc.BidiStreamingClient[Req, Res], error),
) (*link[Req, Res], error) {
	stub, cc, err := c.stub()
	if err != nil {
		return nil, final{err}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	silent := fmt.Errorf("coordinator: silent for %s", c.cfg.SilentAfter)
	watch := time.AfterFunc(c.cfg.SilentAfter, func() {
		cancel(silent)
		c.renew(cc)
	})
	stream, err := call(ctx, stub)
	if err != nil {
		watch.Stop()
		cancel(nil)
		return nil, errors.Join(fromStatusError(err), cause(ctx, silent))
	}
	l := &link[Req, Res]{BidiStreamingClient: stream, in: make(chan *Res), cancel: func() { cancel(nil) }, watch: watch}
	go func() {
		defer close(l.in)
		for {
			m, err := stream.Recv()
			if err != nil {
				l.err = errors.Join(fromStatusError(err), cause(ctx, silent))
				return
			}
			watch.Reset(c.cfg.SilentAfter)
			select {
			case l.in <- m:
			case <-ctx.Done():
				l.err = context.Cause(ctx)
				return
			}
		}
	}()
	return l, nil
}

// cause returns the reason of a cancelled context if it is this one.
func cause(ctx context.Context, reason error) error {
	if errors.Is(context.Cause(ctx), reason) {
		return reason
	}
	return nil
}

// close ends the stream and waits for its receiver.
func (l *link[Req, Res]) close() {
	l.watch.Stop()
	l.cancel()
	for range l.in { // drained to its end
	}
}

// refused turns a refusal into what the keeper does about it: a slot that is
// held by a predecessor falls free soon, all else is final.
func refused(p *pb.Refused) error {
	err := fromRefused(p)
	if errors.Is(err, cluster.ErrSlotTaken) {
		return err
	}
	return final{err}
}

// delays are exponential, with a jitter that is a function of (key, attempt):
// it spreads the members of a run and needs no random source.
type delays struct {
	least, most time.Duration
	key         string
	n           int
}

func (d *delays) reset() { d.n = 0 }

func (d *delays) next() time.Duration {
	full := min(d.least<<min(d.n, 20), d.most)
	h := fnv.New32a()
	_, _ = fmt.Fprint(h, d.key, d.n) // a hash never fails
	d.n++
	return full/2 + time.Duration(float64(full/2)*float64(h.Sum32())/(1<<32))
}

// sleep returns false if ctx was done first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
