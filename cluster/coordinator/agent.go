package coordinator

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/agrdist/agrdist/cluster"
	pb "github.com/agrdist/agrdist/cluster/clusterpb"
	"github.com/agrdist/agrdist/internal/text"
)

// Node is an agent as it presents itself.
type Node struct {
	Name  string
	Host  string
	Slots int // workers that it supervises
	RunID string
	// Seen returns the newest generation that the node knows to have committed a step, and
	// those that it has seen since then, the newest last. It may be nil.
	Seen func() (committed cluster.Generation, since []cluster.Generation)
	// Refused is called when the coordinator refuses the node for now and the session
	// tries again: another node has its name. It may be nil.
	Refused func(err error)
}

// AgentSession is an agent's place in the run. It reconnects by itself.
type AgentSession struct {
	*keeper
	node     Node
	instance string
	kills    chan cluster.Kill
	formed   chan cluster.Generation
	stopping chan struct{}
	stop     sync.Once
	draining chan struct{} // closed when the node wants to leave
	drain    sync.Once
	drained  chan struct{} // closed when it may
	let      sync.Once

	mu     sync.Mutex
	config string
}

// Supervise registers a node's agent and returns its session. It tries until it
// is admitted, refused for good or ctx is done; afterwards ctx has no part in
// the session.
func (c *Client) Supervise(ctx context.Context, n Node) (*AgentSession, error) {
	s := &AgentSession{
		node: n, instance: rand.Text(), kills: make(chan cluster.Kill, 1024), formed: make(chan cluster.Generation, 1), stopping: make(chan struct{}),
		draining: make(chan struct{}), drained: make(chan struct{}),
	}
	k, err := c.keep(ctx, "agent "+n.Name, s.attempt)
	if err != nil {
		return nil, err
	}
	s.keeper = k
	return s, nil
}

// Drain asks to take this node's workers out of the run. The answer is Drained, or
// the workers are told to stop with all others because too few would be left.
func (s *AgentSession) Drain() { s.drain.Do(func() { close(s.draining) }) }

// Drained is closed when the node may end its workers and go.
func (s *AgentSession) Drained() <-chan struct{} { return s.drained }

// Config is the run's configuration, as the coordinator that admitted the node has it.
func (s *AgentSession) Config() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config
}

// Kills delivers the workers of this node that are to be killed (SIGKILL) and
// reaped. One may come again after a reconnection, and for a process that is
// already dead: ignore ids that are not running.
func (s *AgentSession) Kills() <-chan cluster.Kill { return s.kills }

// Formed delivers the newest generation that was formed while this session was open; an
// older one that was not read is dropped.
func (s *AgentSession) Formed() <-chan cluster.Generation { return s.formed }

// Stopping is closed when the run is asked to save a checkpoint and leave: the
// workers are told by the coordinator, restart none.
func (s *AgentSession) Stopping() <-chan struct{} { return s.stopping }

// ReportExit certifies that a worker of this node was reaped and returns whether
// to start a replacement, and when. It tries until it is heard or ctx is done;
// repeating a certificate is harmless. When the run is over the verdict is not
// to restart.
func (s *AgentSession) ReportExit(ctx context.Context, e cluster.Exit) (cluster.Verdict, error) {
	e.Node = s.node.Name
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() { // nobody answers when the run is over
		defer close(watched)
		select {
		case <-s.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	v, err := s.client.ReportExit(ctx, e)
	cancel()
	<-watched
	var end *EndError
	if err != nil && errors.As(s.Err(), &end) {
		return cluster.Verdict{Reason: end.Error()}, nil
	}
	return v, err
}

// ReportExit is AgentSession.ReportExit without a session: e.Node must be set.
func (c *Client) ReportExit(ctx context.Context, e cluster.Exit) (cluster.Verdict, error) {
	var v cluster.Verdict
	err := c.retry(ctx, "report exit", func(ctx context.Context, stub pb.CoordinatorServiceClient) error {
		r, err := stub.ReportExit(ctx, &pb.ReportExitRequest{
			Member: string(e.Member), Node: e.Node, Slot: int32(e.Slot), Code: int32(e.Code),
			Signal: e.Signal, Message: text.Valid(e.Message), Again: e.Again,
		})
		if err == nil {
			v = cluster.Verdict{Restart: r.GetRestart(), After: time.Duration(r.GetAfterNanos()), Reason: r.GetReason()}
		}
		return err
	})
	return v, err
}

// Done is closed when the session has ended for good; Err says why.
func (s *AgentSession) Done() <-chan struct{} { return s.done }

// Err returns nil while the session lasts and after Leave, an *EndError when the
// run is over, the refusal, or ErrClosed.
func (s *AgentSession) Err() error { return s.result() }

// Leave ends the session. It waits until the coordinator knows, or ctx is done.
func (s *AgentSession) Leave(ctx context.Context) error { return s.goodbye(ctx) }

// attempt is one stream, from registration to its end.
func (s *AgentSession) attempt(ctx context.Context, k *keeper) error {
	l, err := open(ctx, k.client, func(ctx context.Context, stub pb.CoordinatorServiceClient) (grpc.BidiStreamingClient[pb.SuperviseRequest, pb.SuperviseResponse], error) {
		return stub.Supervise(ctx)
	})
	if err != nil {
		return err
	}
	defer l.close()
	hello := &pb.Hello{
		Node: s.node.Name, Slots: int32(s.node.Slots), Host: text.Valid(s.node.Host), RunId: s.node.RunID, Instance: s.instance,
	}
	if s.node.Seen != nil {
		committed, since := s.node.Seen()
		hello.Committed, hello.Seen = toGeneration(committed), toGenerations(since)
	}
	if err := l.Send(&pb.SuperviseRequest{Message: &pb.SuperviseRequest_Hello{Hello: hello}}); err != nil {
		return s.ended(k, l, err)
	}
	ticker := time.NewTicker(k.client.cfg.Heartbeat)
	defer ticker.Stop()
	leaving, draining, admitted := k.leaving, s.draining, false
	for {
		var out *pb.SuperviseRequest
		select {
		case m, ok := <-l.in:
			if !ok {
				if leaving == nil && errors.Is(l.err, io.EOF) {
					return final{errLeft}
				}
				return l.err
			}
			if err := s.receive(k, m); err != nil {
				if errors.Is(err, cluster.ErrSlotTaken) && s.node.Refused != nil {
					s.node.Refused(err)
				}
				return err
			}
			admitted = admitted || m.GetAdmitted() != nil
			continue
		case <-ticker.C:
			out = &pb.SuperviseRequest{Message: &pb.SuperviseRequest_Heartbeat{Heartbeat: &pb.Heartbeat{}}}
		case <-draining:
			draining = nil // once a stream
			out = &pb.SuperviseRequest{Message: &pb.SuperviseRequest_Drain{Drain: &pb.Drain{}}}
		case <-leaving:
			leaving = nil // once
			out = &pb.SuperviseRequest{Message: &pb.SuperviseRequest_Leave{Leave: &pb.Leave{}}}
		}
		if err := l.Send(out); err != nil {
			return s.ended(k, l, err)
		}
	}
}

// ended finds out why a stream could not be sent to.
func (s *AgentSession) ended(k *keeper, l *link[pb.SuperviseRequest, pb.SuperviseResponse], sendErr error) error {
	for m := range l.in {
		if err := s.receive(k, m); err != nil {
			return err
		}
	}
	return errors.Join(l.err, sendErr)
}

// receive takes in a directive; an error ends the stream.
func (s *AgentSession) receive(k *keeper, m *pb.SuperviseResponse) error {
	switch m := m.GetMessage().(type) {
	case *pb.SuperviseResponse_Admitted:
		s.mu.Lock()
		s.config = m.Admitted.GetConfig()
		s.mu.Unlock()
		k.admit()
	case *pb.SuperviseResponse_Kill:
		kill := cluster.Kill{
			Member: cluster.Member{
				ID: cluster.MemberID(m.Kill.GetMember()), Node: s.node.Name, Slot: int(m.Kill.GetSlot()), PID: int(m.Kill.GetPid()),
			},
			Reason: m.Kill.GetReason(),
		}
		select {
		case s.kills <- kill:
		default: // it comes again with the next connection
			k.client.log.Error("kill dropped: nobody reads Kills", slog.String("member", string(kill.Member.ID)))
		}
	case *pb.SuperviseResponse_Generation:
		offer(s.formed, fromGeneration(m.Generation))
	case *pb.SuperviseResponse_Stop:
		s.stop.Do(func() { close(s.stopping) })
	case *pb.SuperviseResponse_Drained:
		s.let.Do(func() { close(s.drained) })
	case *pb.SuperviseResponse_Refused:
		return refused(m.Refused)
	case *pb.SuperviseResponse_End:
		return final{&EndError{fromEnd(m.End)}}
	}
	return nil
}
