package coordinator

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/agrdist/agrdist/cluster"
	pb "github.com/agrdist/agrdist/cluster/clusterpb"
)

type (
	workOutbox      = outbox[*pb.WorkResponse]
	superviseOutbox = outbox[*pb.SuperviseResponse]
)

// request is what streams and calls hand to the owner. An event that concerns a
// stream counts only while that stream is the member's newest.
type request struct {
	event  cluster.Event
	work   *workOutbox      // stream that a worker's event came over
	agent  *superviseOutbox // stream that an agent's event came over
	hello  *pb.Hello        // an agent opens its session
	node   string           // of the agent's event, or that a call speaks for
	judge  func(cluster.Verdict, error)
	finish func(struct{}, error)
	status func(cluster.Status, error)
}

// agent is a node's open session.
type agent struct {
	out      *superviseOutbox
	instance string
	seen     time.Time
}

// owner is the one goroutine that has the machine.
type owner struct {
	*Server
	workers map[cluster.MemberID]*workOutbox
	nodes   map[cluster.MemberID]string // of every member ever admitted
	agents  map[string]*agent
	kills   map[cluster.MemberID]cluster.Kill // not yet certified

	// Requests that the machine is to answer, by the number that its answer carries.
	asked   map[uint64]request
	numbers uint64

	end        *cluster.End
	lingerBy   time.Time
	journaled  uint64
	journalAt  time.Time
	journalErr bool
}

func newOwner(s *Server) *owner {
	return &owner{
		Server: s, workers: map[cluster.MemberID]*workOutbox{}, nodes: map[cluster.MemberID]string{},
		agents: map[string]*agent{}, kills: map[cluster.MemberID]cluster.Kill{}, asked: map[uint64]request{},
	}
}

// run steps the machine until the run is over and everybody was told.
func (o *owner) run(ctx context.Context, served <-chan error) error {
	ticker := time.NewTicker(o.cfg.Tick)
	defer ticker.Stop()
	for {
		var batch []request
		select {
		case r := <-o.inbox:
			batch = o.drain(r)
		case <-ticker.C:
		case err := <-served:
			return fmt.Errorf("coordinator: serve on %s: %w", o.lis.Addr(), err)
		case <-ctx.Done():
			_ = o.journal(time.Now(), true) // it was logged
			return context.Cause(ctx)
		}
		if err := o.step(batch); err != nil {
			return err
		}
		if o.end != nil && (len(o.workers)+len(o.agents) == 0 || !time.Now().Before(o.lingerBy)) {
			if o.end.Outcome == cluster.OutcomeFailed {
				return &EndError{*o.end}
			}
			return nil
		}
	}
}

// drain takes what else lies in the inbox, so that things that happened together
// make one decision. A registration ends a batch: what follows over its stream
// counts only once it is admitted.
func (o *owner) drain(first request) []request {
	batch := []request{first}
	for len(batch) < 1024 {
		if _, join := batch[len(batch)-1].event.(cluster.WorkerJoined); join {
			return batch
		}
		select {
		case r := <-o.inbox:
			batch = append(batch, r)
		default:
			return batch
		}
	}
	return batch
}

func (o *owner) step(batch []request) error {
	now := time.Now()
	events := make([]cluster.Event, 0, len(batch)+1)
	for _, r := range batch {
		if e := o.accept(now, r); e != nil {
			events = append(events, e)
		}
	}
	actions := o.machine.Step(now, append(events, cluster.Tick{})...)
	if err := o.journal(now, false); err != nil && cluster.Begins(actions, o.machine.Journal()) {
		return fmt.Errorf("the run cannot begin: %w", err)
	}
	for _, a := range actions {
		o.carryOut(now, a)
	}
	for _, r := range batch {
		if r.status != nil {
			r.status(o.machine.Status(now), nil)
		}
	}
	return nil
}

// accept checks a request against the streams that are open and returns the
// event for the machine, or nil.
func (o *owner) accept(now time.Time, r request) cluster.Event {
	switch e := r.event.(type) {
	case cluster.WorkerJoined:
		if node, known := o.nodes[e.Member.ID]; known && node != e.Member.Node {
			r.work.put(&pb.WorkResponse{Message: &pb.WorkResponse_Refused{Refused: toRefused(fmt.Errorf("%w: member id %q is of node %q, not of %q",
				cluster.ErrMismatch, e.Member.ID, node, e.Member.Node))}})
			r.work.close()
			return nil
		}
		o.nodes[e.Member.ID] = e.Member.Node
		e.Request = o.ask(r)
		return e
	case cluster.Reported:
		if o.workers[e.Report.Member] != r.work {
			return nil
		}
	case cluster.Probed:
		if o.workers[e.ID] != r.work {
			return nil
		}
	case cluster.StreamBroken:
		if o.workers[e.ID] != r.work {
			return nil
		}
		delete(o.workers, e.ID)
	case cluster.WorkerLost:
		if o.workers[e.ID] != r.work {
			return nil
		}
		delete(o.workers, e.ID)
		r.work.close()
	case cluster.WorkerExited:
		if node, known := o.nodes[e.Exit.Member]; known && node != r.node {
			r.judge(cluster.Verdict{}, fmt.Errorf("coordinator: node %q certifies the death of %q, a worker of node %q", r.node, e.Exit.Member, node))
			return nil
		}
		delete(o.kills, e.Exit.Member)
		e.Request = o.ask(r)
		return e
	case cluster.Finished:
		if node, known := o.nodes[e.Finish.Member]; known && node != r.node {
			r.finish(struct{}{}, fmt.Errorf("coordinator: node %q speaks for %q, a worker of node %q", r.node, e.Finish.Member, node))
			return nil
		}
		e.Request = o.ask(r)
		return e
	case cluster.AgentJoined:
		return o.acceptAgent(now, e, r)
	case cluster.AgentHeard, cluster.AgentDraining:
		if a := o.agents[r.node]; a == nil || a.out != r.agent {
			return nil
		}
		o.agents[r.node].seen = now
	case cluster.AgentLost:
		if a := o.agents[r.node]; a == nil || a.out != r.agent {
			return nil
		}
		delete(o.agents, r.node)
	}
	return r.event
}

// ask numbers a request that the machine will answer.
func (o *owner) ask(r request) uint64 {
	o.numbers++
	o.asked[o.numbers] = r
	return o.numbers
}

// answered takes the request that an answer of the machine belongs to.
func (o *owner) answered(number uint64) request {
	r := o.asked[number]
	delete(o.asked, number)
	return r
}

// acceptAgent opens an agent's session. A second node of the same name is told
// apart by its instance and turned away while the first is alive.
func (o *owner) acceptAgent(now time.Time, e cluster.AgentJoined, r request) cluster.Event {
	refuse := func(err error) cluster.Event {
		r.agent.put(&pb.SuperviseResponse{Message: &pb.SuperviseResponse_Refused{Refused: toRefused(err)}})
		r.agent.close()
		return nil
	}
	if want := o.cfg.Cluster.RunID; want != "" && r.hello.GetRunId() != "" && r.hello.GetRunId() != want {
		return refuse(fmt.Errorf("%w: the agent of node %q has run id %q, the run has %q: does a seed address belong to another run?",
			cluster.ErrMismatch, e.Node, r.hello.GetRunId(), want))
	}
	if old := o.agents[e.Node]; old != nil {
		if silent := now.Sub(old.seen); old.instance != r.hello.GetInstance() && silent < o.cfg.Cluster.LostAfter {
			return refuse(fmt.Errorf("%w: another node is named %q and is in the run: give this one another cluster.node",
				cluster.ErrSlotTaken, e.Node))
		}
		old.out.close()
	}
	if o.end != nil {
		r.agent.put(&pb.SuperviseResponse{Message: &pb.SuperviseResponse_End{End: toEnd(*o.end)}})
		r.agent.close()
		return nil
	}
	o.agents[e.Node] = &agent{out: r.agent, instance: r.hello.GetInstance(), seen: now}
	r.agent.put(&pb.SuperviseResponse{Message: &pb.SuperviseResponse_Admitted{Admitted: &pb.Admitted{Config: o.cfg.Config}}})
	for _, k := range o.kills {
		if k.Member.Node == e.Node {
			r.agent.put(killMessage(k))
		}
	}
	o.log.Info("agent joined", slog.String("node", e.Node), slog.Int("slots", e.Slots))
	return e
}

// journal writes the journal when it changed, and its step from time to time. A
// journal that cannot be written does not stop the run: the workers' own word
// is the better half of it. Only the run's beginning waits for it.
func (o *owner) journal(now time.Time, force bool) error {
	if o.cfg.JournalPath == "" {
		return nil
	}
	due := force || now.Sub(o.journalAt) >= 5*time.Second
	if o.machine.Revision() == o.journaled && !due {
		return nil
	}
	revision := o.machine.Revision()
	err := writeJournal(o.cfg.JournalPath, o.machine.Journal())
	if err == nil {
		o.journaled, o.journalAt = revision, now
	}
	if failed := err != nil; failed != o.journalErr {
		o.journalErr = failed
		if failed {
			o.log.Error("journal cannot be written; a restarted coordinator will depend on the workers' reports", slog.Any("error", err))
		} else {
			o.log.Info("journal is written again")
		}
	}
	return err
}
