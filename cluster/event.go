package cluster

// Event is something that happened. Events are values; the time at which the
// machine learns of them is an argument of Step.
type Event interface{ event() }

// WorkerJoined says that a worker registered, for the first time or again after its
// stream broke or the coordinator restarted.
type WorkerJoined struct {
	Member Member
	Holds  Generation // the generation it is in, with members; Number 0 for none
	// Committed is the generation in which it committed a step last, with members;
	// Number 0 for none.
	Committed Generation
	// Pledged are those of Report.Pledged, with members.
	Pledged []Generation
	Report  Report // its state at the time
	// Request comes back in the Admit or Refuse that answers.
	Request uint64
}

// StreamBroken says that a worker's stream ended without a Leave. It is suspected, and
// lost after Config.LostAfter. Closed says that the worker's end closed the connection, as
// the kernel does for a process that has ended (see "Lost at once" in the package's text).
type StreamBroken struct {
	ID     MemberID
	Closed bool
}

// WorkerLost says that a worker is gone. Certified says that it said good-bye: it left by
// agreement and commits nothing more; otherwise it is only unheard.
type WorkerLost struct {
	ID        MemberID
	Certified bool
	Why       string
}

// WorkerExited says that a supervisor reaped a worker. It is a certified loss and asks
// for a Verdict: the Judge that answers has its Request.
type WorkerExited struct {
	Exit    Exit
	Request uint64
}

// Reported says that a worker's report arrived.
type Reported struct{ Report Report }

// Finished says that a worker reached the last step. The Acknowledge that answers has
// its Request.
type Finished struct {
	Finish  Finish
	Request uint64
}

// AgentJoined says that a node's agent opened its session.
type AgentJoined struct {
	Node  string
	Slots int
	Host  string
	// Committed is the newest generation that the node knows to have committed a step,
	// Number 0 for none, and Seen those that it has seen since then, the newest last.
	Committed Generation
	Seen      []Generation
}

// AgentHeard says that a node's agent sent a heartbeat.
type AgentHeard struct{ Node string }

// AgentLost says that the session of a node's agent ended.
type AgentLost struct{ Node string }

// AgentDraining says that a node wants to leave the run. Answered by Drained, once the
// step in flight is committed, or by a Stop of the run if too few workers would be left.
type AgentDraining struct{ Node string }

// NodeSilent says that gossip counts a node among the dead. It is a hint: a
// coordinator that has just begun does not wait for that node's workers to report
// back, and nothing else follows from it.
type NodeSilent struct{ Node string }

// Probed answers a Probe: Err is empty if all addresses accepted a connection.
type Probed struct {
	ID     MemberID
	Number uint64
	Err    string
}

// StopRequested says that an operator or a signal asks the run to end.
type StopRequested struct{ Reason string }

// Tick says that time passed.
type Tick struct{}

func (WorkerJoined) event()  {}
func (StreamBroken) event()  {}
func (WorkerLost) event()    {}
func (WorkerExited) event()  {}
func (Reported) event()      {}
func (Finished) event()      {}
func (AgentJoined) event()   {}
func (AgentHeard) event()    {}
func (AgentLost) event()     {}
func (AgentDraining) event() {}
func (NodeSilent) event()    {}
func (Probed) event()        {}
func (StopRequested) event() {}
func (Tick) event()          {}

// Action is something for the shell around the machine to do.
type Action interface{ action() }

// Admit accepts a registration.
type Admit struct {
	ID      MemberID
	Request uint64
}

// Refuse turns a registration away; Err wraps ErrMismatch, ErrSlotTaken,
// ErrEvicted or ErrOver.
type Refuse struct {
	ID      MemberID
	Err     error
	Request uint64
}

// Tell repeats a Form, Abort or Stop to one member that has just registered.
type Tell struct {
	ID     MemberID
	Action Action
}

// Form announces a new generation to its members.
type Form struct{ Generation Generation }

// Adopt says that a restarted coordinator found all members of the last
// generation training on: it continues as it is.
type Adopt struct{ Generation Generation }

// Abort ends a generation that has no successor yet: its members abort their
// collectives and wait. With AfterStep they commit the step in flight first, and leave
// together once all of them know.
type Abort struct {
	Generation uint64
	Reason     string
	AfterStep  bool
}

// Wait says what a generation is waiting for, when that changes.
type Wait struct{ For string }

// Kill asks the agent of a member's node to end the process with SIGKILL.
type Kill struct {
	Member Member
	Reason string
}

// Drop ends the stream of a worker that was lost while it was open: should the
// worker speak again, it must register again.
type Drop struct{ ID MemberID }

// Probe asks a worker of a node that is kept out of the run to connect to the data ports
// of others. Answered by Probed, or not at all.
type Probe struct {
	ID     MemberID
	Number uint64
	Addrs  []string
}

// KeptOut says that a node's workers are kept out of the run, and for which dead link.
type KeptOut struct{ Node, Reason string }

// LetIn says that a node's workers may take part again.
type LetIn struct{ Node string }

// Drained tells a node's agent that it may end its workers and go: their deaths are
// no crashes, and the others continue without them.
type Drained struct{ Node string }

// Judge answers a WorkerExited.
type Judge struct {
	Exit    Exit
	Verdict Verdict
	Request uint64
}

// Acknowledge answers a Finished; Err wraps ErrFenced if it does not count.
type Acknowledge struct {
	ID      MemberID
	Err     error
	Request uint64
}

// Stop tells all workers to save a checkpoint and leave.
type Stop struct{ Reason string }

// Over ends the run. It is the last action of a machine and comes once.
type Over struct{ End End }

func (Admit) action()       {}
func (Refuse) action()      {}
func (Tell) action()        {}
func (Form) action()        {}
func (Adopt) action()       {}
func (Abort) action()       {}
func (Wait) action()        {}
func (Kill) action()        {}
func (Drop) action()        {}
func (Probe) action()       {}
func (KeptOut) action()     {}
func (LetIn) action()       {}
func (Drained) action()     {}
func (Judge) action()       {}
func (Acknowledge) action() {}
func (Stop) action()        {}
func (Over) action()        {}
