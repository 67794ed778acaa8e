package cluster

import (
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"
)

// MemberID names one incarnation of a worker process. A restarted worker has a
// new one, so a MemberID is never alive twice.
type MemberID string

// Member is a worker process as it presents itself at registration.
type Member struct {
	ID         MemberID // unique per incarnation
	Node       string   // name of the node (of the agent that supervises it)
	Slot       int      // position on the node, 0-based; one live worker a slot
	DataAddr   string   // host:port of its all-reduce listener
	Topology   string   // where its node is, from the widest to the narrowest: "zone-a/rack-7"; may be empty
	Host       string   // host name, for people
	RunID      string   // must be the same on all members
	ConfigHash string   // must be the same on all members
	Build      string   // must be the same on all members
	PID        int      // process id on its host
}

// Seat is "node/slot": the place that a worker fills, whatever its incarnation.
func (m Member) Seat() string { return seat(m.Node, m.Slot) }

// String is what errors and reasons call the member: its seat and process id.
func (m Member) String() string {
	if m.PID == 0 {
		return m.Seat()
	}
	return fmt.Sprintf("%s (pid %d)", m.Seat(), m.PID)
}

func seat(node string, slot int) string { return fmt.Sprintf("%s/%d", node, slot) }

// Generation is a numbered group of members. Numbers strictly increase over the
// life of a run; the data plane refuses frames of any other number.
type Generation struct {
	Number  uint64
	Members []Member // rank = index
	Reason  string   // why it was formed, for people
	// After is the generation that this one replaces with nothing wrong in it: its
	// members commit their step in flight and move together. 0: they drop it.
	After uint64
	// Spares is how many of the last members compute no chunk. They take part in every
	// step, so they hold its state, and take a lost worker's place at once.
	Spares int
}

// World is the number of members that compute.
func (g Generation) World() int { return min(max(len(g.Members)-g.Spares, 0), len(g.Members)) }

// Rank returns the rank of a member, or -1.
func (g Generation) Rank(id MemberID) int {
	for i, m := range g.Members {
		if m.ID == id {
			return i
		}
	}
	return -1
}

// Fingerprint is a hash of the number and the members, in order. Two coordinators
// may give one number to different groups; workers that compare fingerprints before
// their first step find out.
func (g Generation) Fingerprint() uint64 {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%d %d", g.Number, g.Spares) // a hash never fails
	for _, m := range g.Members {
		_, _ = fmt.Fprintf(h, " %q", m.ID)
	}
	return h.Sum64()
}

// Same tells whether two generations have one number and the same ranks.
func (g Generation) Same(o Generation) bool {
	return g.Number == o.Number && g.Spares == o.Spares && slices.EqualFunc(g.Members, o.Members, func(a, b Member) bool { return a.ID == b.ID })
}

// Phases of a worker. A report may carry any text; these are the ones whose
// meaning the machine knows: who is waiting for others (and so is not the
// culprit of a hang), and which phases may take long.
const (
	PhaseInit       = "init"       // loading; long
	PhaseConnect    = "connect"    // connecting to the other ranks; Report.Blame is one that is missing
	PhaseSync       = "sync"       // copying state from a peer or a checkpoint; long
	PhaseForward    = "forward"    //
	PhaseBackward   = "backward"   //
	PhaseAllReduce  = "all_reduce" // waiting for the other ranks
	PhaseBarrier    = "barrier"    // waiting for the other ranks
	PhaseUpdate     = "update"     // optimizer
	PhaseCheckpoint = "checkpoint" // writing; long
	PhaseSample     = "sample"     // generating images; long
	PhaseEval       = "eval"       // long
)

func waiting(phase string) bool {
	return phase == PhaseAllReduce || phase == PhaseBarrier || phase == PhaseConnect
}

func long(phase string) bool {
	switch phase {
	case PhaseInit, PhaseSync, PhaseCheckpoint, PhaseSample, PhaseEval:
		return true
	}
	return false
}

// Report is what a worker says of itself, at every change and every heartbeat.
type Report struct {
	Member     MemberID
	Generation uint64 // the generation it is in; 0 for none
	Step       int64  // last committed step in its state; -1 for none
	// CommitGeneration is the generation whose members committed Step together
	// (the number in the commit word of the step's last bucket). It travels
	// with the state when a peer copies it. 0: Step was read from a checkpoint,
	// or there is none.
	CommitGeneration uint64
	HasState         bool // it holds parameters and optimizer state of Step
	Left             bool // it takes part in Generation no more
	// Pledged are the generations in which it gave its part of a commit word, perhaps
	// without learning whether the step was committed. Those up to the last one in which
	// it committed itself are left out.
	Pledged  []uint64
	Phase    string // one of the Phase constants, or any text
	Bucket   int    // all-reduce buckets completed within the step
	Stopping bool   // it agreed to stop, and Step is saved: no further step; its exit is no crash
	// Of the whole run, so the same on all ranks, at Step.
	Loss            float64
	GradNorm        float64
	LR              float64
	ImagesPerSecond float64
	// Of this worker alone, means over about its last ten steps, in milliseconds of a
	// step: waiting for images, computing (data included), waiting for other ranks.
	DataMillis    float64
	ComputeMillis float64
	WaitMillis    float64
	Chunks        int // that it computes in a step
	Usage         Usage
	// Broken is set when the worker's group of this generation failed (the
	// error's text) and it waits for the next generation. Blame names the peer
	// at the other end, if known; in PhaseConnect, without Broken, a peer to which there
	// is no connection yet. Reset says that Blame's end closed the connection, as the
	// kernel does for a process that has ended.
	Broken string
	Blame  MemberID
	Reset  bool
	// SavedOn is the node that has the state of Step on its disk, where Stopping is set.
	SavedOn string
}

// Usage is what the operating system says of a worker: what it holds, and what keeps it
// from computing. Rates are of the last seconds; 0 also where the system does not tell.
type Usage struct {
	RSSBytes   uint64 // resident memory of the process
	ArenaBytes uint64 // of the device: intermediate values of forward and backward

	Throttled   float64 // share of time in which the CPU limit of its cgroup held it back, 0 to 1
	Runnable    float64 // seconds a second in which its threads could run and had no CPU: others had it
	Steal       float64 // share of the host's CPU time that its hypervisor gave to others, 0 to 1
	MajorFaults float64 // page faults a second that waited for a disk
	Preempted   float64 // involuntary context switches a second
	Retransmits float64 // TCP segments a second that the host's network sent again
}

// Exit is a supervisor's certificate that it reaped a worker process: this
// member commits nothing any more.
type Exit struct {
	Member  MemberID // may be empty if the process died before it had an id
	Node    string
	Slot    int
	Code    int    // exit code; with Signal set it says nothing
	Signal  string // "SIGKILL", ...; empty if the process ended by itself
	Message string // the last line that the process wrote
	// Again asks once more, where no replacement was allowed because the run was about to
	// end, and it continues.
	Again bool
}

// String describes how the process ended.
func (e Exit) String() string {
	s := fmt.Sprintf("%s exited with code %d", seat(e.Node, e.Slot), e.Code)
	if e.Signal != "" {
		s = fmt.Sprintf("%s was killed by %s", seat(e.Node, e.Slot), e.Signal)
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// Verdict answers an Exit: may the supervisor start a replacement?
type Verdict struct {
	Restart bool
	After   time.Duration // how long to wait before it
	Reason  string
}

// Finish says that a member reached the run's last step and that the final
// checkpoint is durable.
type Finish struct {
	Member     MemberID
	Generation uint64
	Step       int64
	Digest     string // model digest; must be the same on all ranks
}

// Outcome says how a run ends.
type Outcome uint8

// Outcomes of a run.
const (
	OutcomeNone     Outcome = iota
	OutcomeStopped          // on request, after a checkpoint
	OutcomeFinished         // the last step was reached
	OutcomeFailed           // it cannot continue
)

// String returns stopped, finished, failed or none.
func (o Outcome) String() string {
	switch o {
	case OutcomeStopped:
		return "stopped"
	case OutcomeFinished:
		return "finished"
	case OutcomeFailed:
		return "failed"
	case OutcomeNone:
	}
	return "none"
}

// End is the end of a run.
type End struct {
	Outcome  Outcome
	Reason   string
	ExitCode int    // what the processes of the run exit with
	Step     int64  // last committed step
	Digest   string // of OutcomeFinished
	SavedOn  string // node on whose disk the state of Step was saved for a stop; empty if nobody said so
}

// Exit codes with a meaning for supervisors and job controllers.
const (
	ExitFailed    = 1
	ExitFatal     = 3   // of a worker: no restart fixes it (a full disk at the last checkpoint, say)
	ExitBadConfig = 42  // never retried
	ExitStopped   = 143 // stopped on request, after a checkpoint
)

// Reasons for which a registration is refused, found with errors.Is.
var (
	ErrMismatch  = errors.New("cluster: worker does not fit this run")
	ErrSlotTaken = errors.New("cluster: slot is not free")
	ErrEvicted   = errors.New("cluster: worker was evicted")
	ErrOver      = errors.New("cluster: run is over")
)

// ErrFenced is wrapped by the answer to a word of a generation that is not the
// newest: it does not count.
var ErrFenced = errors.New("cluster: fenced: not the newest generation")

// ErrConfig is wrapped by what Config.Validate returns.
var ErrConfig = errors.New("cluster: configuration")
