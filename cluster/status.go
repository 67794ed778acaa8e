package cluster

import "time"

// State is where a run stands.
type State string

// States of a run; the drawing is in the package comment.
const (
	StateForming    State = "forming"    // no generation yet
	StateRecovering State = "recovering" // a restarted coordinator waits for members to report back
	StateRunning    State = "running"    // the generation trains
	StateWaiting    State = "waiting"    // the generation is over and no other can form yet
	StateStopping   State = "stopping"   // a stop was requested; the workers save and leave
	StateFinishing  State = "finishing"  // a rank finished; the others are expected to
	StateOver       State = "over"       // the run has ended
)

// Status is a snapshot of a run for people and progress bars.
type Status struct {
	RunID            string
	State            State
	Detail           string // what is awaited, or how the run ended
	Generation       Generation
	Step             int64 // last committed step; -1 none
	CommitGeneration uint64
	// Committed is the generation of CommitGeneration, and Issued those formed since then,
	// where Generation is not it: what a node must know that takes over.
	Committed       Generation
	Issued          []Generation
	TotalSteps      int64
	Workers         []WorkerStatus // by rank, then those that wait in node join order
	Agents          []AgentStatus  // in node join order
	Restarts        int            // restarts within the window
	MaxRestarts     int            // negative: no limit
	Loss            float64        // of the lowest rank that reported the newest step
	GradNorm        float64
	LR              float64
	ImagesPerSecond float64
	End             End
}

// WorkerStatus is one worker in a Status.
type WorkerStatus struct {
	Member      Member
	Rank        int // -1: in no generation
	Report      Report
	SeenAgo     time.Duration // since its last word
	ProgressAgo time.Duration // since its step, phase or bucket changed
	Connected   bool          // its stream is open
}

// Spare tells whether a worker takes part without computing.
func (s Status) Spare(w WorkerStatus) bool { return w.Rank >= s.Generation.World() }

// AgentStatus is one node's agent in a Status.
type AgentStatus struct {
	Node      string
	Slots     int
	Host      string
	Connected bool
	// Secrets are the fingerprints of those that it accepts, the first in use. The coordinator
	// does not know them: each agent adds what it hears by gossip.
	Secrets string
	KeptOut string // why its workers are kept out of the run; empty if they are not
}

// Status returns a snapshot.
func (m *Machine) Status(now time.Time) Status {
	s := Status{
		RunID: m.cfg.RunID, State: m.state, Detail: m.waitFor, Generation: m.last.Generation,
		Step: m.step, CommitGeneration: m.base.Number, TotalSteps: m.cfg.TotalSteps,
		Restarts: m.budget.within(now, m.cfg.RestartWindow), MaxRestarts: m.cfg.MaxRestarts, End: m.end,
	}
	if m.base.Number != m.last.Number {
		s.Committed = m.base.Generation
		for _, g := range m.issued {
			s.Issued = append(s.Issued, g.Generation)
		}
	}
	switch m.state {
	case StateOver:
		s.Detail = m.end.Reason
	case StateStopping:
		s.Detail = m.stop
	case StateForming, StateRecovering, StateRunning, StateWaiting, StateFinishing:
	}
	newest := int64(-1)
	for _, w := range m.sorted() {
		rank := w.rank
		if m.ended {
			rank = -1
		}
		s.Workers = append(s.Workers, WorkerStatus{
			Member: w.member, Rank: rank, Report: w.report, Connected: w.connected,
			SeenAgo: now.Sub(w.seen), ProgressAgo: now.Sub(w.progressAt),
		})
		if r := w.report; r.HasState && r.Step > newest {
			newest = r.Step
			s.Loss, s.GradNorm, s.LR, s.ImagesPerSecond = r.Loss, r.GradNorm, r.LR, r.ImagesPerSecond
		}
	}
	for _, n := range m.nodes {
		s.Agents = append(s.Agents, AgentStatus{Node: n.name, Slots: n.slots, Host: n.host, Connected: n.connected, KeptOut: m.keptOut(n.name)})
	}
	return s
}
