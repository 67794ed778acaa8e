package coordinator

import (
	"log/slog"
	"time"

	"github.com/agrdist/agrdist/cluster"
	pb "github.com/agrdist/agrdist/cluster/clusterpb"
)

// carryOut does what the machine asks for.
func (o *owner) carryOut(now time.Time, a cluster.Action) {
	switch a := a.(type) {
	case cluster.Admit:
		o.admit(a.ID, o.answered(a.Request).work)
	case cluster.Refuse:
		out := o.answered(a.Request).work
		if o.end != nil {
			out.put(&pb.WorkResponse{Message: &pb.WorkResponse_End{End: toEnd(*o.end)}})
		}
		out.put(&pb.WorkResponse{Message: &pb.WorkResponse_Refused{Refused: toRefused(a.Err)}})
		out.close()
		o.log.Warn("worker refused", slog.String("member", string(a.ID)), slog.Any("error", a.Err))
	case cluster.Tell:
		if out, m := o.workers[a.ID], workMessage(a.Action); out != nil && m != nil {
			out.put(m)
		}
	case cluster.Form:
		o.form(a)
	case cluster.Adopt:
		o.log.Info("generation adopted", slog.Uint64("generation", a.Generation.Number), slog.Int("world_size", a.Generation.World()))
	case cluster.Abort:
		o.log.Warn("generation aborted", slog.Uint64("generation", a.Generation), slog.Bool("after_step", a.AfterStep), slog.String("reason", a.Reason))
		o.broadcast(a)
	case cluster.Wait:
		o.log.Info("waiting", slog.String("wait_for", a.For))
	case cluster.Kill:
		o.kill(a)
	case cluster.Drop:
		if out := o.workers[a.ID]; out != nil {
			out.close()
			delete(o.workers, a.ID)
		}
	case cluster.Probe:
		if out := o.workers[a.ID]; out != nil {
			out.put(&pb.WorkResponse{Message: &pb.WorkResponse_Probe{Probe: &pb.Probe{Number: a.Number, Addrs: a.Addrs}}})
		}
	case cluster.KeptOut:
		o.log.Warn("node kept out of the run", slog.String("node", a.Node), slog.String("reason", a.Reason))
	case cluster.LetIn:
		o.log.Info("node let into the run again: its links work", slog.String("node", a.Node))
	case cluster.Drained:
		o.log.Info("node leaves", slog.String("node", a.Node))
		if agent := o.agents[a.Node]; agent != nil {
			agent.out.put(&pb.SuperviseResponse{Message: &pb.SuperviseResponse_Drained{Drained: &pb.Drained{}}})
		}
	case cluster.Judge:
		o.answered(a.Request).judge(a.Verdict, nil)
		o.log.Warn("worker exited", slog.String("member", string(a.Exit.Member)), slog.String("exit", a.Exit.String()),
			slog.Bool("restart", a.Verdict.Restart), slog.Duration("after", a.Verdict.After), slog.String("reason", a.Verdict.Reason))
	case cluster.Acknowledge:
		o.answered(a.Request).finish(struct{}{}, a.Err)
	case cluster.Stop:
		o.log.Info("stopping", slog.String("reason", a.Reason))
		o.broadcast(a)
		for _, agent := range o.agents {
			agent.out.put(&pb.SuperviseResponse{Message: &pb.SuperviseResponse_Stop{Stop: &pb.Stop{Reason: a.Reason}}})
		}
	case cluster.Over:
		o.over(now, a.End)
	}
}

func (o *owner) admit(id cluster.MemberID, out *workOutbox) {
	if old := o.workers[id]; old != nil {
		old.close() // the worker came back before its old stream was found dead
	}
	o.workers[id] = out
	out.put(&pb.WorkResponse{Message: &pb.WorkResponse_Admitted{Admitted: &pb.Admitted{}}})
	o.log.Info("worker joined", slog.String("member", string(id)), slog.String("node", o.nodes[id]))
}

func (o *owner) form(f cluster.Form) {
	g := f.Generation
	o.log.Info("generation formed", slog.Uint64("generation", g.Number), slog.Int("world_size", g.World()), slog.Int("spares", g.Spares), slog.String("reason", g.Reason))
	for _, m := range g.Members {
		if out := o.workers[m.ID]; out != nil {
			out.put(workMessage(f))
		}
	}
	for _, a := range o.agents {
		a.out.put(&pb.SuperviseResponse{Message: &pb.SuperviseResponse_Generation{Generation: toGeneration(g)}})
	}
}

func (o *owner) broadcast(a cluster.Action) {
	for _, out := range o.workers {
		out.put(workMessage(a))
	}
}

// kill asks the node's agent, now or when it is back, and ends the worker's own
// session: one that can still listen exits by itself.
func (o *owner) kill(k cluster.Kill) {
	o.log.Warn("worker evicted", slog.String("member", string(k.Member.ID)), slog.String("node", k.Member.Node), slog.String("reason", k.Reason))
	o.kills[k.Member.ID] = k
	if a := o.agents[k.Member.Node]; a != nil {
		a.out.put(killMessage(k))
	}
	if out := o.workers[k.Member.ID]; out != nil {
		out.put(&pb.WorkResponse{Message: &pb.WorkResponse_Refused{Refused: &pb.Refused{
			Refusal: pb.Refusal_REFUSAL_EVICTED, Text: k.Member.String() + " was evicted: " + k.Reason,
		}}})
		out.close()
		delete(o.workers, k.Member.ID)
	}
}

func (o *owner) over(now time.Time, e cluster.End) {
	report := o.log.Info
	if e.Outcome == cluster.OutcomeFailed {
		report = o.log.Error
	}
	report("run is over", slog.String("outcome", e.Outcome.String()), slog.Int64("step", e.Step), slog.String("reason", e.Reason))
	o.end, o.lingerBy = &e, now.Add(o.cfg.Grace)
	for _, out := range o.workers {
		out.put(&pb.WorkResponse{Message: &pb.WorkResponse_End{End: toEnd(e)}})
		out.close()
	}
	for _, a := range o.agents {
		a.out.put(&pb.SuperviseResponse{Message: &pb.SuperviseResponse_End{End: toEnd(e)}})
		a.out.close()
	}
}

func workMessage(a cluster.Action) *pb.WorkResponse {
	switch a := a.(type) {
	case cluster.Form:
		return &pb.WorkResponse{Message: &pb.WorkResponse_Generation{Generation: toGeneration(a.Generation)}}
	case cluster.Abort:
		return &pb.WorkResponse{Message: &pb.WorkResponse_Abort{Abort: &pb.Abort{Generation: a.Generation, Reason: a.Reason, AfterStep: a.AfterStep}}}
	case cluster.Stop:
		return &pb.WorkResponse{Message: &pb.WorkResponse_Stop{Stop: &pb.Stop{Reason: a.Reason}}}
	}
	return nil
}

func killMessage(k cluster.Kill) *pb.SuperviseResponse {
	return &pb.SuperviseResponse{Message: &pb.SuperviseResponse_Kill{Kill: &pb.Kill{
		Member: string(k.Member.ID), Slot: int32(k.Member.Slot), Pid: int32(k.Member.PID), Reason: k.Reason,
	}}}
}
