package coordinator

import (
	"errors"
	"time"

	"github.com/agrdist/agrdist/cluster"
	pb "github.com/agrdist/agrdist/cluster/clusterpb"
	"github.com/agrdist/agrdist/internal/text"
)

// maxMessage is the largest message that is taken in, in bytes. A worker that registers
// again names two generations, at some 150 bytes a member, and a status has up to three
// generations and a report of each worker. Only members of the run get so far as to send one.
const maxMessage = 32 << 20

// Protobuf refuses a message with text that is not UTF-8: what comes from outside (host
// names, errors that name files) is made valid on the way out.

func toMember(m cluster.Member) *pb.Member {
	return &pb.Member{
		Id: string(m.ID), Node: m.Node, Slot: int32(m.Slot), DataAddr: m.DataAddr, Host: text.Valid(m.Host),
		RunId: m.RunID, ConfigHash: m.ConfigHash, Build: m.Build, Pid: int32(m.PID), Topology: m.Topology,
	}
}

func fromMember(m *pb.Member) cluster.Member {
	return cluster.Member{
		ID: cluster.MemberID(m.GetId()), Node: m.GetNode(), Slot: int(m.GetSlot()), DataAddr: m.GetDataAddr(), Host: m.GetHost(),
		RunID: m.GetRunId(), ConfigHash: m.GetConfigHash(), Build: m.GetBuild(), PID: int(m.GetPid()), Topology: m.GetTopology(),
	}
}

// toGeneration returns nil for no generation.
func toGeneration(g cluster.Generation) *pb.Generation {
	if g.Number == 0 {
		return nil
	}
	p := &pb.Generation{Number: g.Number, Reason: text.Valid(g.Reason), After: g.After, Spares: int32(g.Spares)}
	for _, m := range g.Members {
		p.Members = append(p.Members, toMember(m))
	}
	return p
}

func fromGeneration(p *pb.Generation) cluster.Generation {
	g := cluster.Generation{Number: p.GetNumber(), Reason: p.GetReason(), After: p.GetAfter(), Spares: int(p.GetSpares())}
	for _, m := range p.GetMembers() {
		g.Members = append(g.Members, fromMember(m))
	}
	return g
}

func toGenerations(gs []cluster.Generation) (ps []*pb.Generation) {
	for _, g := range gs {
		ps = append(ps, toGeneration(g))
	}
	return ps
}

func fromGenerations(ps []*pb.Generation) (gs []cluster.Generation) {
	for _, p := range ps {
		gs = append(gs, fromGeneration(p))
	}
	return gs
}

func toReport(r cluster.Report) *pb.Report {
	return &pb.Report{
		Generation: r.Generation, Step: r.Step, CommitGeneration: r.CommitGeneration, HasState: r.HasState,
		Phase: r.Phase, Bucket: int32(r.Bucket), Stopping: r.Stopping,
		Loss: r.Loss, GradNorm: r.GradNorm, Lr: r.LR, ImagesPerSecond: r.ImagesPerSecond,
		Broken: text.Valid(r.Broken), Blame: string(r.Blame), Left: r.Left, Pledged: r.Pledged,
		DataMs: r.DataMillis, ComputeMs: r.ComputeMillis, WaitMs: r.WaitMillis, Chunks: int32(r.Chunks),
		Usage: toUsage(r.Usage), ByReset: r.Reset, SavedOn: text.Valid(r.SavedOn),
	}
}

func fromReport(p *pb.Report, id cluster.MemberID) cluster.Report {
	return cluster.Report{
		Member: id, Generation: p.GetGeneration(), Step: p.GetStep(), CommitGeneration: p.GetCommitGeneration(), HasState: p.GetHasState(),
		Phase: p.GetPhase(), Bucket: int(p.GetBucket()), Stopping: p.GetStopping(),
		Loss: p.GetLoss(), GradNorm: p.GetGradNorm(), LR: p.GetLr(), ImagesPerSecond: p.GetImagesPerSecond(),
		Broken: p.GetBroken(), Blame: cluster.MemberID(p.GetBlame()), Left: p.GetLeft(), Pledged: p.GetPledged(),
		DataMillis: p.GetDataMs(), ComputeMillis: p.GetComputeMs(), WaitMillis: p.GetWaitMs(), Chunks: int(p.GetChunks()),
		Usage: fromUsage(p.GetUsage()), Reset: p.GetByReset(), SavedOn: p.GetSavedOn(),
	}
}

func toUsage(u cluster.Usage) *pb.Usage {
	return &pb.Usage{
		RssBytes: u.RSSBytes, ArenaBytes: u.ArenaBytes, Throttled: u.Throttled, Runnable: u.Runnable, Steal: u.Steal,
		MajorFaults: u.MajorFaults, Preempted: u.Preempted, Retransmits: u.Retransmits,
	}
}

func fromUsage(p *pb.Usage) cluster.Usage {
	return cluster.Usage{
		RSSBytes: p.GetRssBytes(), ArenaBytes: p.GetArenaBytes(), Throttled: p.GetThrottled(), Runnable: p.GetRunnable(), Steal: p.GetSteal(),
		MajorFaults: p.GetMajorFaults(), Preempted: p.GetPreempted(), Retransmits: p.GetRetransmits(),
	}
}

var refusals = []struct {
	err  error
	code pb.Refusal
}{
	{cluster.ErrMismatch, pb.Refusal_REFUSAL_MISMATCH},
	{cluster.ErrSlotTaken, pb.Refusal_REFUSAL_SLOT_TAKEN},
	{cluster.ErrEvicted, pb.Refusal_REFUSAL_EVICTED},
	{cluster.ErrOver, pb.Refusal_REFUSAL_OVER},
}

func toRefused(err error) *pb.Refused {
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return &pb.Refused{Refusal: r.code, Text: text.Valid(err.Error())}
		}
	}
	return &pb.Refused{Text: text.Valid(err.Error())}
}

// refusal is a refused registration on the client's side: it has the
// coordinator's words and matches its sentinel.
type refusal struct {
	text     string
	sentinel error
}

func (r *refusal) Error() string { return "coordinator: refused: " + r.text }
func (r *refusal) Unwrap() error { return r.sentinel }

func fromRefused(p *pb.Refused) error {
	for _, r := range refusals {
		if p.GetRefusal() == r.code {
			return &refusal{text: p.GetText(), sentinel: r.err}
		}
	}
	return &refusal{text: p.GetText()}
}

var outcomes = map[cluster.Outcome]pb.Outcome{
	cluster.OutcomeNone:     pb.Outcome_OUTCOME_UNSPECIFIED,
	cluster.OutcomeStopped:  pb.Outcome_OUTCOME_STOPPED,
	cluster.OutcomeFinished: pb.Outcome_OUTCOME_FINISHED,
	cluster.OutcomeFailed:   pb.Outcome_OUTCOME_FAILED,
}

func toEnd(e cluster.End) *pb.End {
	return &pb.End{Outcome: outcomes[e.Outcome], Reason: text.Valid(e.Reason), ExitCode: int32(e.ExitCode), Step: e.Step, Digest: e.Digest, SavedOn: e.SavedOn}
}

func fromEnd(p *pb.End) cluster.End {
	e := cluster.End{Reason: p.GetReason(), ExitCode: int(p.GetExitCode()), Step: p.GetStep(), Digest: p.GetDigest(), SavedOn: p.GetSavedOn()}
	for o, code := range outcomes {
		if code == p.GetOutcome() {
			e.Outcome = o
		}
	}
	return e
}

func toStatus(s cluster.Status) *pb.StatusResponse {
	p := &pb.StatusResponse{
		RunId: s.RunID, State: string(s.State), Detail: text.Valid(s.Detail), Generation: toGeneration(s.Generation),
		Step: s.Step, CommitGeneration: s.CommitGeneration, TotalSteps: s.TotalSteps,
		Committed: toGeneration(s.Committed), Issued: toGenerations(s.Issued),
		Restarts: int32(s.Restarts), MaxRestarts: int32(s.MaxRestarts),
		Loss: s.Loss, GradNorm: s.GradNorm, Lr: s.LR, ImagesPerSecond: s.ImagesPerSecond, End: toEnd(s.End),
	}
	for _, w := range s.Workers {
		p.Workers = append(p.Workers, &pb.WorkerStatus{
			Member: toMember(w.Member), Rank: int32(w.Rank), Report: toReport(w.Report), Connected: w.Connected,
			SeenAgoNanos: int64(w.SeenAgo), ProgressAgoNanos: int64(w.ProgressAgo),
		})
	}
	for _, a := range s.Agents {
		p.Agents = append(p.Agents, &pb.AgentStatus{Node: a.Node, Slots: int32(a.Slots), Host: text.Valid(a.Host), Connected: a.Connected, KeptOut: text.Valid(a.KeptOut)})
	}
	return p
}

func fromStatus(p *pb.StatusResponse) cluster.Status {
	s := cluster.Status{
		RunID: p.GetRunId(), State: cluster.State(p.GetState()), Detail: p.GetDetail(), Generation: fromGeneration(p.GetGeneration()),
		Step: p.GetStep(), CommitGeneration: p.GetCommitGeneration(), TotalSteps: p.GetTotalSteps(),
		Committed: fromGeneration(p.GetCommitted()), Issued: fromGenerations(p.GetIssued()),
		Restarts: int(p.GetRestarts()), MaxRestarts: int(p.GetMaxRestarts()),
		Loss: p.GetLoss(), GradNorm: p.GetGradNorm(), LR: p.GetLr(), ImagesPerSecond: p.GetImagesPerSecond(), End: fromEnd(p.GetEnd()),
	}
	for _, w := range p.GetWorkers() {
		m := fromMember(w.GetMember())
		s.Workers = append(s.Workers, cluster.WorkerStatus{
			Member: m, Rank: int(w.GetRank()), Report: fromReport(w.GetReport(), m.ID), Connected: w.GetConnected(),
			SeenAgo: time.Duration(w.GetSeenAgoNanos()), ProgressAgo: time.Duration(w.GetProgressAgoNanos()),
		})
	}
	for _, a := range p.GetAgents() {
		s.Agents = append(s.Agents, cluster.AgentStatus{Node: a.GetNode(), Slots: int(a.GetSlots()), Host: a.GetHost(), Connected: a.GetConnected(), KeptOut: a.GetKeptOut()})
	}
	return s
}
