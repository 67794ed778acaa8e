package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/agrdist/agrdist/cluster"
	pb "github.com/agrdist/agrdist/cluster/clusterpb"
	"github.com/agrdist/agrdist/internal/text"
)

// Session is a worker's place in the run. It reconnects by itself and registers
// the same member again, with the generation and step that it is at; while the
// coordinator is away training continues.
type Session struct {
	*keeper
	member      cluster.Member
	generations chan cluster.Generation
	aborts      chan cluster.Abort
	stopping    chan struct{}
	stop        sync.Once

	mu     sync.Mutex
	report cluster.Report
	holds  cluster.Generation   // newest that arrived
	proven cluster.Generation   // in which this worker committed a step last
	since  []cluster.Generation // that arrived, newer than proven

	changed chan struct{}   // has room for one
	probed  chan *pb.Probed // has room for one
}

// Join registers a worker and returns its session. It tries until it is
// admitted, refused for good (the error wraps cluster.ErrMismatch, ErrEvicted or
// ErrOver, or is an *EndError) or ctx is done; afterwards ctx has no part in the
// session.
func (c *Client) Join(ctx context.Context, m cluster.Member) (*Session, error) {
	s := &Session{
		member: m, generations: make(chan cluster.Generation, 1), aborts: make(chan cluster.Abort, 1),
		stopping: make(chan struct{}), changed: make(chan struct{}, 1), probed: make(chan *pb.Probed, 1),
		report: cluster.Report{Member: m.ID, Step: -1, Phase: cluster.PhaseInit},
	}
	k, err := c.keep(ctx, fmt.Sprintf("worker %s %s", m.Seat(), m.ID), s.attempt)
	if err != nil {
		return nil, err
	}
	s.keeper = k
	return s, nil
}

// Generations delivers the newest generation that the worker is a member of; an
// older one that was not read is dropped. The channel is never closed: select on
// Done as well.
func (s *Session) Generations() <-chan cluster.Generation { return s.generations }

// Aborts delivers the end of a generation that has no successor yet: abort its
// collectives and wait for the next. Only the newest is kept.
func (s *Session) Aborts() <-chan cluster.Abort { return s.aborts }

// Stopping is closed when the run is asked to save a checkpoint and leave.
func (s *Session) Stopping() <-chan struct{} { return s.stopping }

// Done is closed when the session has ended for good; Err says why.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err returns nil while the session lasts and after Leave, an *EndError when the
// run is over (finished, stopped or failed), an error that wraps ErrEvicted when
// the coordinator gave the worker up, or ErrClosed.
func (s *Session) Err() error { return s.result() }

// Report sets what the worker says of itself. It never blocks; the newest wins.
// It is sent at once if the generation, Stopping or Broken changed, else no more
// often than ReportEvery, and repeated as a heartbeat. The session fills in
// Member.
func (s *Session) Report(r cluster.Report) {
	r.Member = s.member.ID
	s.mu.Lock()
	s.report = r
	if r.CommitGeneration == r.Generation {
		s.commits(r.Generation)
	}
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// commits notes that the worker committed a step in a generation.
func (s *Session) commits(number uint64) {
	i := slices.IndexFunc(s.since, func(g cluster.Generation) bool { return g.Number == number })
	if i >= 0 {
		s.proven, s.since = s.since[i], s.since[i+1:]
	}
}

// pledged returns the generations of Report.Pledged with their members.
func (s *Session) pledged() (gs []cluster.Generation) {
	for _, g := range s.since {
		if slices.Contains(s.report.Pledged, g.Number) {
			gs = append(gs, g)
		}
	}
	return gs
}

// Finish says that the run reached its last step and that the final checkpoint
// is durable. It tries until it is heard or ctx is done. An error that wraps
// cluster.ErrFenced says that the generation is over: take part in the next one
// and finish again. The session fills in Member and, if it is 0, the newest
// generation.
func (s *Session) Finish(ctx context.Context, f cluster.Finish) error {
	s.mu.Lock()
	if f.Generation == 0 {
		f.Generation = s.holds.Number
	}
	s.mu.Unlock()
	return s.client.retry(ctx, "finish", func(ctx context.Context, stub pb.CoordinatorServiceClient) error {
		_, err := stub.Finish(ctx, &pb.FinishRequest{
			Member: string(s.member.ID), Node: s.member.Node, Generation: f.Generation, Step: f.Step, Digest: f.Digest,
		})
		return err
	})
}

// Leave ends the session by agreement: the worker commits nothing more, and its
// exit is no crash. It waits until the coordinator knows, or ctx is done.
func (s *Session) Leave(ctx context.Context) error { return s.goodbye(ctx) }

type workLink = link[pb.WorkRequest, pb.WorkResponse]

// attempt is one stream, from registration to its end.
func (s *Session) attempt(ctx context.Context, k *keeper) error {
	l, err := open(ctx, k.client, func(ctx context.Context, stub pb.CoordinatorServiceClient) (grpc.BidiStreamingClient[pb.WorkRequest, pb.WorkResponse], error) {
		return stub.Work(ctx)
	})
	if err != nil {
		return err
	}
	defer l.close()
	s.mu.Lock()
	r := s.report
	join := &pb.Join{
		Member: toMember(s.member), Holds: toGeneration(s.holds), Committed: toGeneration(s.proven), Pledged: toGenerations(s.pledged()),
		Report: toReport(r),
	}
	s.mu.Unlock()
	if err := l.Send(&pb.WorkRequest{Message: &pb.WorkRequest_Join{Join: join}}); err != nil {
		return s.ended(l, err)
	}
	m, ok := <-l.in
	switch {
	case !ok:
		return l.err
	case m.GetAdmitted() == nil:
		return s.receive(m) // a refusal or the end
	}
	k.admit()
	return s.exchange(k, l, r)
}

// exchange sends reports and takes directives until the stream ends.
func (s *Session) exchange(k *keeper, l *workLink, sent cluster.Report) error {
	cfg := k.client.cfg
	heartbeat := time.NewTimer(cfg.Heartbeat)
	defer heartbeat.Stop()
	sentAt := time.Now()
	leaving := k.leaving
	for {
		send := false
		select {
		case m, ok := <-l.in:
			if !ok {
				if leaving == nil && errors.Is(l.err, io.EOF) {
					return final{errLeft}
				}
				return l.err
			}
			if err := s.receive(m); err != nil {
				return err
			}
		case <-s.changed:
			s.mu.Lock()
			r := s.report
			s.mu.Unlock()
			urgent := r.Generation != sent.Generation || r.Left != sent.Left || r.Stopping != sent.Stopping || r.Broken != sent.Broken
			if wait := cfg.ReportEvery - time.Since(sentAt); wait > 0 && !urgent {
				heartbeat.Reset(wait)
			} else {
				send = true
			}
		case <-heartbeat.C:
			send = true
		case p := <-s.probed:
			if err := l.Send(&pb.WorkRequest{Message: &pb.WorkRequest_Probed{Probed: p}}); err != nil {
				return s.ended(l, err)
			}
		case <-leaving:
			leaving = nil // once
			if err := l.Send(&pb.WorkRequest{Message: &pb.WorkRequest_Leave{Leave: &pb.Leave{}}}); err != nil {
				return s.ended(l, err)
			}
		}
		if send && leaving != nil {
			s.mu.Lock()
			sent = s.report
			s.mu.Unlock()
			if err := l.Send(&pb.WorkRequest{Message: &pb.WorkRequest_Report{Report: toReport(sent)}}); err != nil {
				return s.ended(l, err)
			}
			sentAt = time.Now()
			heartbeat.Reset(cfg.Heartbeat)
		}
	}
}

// ended finds out why a stream could not be sent to: what it last brought, or
// its status.
func (s *Session) ended(l *workLink, sendErr error) error {
	for m := range l.in {
		if err := s.receive(m); err != nil {
			return err
		}
	}
	return errors.Join(l.err, sendErr)
}

// receive takes in a directive; an error ends the stream.
func (s *Session) receive(m *pb.WorkResponse) error {
	switch m := m.GetMessage().(type) {
	case *pb.WorkResponse_Generation:
		g := fromGeneration(m.Generation)
		s.mu.Lock()
		newer := g.Number > s.holds.Number
		if newer {
			s.holds, s.since = g, append(s.since, g)
		}
		s.mu.Unlock()
		if newer {
			offer(s.generations, g)
		}
	case *pb.WorkResponse_Abort:
		offer(s.aborts, cluster.Abort{Generation: m.Abort.GetGeneration(), Reason: m.Abort.GetReason(), AfterStep: m.Abort.GetAfterStep()})
	case *pb.WorkResponse_Probe:
		go s.probe(m.Probe)
	case *pb.WorkResponse_Stop:
		s.stop.Do(func() { close(s.stopping) })
	case *pb.WorkResponse_Refused:
		return refused(m.Refused)
	case *pb.WorkResponse_End:
		return final{&EndError{fromEnd(m.End)}}
	}
	return nil
}

// probeTime is how long a connection may take.
const probeTime = 3 * time.Second

// probe connects to the data ports of others and says whether they all answered.
func (s *Session) probe(p *pb.Probe) {
	ctx, cancel := context.WithTimeout(context.Background(), probeTime)
	defer cancel()
	answer := &pb.Probed{Number: p.GetNumber()}
	for _, addr := range p.GetAddrs() {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			answer.Error = text.Valid(err.Error())
			break
		}
		_ = conn.Close() // nothing was sent
	}
	select {
	case s.probed <- answer:
	default: // one is on its way
	}
}

// offer puts v in a channel with room for one, in place of what is there. One
// goroutine offers.
func offer[T any](ch chan T, v T) {
	select {
	case <-ch:
	default:
	}
	ch <- v
}
