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

// ServerConfig describes a coordinator.
type ServerConfig struct {
	Cluster cluster.Config

	// Listener takes precedence over Addr (host:port, port 0 for any).
	Listener net.Listener
	Addr     string
	// Credentials secure the listener. Without them only a loopback address
	// is accepted.
	Credentials credentials.TransportCredentials
	// Authorize, if set, is asked before a call speaks for a node; node is empty
	// for calls that speak for none (Status, RequestStop). The peer's
	// certificate is in the context (google.golang.org/grpc/peer).
	Authorize func(ctx context.Context, method, node string) error

	// JournalPath keeps the little that a restarted coordinator needs; empty:
	// no journal, the workers' reports alone must do.
	JournalPath string

	Heartbeat time.Duration // of the streams in both directions; 0: 500 ms
	Grace     time.Duration // to deliver the last words when the run ends; 0: 5 s

	// Callbacks run one after the other on a goroutine of their own; a slow one
	// delays the next but never the coordinator. Progress keeps only the newest.
	OnGeneration func(cluster.Generation)
	OnProgress   func(cluster.Status)
	OnEnd        func(cluster.End)

	Logger *slog.Logger // nil: discard
}

// Server is the coordinator of one run.
type Server struct{}

// Listen binds the address and rebuilds the machine from the journal, if any.
func Listen(cfg ServerConfig) (*Server, error) { return nil, errors.ErrUnsupported }

// Addr returns the bound address.
func (s *Server) Addr() net.Addr { return nil }

// Serve runs the coordinator until the run is over or ctx is done. It returns
// nil when the run finished or was stopped on request, an error that wraps
// *FailedError when it failed, and context.Cause(ctx) when ctx was done.
func (s *Server) Serve(ctx context.Context) error { return errors.ErrUnsupported }

// Status returns a snapshot.
func (s *Server) Status(ctx context.Context) (cluster.Status, error) {
	return cluster.Status{}, errors.ErrUnsupported
}

// RequestStop asks the whole run to save a checkpoint and end.
func (s *Server) RequestStop(ctx context.Context, reason string) error { return errors.ErrUnsupported }
