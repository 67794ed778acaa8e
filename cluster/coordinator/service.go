package coordinator

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/agrdist/agrdist/cluster"
	pb "github.com/agrdist/agrdist/cluster/clusterpb"
	"github.com/agrdist/agrdist/cluster/security"
)

// service is the gRPC face of a Server: it checks who speaks and hands requests
// to the owner.
type service struct {
	pb.UnimplementedCoordinatorServiceServer
	server   *Server
	closings *closings
}

var errAway = status.Error(codes.Unavailable, "the coordinator is stopping")

// authorize checks that the caller may speak for a node: the one that its certificate
// names. Without credentials (loopback only) there is no certificate to look at.
func (s *service) authorize(ctx context.Context, node string) error {
	if s.server.cfg.Credentials == nil {
		return nil
	}
	id, ok := security.PeerIdentity(ctx)
	switch {
	case !ok:
		return status.Error(codes.PermissionDenied, "the certificate names no node")
	case id.Node != node:
		return status.Errorf(codes.PermissionDenied, "the certificate is of node %q, which cannot speak for node %q", id.Node, node)
	}
	return nil
}

// Work serves a worker's session.
func (s *service) Work(stream pb.CoordinatorService_WorkServer) error {
	ctx := stream.Context()
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	join := first.GetJoin()
	if join == nil {
		return status.Error(codes.InvalidArgument, "the first message must be a Join")
	}
	m := fromMember(join.GetMember())
	if err := s.authorize(ctx, m.Node); err != nil {
		return err
	}
	out := newOutbox(staleWork)
	event := cluster.WorkerJoined{
		Member: m, Holds: fromGeneration(join.GetHolds()), Committed: fromGeneration(join.GetCommitted()), Pledged: fromGenerations(join.GetPledged()),
		Report: fromReport(join.GetReport(), m.ID),
	}
	if err := s.server.put(ctx, request{event: event, work: out}); err != nil {
		return errAway
	}
	go s.receiveWork(ctx, stream, m.ID, out)
	return pump(ctx, s.server, out, stream, &pb.WorkResponse{Message: &pb.WorkResponse_Heartbeat{Heartbeat: &pb.Heartbeat{}}})
}

// receiveWork hands a worker's words to the owner until its stream ends; it ends
// at the latest with the handler, which ends the stream's context.
func (s *service) receiveWork(ctx context.Context, stream pb.CoordinatorService_WorkServer, id cluster.MemberID, out *workOutbox) {
	// The news of a broken stream must arrive though the stream's context ends.
	last := request{event: cluster.StreamBroken{ID: id}, work: out}
	conn := s.closings.of(ctx)
	defer func() {
		if broken, is := last.event.(cluster.StreamBroken); is {
			broken.Closed = conn.byPeer()
			last.event = broken
		}
		_ = s.server.put(context.WithoutCancel(ctx), last) // fails only when the server stops
	}()
	for {
		message, err := stream.Recv()
		if err != nil {
			return
		}
		switch m := message.GetMessage().(type) {
		case *pb.WorkRequest_Report:
			if s.server.put(ctx, request{event: cluster.Reported{Report: fromReport(m.Report, id)}, work: out}) != nil {
				return
			}
		case *pb.WorkRequest_Probed:
			event := cluster.Probed{ID: id, Number: m.Probed.GetNumber(), Err: m.Probed.GetError()}
			if s.server.put(ctx, request{event: event, work: out}) != nil {
				return
			}
		case *pb.WorkRequest_Leave:
			last.event = cluster.WorkerLost{ID: id, Certified: true, Why: "it left"}
			return
		}
	}
}

// Supervise serves an agent's session.
func (s *service) Supervise(stream pb.CoordinatorService_SuperviseServer) error {
	ctx := stream.Context()
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if hello == nil || hello.GetNode() == "" {
		return status.Error(codes.InvalidArgument, "the first message must be a Hello with the node's name")
	}
	node := hello.GetNode()
	if err := s.authorize(ctx, node); err != nil {
		return err
	}
	out := newOutbox(staleSupervise)
	event := cluster.AgentJoined{Node: node, Slots: int(hello.GetSlots()), Host: hello.GetHost(), Seen: fromGenerations(hello.GetSeen()), Committed: fromGeneration(hello.GetCommitted())}
	if err := s.server.put(ctx, request{event: event, agent: out, hello: hello, node: node}); err != nil {
		return errAway
	}
	go func() {
		last := request{event: cluster.AgentLost{Node: node}, agent: out, node: node}
		defer func() { _ = s.server.put(context.WithoutCancel(ctx), last) }() // fails only when the server stops
		defer out.close()
		for {
			message, err := stream.Recv()
			if err != nil || message.GetLeave() != nil {
				return
			}
			var event cluster.Event = cluster.AgentHeard{Node: node}
			if message.GetDrain() != nil {
				event = cluster.AgentDraining{Node: node}
			}
			if s.server.put(ctx, request{event: event, agent: out, node: node}) != nil {
				return
			}
		}
	}()
	return pump(ctx, s.server, out, stream, &pb.SuperviseResponse{Message: &pb.SuperviseResponse_Heartbeat{Heartbeat: &pb.Heartbeat{}}})
}

type sender[M any] interface{ Send(m M) error }

// pump sends what is put in the outbox, and heartbeats, until the outbox is
// closed or the stream ends.
func pump[M any](ctx context.Context, s *Server, out *outbox[M], stream sender[M], heartbeat M) error {
	ticker := time.NewTicker(s.cfg.Heartbeat)
	defer ticker.Stop()
	for {
		select {
		case <-out.ready:
			queue, closed := out.take()
			for _, m := range queue {
				if err := stream.Send(m); err != nil {
					return err
				}
			}
			if closed {
				return nil
			}
		case <-ticker.C:
			if err := stream.Send(heartbeat); err != nil {
				return err
			}
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-s.quit:
			return errAway
		}
	}
}

// ReportExit takes in a supervisor's certificate.
func (s *service) ReportExit(ctx context.Context, r *pb.ReportExitRequest) (*pb.ReportExitResponse, error) {
	if err := s.authorize(ctx, r.GetNode()); err != nil {
		return nil, err
	}
	e := cluster.Exit{
		Member: cluster.MemberID(r.GetMember()), Node: r.GetNode(), Slot: int(r.GetSlot()),
		Code: int(r.GetCode()), Signal: r.GetSignal(), Message: r.GetMessage(), Again: r.GetAgain(),
	}
	v, err := ask(ctx, s.server, func(q *request, reply func(cluster.Verdict, error)) {
		*q = request{event: cluster.WorkerExited{Exit: e}, node: r.GetNode(), judge: reply}
	})
	if err != nil {
		return nil, toStatusError(err)
	}
	return &pb.ReportExitResponse{Restart: v.Restart, AfterNanos: int64(v.After), Reason: v.Reason}, nil
}

// Finish takes in a rank's word that the run is done.
func (s *service) Finish(ctx context.Context, r *pb.FinishRequest) (*pb.FinishResponse, error) {
	if err := s.authorize(ctx, r.GetNode()); err != nil {
		return nil, err
	}
	f := cluster.Finish{Member: cluster.MemberID(r.GetMember()), Generation: r.GetGeneration(), Step: r.GetStep(), Digest: r.GetDigest()}
	_, err := ask(ctx, s.server, func(q *request, reply func(struct{}, error)) {
		*q = request{event: cluster.Finished{Finish: f}, node: r.GetNode(), finish: reply}
	})
	if err != nil {
		return nil, toStatusError(err)
	}
	return &pb.FinishResponse{}, nil
}

// RequestStop asks the run to end.
func (s *service) RequestStop(ctx context.Context, r *pb.RequestStopRequest) (*pb.RequestStopResponse, error) {
	if err := s.server.RequestStop(ctx, r.GetReason()); err != nil {
		return nil, toStatusError(err)
	}
	return &pb.RequestStopResponse{}, nil
}

// Status returns a snapshot.
func (s *service) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusResponse, error) {
	st, err := s.server.Status(ctx)
	if err != nil {
		return nil, toStatusError(err)
	}
	return toStatus(st), nil
}

// The codes that carry a sentinel over the wire.
var sentinels = []struct {
	err  error
	code codes.Code
}{
	{cluster.ErrFenced, codes.Aborted},
	{cluster.ErrOver, codes.FailedPrecondition},
	{errClosed, codes.Unavailable},
}

func toStatusError(err error) error {
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return status.Error(s.code, err.Error())
		}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.InvalidArgument, err.Error())
}
