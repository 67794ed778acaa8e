package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/agrdist/agrdist/cluster"
)

// ClientConfig says where the coordinator is and how to speak to it.
type ClientConfig struct {
	Addr string // host:port
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
	BackoffMin  time.Duration // first delay of a reconnection; 0: 100 ms
	BackoffMax  time.Duration // largest delay; 0: 2 s

	Logger *slog.Logger // nil: discard
}

// Client speaks to the coordinator of one run.
type Client struct{}

// Dial prepares a client. It does not connect.
func Dial(cfg ClientConfig) (*Client, error) { return nil, errors.ErrUnsupported }

// Close ends all sessions and connections.
func (c *Client) Close() error { return errors.ErrUnsupported }

// Join registers a worker and returns its session. It tries until it is
// admitted, refused (the error wraps cluster.ErrMismatch, ErrEvicted or
// ErrOver) or ctx is done.
func (c *Client) Join(ctx context.Context, m cluster.Member) (*Session, error) {
	return nil, errors.ErrUnsupported
}

// Session is a worker's place in the run. It reconnects by itself.
type Session struct{}

// Generations delivers the newest generation that the worker is a member of.
func (s *Session) Generations() <-chan cluster.Generation { return nil }

// Aborts delivers the end of a generation that has no successor yet.
func (s *Session) Aborts() <-chan cluster.Abort { return nil }

// Stopping is closed when the run is asked to save a checkpoint and leave.
func (s *Session) Stopping() <-chan struct{} { return nil }

// Report sets what the worker says of itself. It never blocks; the newest wins.
// The session fills in Member.
func (s *Session) Report(r cluster.Report) {}

// Finish says that the run reached its last step and that the final checkpoint
// is durable.
func (s *Session) Finish(ctx context.Context, f cluster.Finish) error { return errors.ErrUnsupported }

// Done is closed when the session has ended for good; Err says why.
func (s *Session) Done() <-chan struct{} { return nil }

// Err returns nil while the session lasts and after Leave, an *EndError when the
// run is over, or the refusal.
func (s *Session) Err() error { return nil }

// Leave ends the session: the worker says good-bye and commits nothing more.
func (s *Session) Leave(ctx context.Context) error { return errors.ErrUnsupported }

// Node is an agent as it presents itself.
type Node struct {
	Name  string
	Host  string
	Slots int // workers that it supervises
	RunID string
}

// Supervise registers a node's agent and returns its session.
func (c *Client) Supervise(ctx context.Context, n Node) (*AgentSession, error) {
	return nil, errors.ErrUnsupported
}

// AgentSession is an agent's place in the run. It reconnects by itself.
type AgentSession struct{}

// Kills delivers the workers of this node that are to be killed and reaped.
func (s *AgentSession) Kills() <-chan cluster.Kill { return nil }

// ReportExit certifies that a worker of this node was reaped and returns
// whether to start a replacement. It tries until it is heard or ctx is done.
func (s *AgentSession) ReportExit(ctx context.Context, e cluster.Exit) (cluster.Verdict, error) {
	return cluster.Verdict{}, errors.ErrUnsupported
}

// Done is closed when the session has ended for good; Err says why.
func (s *AgentSession) Done() <-chan struct{} { return nil }

// Err returns nil while the session lasts and after Leave, an *EndError when the
// run is over, or the refusal.
func (s *AgentSession) Err() error { return nil }

// Leave ends the session.
func (s *AgentSession) Leave(ctx context.Context) error { return errors.ErrUnsupported }

// Status returns a snapshot of the run.
func (c *Client) Status(ctx context.Context) (cluster.Status, error) {
	return cluster.Status{}, errors.ErrUnsupported
}

// RequestStop asks the whole run to save a checkpoint and end.
func (c *Client) RequestStop(ctx context.Context, reason string) error { return errors.ErrUnsupported }

// EndError is the end of the run as a session sees it.
type EndError struct{ End cluster.End }

// Error describes the end.
func (e *EndError) Error() string { return "coordinator: run " + e.End.Outcome.String() + ": " + e.End.Reason }
