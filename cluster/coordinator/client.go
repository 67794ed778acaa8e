package coordinator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/agrdist/agrdist/cluster"
	pb "github.com/agrdist/agrdist/cluster/clusterpb"
	"github.com/agrdist/agrdist/internal/text"
)

// ClientConfig says where the coordinator is and how to speak to it.
type ClientConfig struct {
	Addr string // host:port; also the name that TLS verifies, unless the credentials override it
	// Resolve, if set, is asked for the address before every connection: the
	// coordinator may have moved.
	Resolve func(ctx context.Context) (string, error)
	// Credentials secure the connection; nil: plaintext.
	Credentials credentials.TransportCredentials
	// Dialer opens connections; nil: TCP.
	Dialer func(ctx context.Context, addr string) (net.Conn, error)

	Heartbeat   time.Duration // 0: 500 ms
	ReportEvery time.Duration // least time between two reports; 0: 100 ms
	SilentAfter time.Duration // a link that carries nothing for so long is dead; 0: 3 s
	BackoffMin  time.Duration // first delay of a reconnection; 0: 50 ms
	BackoffMax  time.Duration // largest delay; 0: 500 ms (well under cluster.Config.LostAfter)

	Logger *slog.Logger // nil: discard
}

// ErrClosed is returned by calls on a client that was closed.
var ErrClosed = errors.New("coordinator: client is closed")

// Client speaks to the coordinator of one run.
type Client struct {
	cfg ClientConfig
	log *slog.Logger

	mu       sync.Mutex
	cc       *grpc.ClientConn
	closed   bool
	sessions map[*keeper]struct{}
	burials  sync.WaitGroup // connections being closed
}

// Dial prepares a client. It does not connect.
func Dial(cfg ClientConfig) (*Client, error) {
	if cfg.Addr == "" && cfg.Resolve == nil {
		return nil, errors.New("coordinator: no address: set Addr or Resolve")
	}
	cfg.Heartbeat = cmp.Or(cfg.Heartbeat, 500*time.Millisecond)
	cfg.ReportEvery = cmp.Or(cfg.ReportEvery, 100*time.Millisecond)
	cfg.SilentAfter = cmp.Or(cfg.SilentAfter, 3*time.Second)
	cfg.BackoffMin = cmp.Or(cfg.BackoffMin, 50*time.Millisecond)
	cfg.BackoffMax = cmp.Or(cfg.BackoffMax, 500*time.Millisecond)
	if cfg.Credentials == nil {
		cfg.Credentials = insecure.NewCredentials()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Dialer == nil {
		cfg.Dialer = func(ctx context.Context, addr string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		}
	}
	c := &Client{cfg: cfg, log: cfg.Logger, sessions: map[*keeper]struct{}{}}
	cc, err := c.connection()
	if err != nil {
		return nil, fmt.Errorf("coordinator: address %q: %w", cfg.Addr, err)
	}
	c.cc = cc
	return c, nil
}

// connection prepares a gRPC connection whose address is asked for at each dial.
func (c *Client) connection() (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+cmp.Or(c.cfg.Addr, "coordinator"),
		grpc.WithTransportCredentials(c.cfg.Credentials),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			addr := c.cfg.Addr
			if c.cfg.Resolve != nil {
				var err error
				if addr, err = c.cfg.Resolve(ctx); err != nil {
					return nil, fmt.Errorf("find the coordinator: %w", err)
				}
			}
			return c.cfg.Dialer(ctx, addr)
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			// Less than a keeper waits: it is the keepers who wait longer from time to
			// time. (ResetConnectBackoff would race with the dial of a new connection.)
			Backoff:           backoff.Config{BaseDelay: c.cfg.BackoffMin / 2, Multiplier: 1, MaxDelay: c.cfg.BackoffMin / 2},
			MinConnectTimeout: c.cfg.SilentAfter,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
	)
}

// stub returns the service over the present connection.
func (c *Client) stub() (pb.CoordinatorServiceClient, *grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, ErrClosed
	}
	return pb.NewCoordinatorServiceClient(c.cc), c.cc, nil
}

// renew replaces a connection that was found dead, unless somebody did already.
func (c *Client) renew(dead *grpc.ClientConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.cc != dead {
		return
	}
	cc, err := c.connection()
	if err != nil {
		c.log.Error("connection cannot be renewed", slog.Any("error", err))
		return
	}
	c.cc = cc
	c.burials.Go(func() { _ = dead.Close() }) // it waits seconds for a writer that a dead link blocks
}

// Close ends all sessions, without a good-bye, and the connection.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	var open []*keeper
	for k := range c.sessions {
		open = append(open, k)
	}
	c.mu.Unlock()
	for _, k := range open {
		k.cancel()
		<-k.done
	}
	err := c.cc.Close()
	c.burials.Wait()
	return err
}

// Status returns a snapshot of the run.
func (c *Client) Status(ctx context.Context) (cluster.Status, error) {
	stub, _, err := c.stub()
	if err != nil {
		return cluster.Status{}, err
	}
	s, err := stub.Status(ctx, &pb.StatusRequest{})
	if err != nil {
		return cluster.Status{}, fmt.Errorf("coordinator: status: %w", fromStatusError(err))
	}
	return fromStatus(s), nil
}

// RequestStop asks the whole run to save a checkpoint and end.
func (c *Client) RequestStop(ctx context.Context, reason string) error {
	return c.retry(ctx, "request stop", func(ctx context.Context, stub pb.CoordinatorServiceClient) error {
		_, err := stub.RequestStop(ctx, &pb.RequestStopRequest{Reason: text.Valid(reason)})
		return err
	})
}

// retry calls until the coordinator has answered or ctx is done.
func (c *Client) retry(ctx context.Context, what string, call func(context.Context, pb.CoordinatorServiceClient) error) error {
	delay := delays{least: c.cfg.BackoffMin, most: c.cfg.BackoffMax, key: what}
	for {
		stub, cc, err := c.stub()
		if err != nil {
			return fmt.Errorf("coordinator: %s: %w", what, err)
		}
		once, cancel := context.WithTimeout(ctx, c.cfg.SilentAfter)
		err = call(once, stub)
		stale := once.Err() != nil
		cancel()
		if err == nil {
			return nil
		}
		err = fromStatusError(err)
		if !away(err) {
			return fmt.Errorf("coordinator: %s: %w", what, err)
		}
		if stale && ctx.Err() == nil {
			c.renew(cc)
		}
		if !sleep(ctx, delay.next()) {
			return fmt.Errorf("coordinator: %s: %w (last: %w)", what, context.Cause(ctx), err)
		}
	}
}

// statusError is an answer of the coordinator, with the sentinel that it wraps.
type statusError struct {
	code     codes.Code
	text     string
	sentinel error
}

func (e *statusError) Error() string { return e.text }
func (e *statusError) Unwrap() error { return e.sentinel }

func fromStatusError(err error) error {
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	e := &statusError{code: s.Code(), text: s.Message()}
	for _, known := range sentinels {
		if known.code == s.Code() && s.Code() != codes.Unavailable {
			e.sentinel = known.err
		}
	}
	if e.sentinel == nil {
		e.text = s.Code().String() + ": " + s.Message()
	}
	return e
}

// away tells whether an error says nothing but that the coordinator was not
// reached.
func away(err error) bool {
	var e *statusError
	if !errors.As(err, &e) {
		return true
	}
	return e.code == codes.Unavailable || e.code == codes.DeadlineExceeded || e.code == codes.Canceled || e.code == codes.Unknown
}
