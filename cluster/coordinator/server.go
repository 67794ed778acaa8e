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
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/agrdist/agrdist/cluster"
	pb "github.com/agrdist/agrdist/cluster/clusterpb"
	"github.com/agrdist/agrdist/cluster/security"
)

// ServerConfig describes a coordinator.
type ServerConfig struct {
	Cluster cluster.Config

	// Listener takes precedence over Addr (host:port, port 0 for any).
	Listener net.Listener
	Addr     string
	// Credentials (security.Keys.ServerCredentials) secure the listener: a call may
	// speak only for the node that its certificate names. Without them only a loopback
	// address is accepted.
	Credentials credentials.TransportCredentials

	// Config is the run's configuration, a document that every node's agent receives
	// when it is admitted.
	Config string

	// JournalPath keeps the little that a restarted coordinator needs; empty:
	// no journal, the workers' reports alone must do.
	JournalPath string
	// Seen is what this node knows of the run from the coordinator before; it
	// counts if it is newer than the journal, or there is none.
	Seen cluster.Journal
	// Silent names the nodes that are known to be gone: their workers are not
	// waited for.
	Silent []string

	Tick      time.Duration // how often the machine looks at the time; 0: 100 ms
	Heartbeat time.Duration // down an idle stream; 0: 500 ms
	Grace     time.Duration // to deliver the last words when the run ends; 0: 5 s

	Logger *slog.Logger // nil: discard
}

// ErrInsecure is wrapped by Listen when it would serve strangers in plain text.
var ErrInsecure = errors.New("coordinator: no TLS credentials")

// errClosed answers calls to a server that has stopped.
var errClosed = errors.New("coordinator: server has stopped")

// EndError is the end of a run that did not finish, or as a session sees it.
type EndError struct{ End cluster.End }

// Error describes the end.
func (e *EndError) Error() string {
	return fmt.Sprintf("coordinator: run %s after step %d: %s", e.End.Outcome, e.End.Step, e.End.Reason)
}

// Server is the coordinator of one run.
type Server struct {
	cfg     ServerConfig
	log     *slog.Logger
	lis     net.Listener
	machine *cluster.Machine
	inbox   chan request
	quit    chan struct{} // closed when the owner goroutine stops answering
	serving sync.Once
}

// Listen binds the address and rebuilds the machine from the journal, if any.
// The server must then be served.
func Listen(cfg ServerConfig) (*Server, error) {
	cfg.Tick = cmp.Or(cfg.Tick, 100*time.Millisecond)
	cfg.Heartbeat = cmp.Or(cfg.Heartbeat, 500*time.Millisecond)
	cfg.Grace = cmp.Or(cfg.Grace, 5*time.Second)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := machine(cfg)
	if err != nil {
		return nil, err
	}
	lis := cfg.Listener
	if lis == nil {
		var lc net.ListenConfig
		if lis, err = lc.Listen(context.Background(), "tcp", cfg.Addr); err != nil {
			return nil, fmt.Errorf("coordinator: listen on %q: %w (port 0 takes any free one)", cfg.Addr, err)
		}
	}
	if err := secure(cfg, lis.Addr()); err != nil {
		return nil, errors.Join(err, lis.Close())
	}
	return &Server{
		cfg: cfg, log: cfg.Logger, lis: lis, machine: m,
		inbox: make(chan request, 256), quit: make(chan struct{}),
	}, nil
}

func machine(cfg ServerConfig) (*cluster.Machine, error) {
	var kept cluster.Journal
	var err error
	if cfg.JournalPath != "" {
		kept, err = ReadJournal(cfg.JournalPath)
		if _, damaged := errors.AsType[*DamagedJournalError](err); damaged && cfg.Seen.Last.Number > 0 {
			cfg.Logger.Warn("the journal is damaged; continuing from what this node saw of the run", "err", err)
			kept, err = cluster.NewJournal(), nil
		}
		if err != nil {
			return nil, err
		}
	}
	m, err := cluster.Restore(cfg.Cluster, cluster.Newest(kept, cfg.Seen), time.Now())
	if err != nil {
		return nil, err
	}
	for _, node := range cfg.Silent {
		m.Step(time.Now(), cluster.NodeSilent{Node: node})
	}
	return m, nil
}

// secure refuses to serve strangers in plain text: whoever reaches the port
// could stop the run, join it or kill its workers.
func secure(cfg ServerConfig, addr net.Addr) error {
	tcp, isTCP := addr.(*net.TCPAddr)
	if cfg.Credentials != nil || !isTCP || tcp.IP.IsLoopback() {
		return nil
	}
	return fmt.Errorf("%w: refusing to listen on %s, where anyone could stop the run or join it: "+
		"give credentials, or bind 127.0.0.1", ErrInsecure, addr)
}

// Addr returns the bound address.
func (s *Server) Addr() net.Addr { return s.lis.Addr() }

// Serve runs the coordinator until the run is over or ctx is done. It returns
// nil when the run finished or was stopped on request, an *EndError when it
// failed, and context.Cause(ctx) when ctx was done; the workers then train on
// and wait for the next coordinator. It may be called once.
func (s *Server) Serve(ctx context.Context) error {
	err := errClosed
	s.serving.Do(func() { err = s.serve(ctx) })
	return err
}

func (s *Server) serve(ctx context.Context) error {
	options := []grpc.ServerOption{
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.MaxRecvMsgSize(maxMessage),
	}
	closings := watchClosings(s.lis)
	lis := net.Listener(closings)
	if s.cfg.Credentials != nil {
		guarded, credentials := security.Guard(lis, s.cfg.Credentials)
		lis, options = guarded, append(options, grpc.Creds(credentials))
	}
	rpc := grpc.NewServer(options...)
	pb.RegisterCoordinatorServiceServer(rpc, &service{server: s, closings: closings})
	served := make(chan error, 1)
	go func() { served <- rpc.Serve(lis) }()

	o := newOwner(s)
	err := o.run(ctx, served)
	close(s.quit)
	graceful(rpc, s.cfg.Grace)
	return err
}

// graceful lets calls end, for at most a grace period.
func graceful(rpc *grpc.Server, grace time.Duration) {
	timer := time.AfterFunc(grace, rpc.Stop)
	defer timer.Stop()
	rpc.GracefulStop()
}

// Status returns a snapshot.
func (s *Server) Status(ctx context.Context) (cluster.Status, error) {
	return ask(ctx, s, func(r *request, reply func(cluster.Status, error)) { r.status = reply })
}

// RequestStop asks the whole run to save a checkpoint and end.
func (s *Server) RequestStop(ctx context.Context, reason string) error {
	return s.put(ctx, request{event: cluster.StopRequested{Reason: reason}})
}

// put hands a request to the owner.
func (s *Server) put(ctx context.Context, r request) error {
	select {
	case s.inbox <- r:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.quit:
		return errClosed
	}
}

// ask puts a request and waits for its reply.
func ask[T any](ctx context.Context, s *Server, fill func(r *request, reply func(T, error))) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	var r request
	fill(&r, func(value T, err error) { answers <- answer{value, err} })
	var none T
	if err := s.put(ctx, r); err != nil {
		return none, err
	}
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	case <-s.quit:
		return none, errClosed
	}
}
