package node

import (
	"github.com/agrdist/agrdist/cluster"
)

// Event is something that happened on or to this node.
type Event interface{ event() }

// Peer is a node as gossip knows it.
type Peer struct {
	Node        string // stable name of the node
	Self        bool
	Coordinator string // HOST:PORT, if the node holds the coordinator
	Term        uint64 // of that coordinator: the highest is to be believed
	// End is set when the node knows that the run is over.
	End cluster.End
}

// Gossip is the newest view of who is alive, this node included, and of the nodes
// that went without a word.
type Gossip struct {
	Peers []Peer
	Lost  []string
}

// Admitted says that the coordinator has taken this node in.
type Admitted struct{}

// Ended says that the run is over.
type Ended struct{ End cluster.End }

// SessionLost says that the session with the coordinator ended for good, before
// the run did: this node was refused, say.
type SessionLost struct{ Err error }

// Exited says that the process of a slot was reaped.
type Exited struct {
	Slot    int
	Code    int
	Signal  string // that ended it: "SIGKILL"; empty if it ended by itself
	Failed  bool   // it ended badly, and nobody asked it to end
	Reason  string // how it ended, for people
	Message string // the error that it ended with, if it said so
}

// StartFailed answers a Start: no process runs in the slot. Hopeless says that
// it is not for want of something that may be there in a moment.
type StartFailed struct {
	Slot     int
	Err      error
	Hopeless bool
}

// Judged answers a Report: what the coordinator says to an exit. Err is set when
// there was no answer, because the run or the session is over.
type Judged struct {
	Exit    cluster.Exit
	Verdict cluster.Verdict
	Err     error
}

// KillOrdered says that the coordinator wants a worker of this node dead.
type KillOrdered struct{ Kill cluster.Kill }

// Signalled says that a person or a job controller asks this node to stop.
type Signalled struct{ Signal string }

// Drained answers a Drain: this node may go.
type Drained struct{}

// Seen tells where the run stands, from the coordinator.
type Seen struct{ Status cluster.Status }

// Formed says that the coordinator has formed a generation, of this node's workers or
// others'.
type Formed struct{ Generation cluster.Generation }

// Waiting says what stands between this node and a coordinator.
type Waiting struct{ For string }

// Probed answers a Probe: nil if somebody accepts connections there.
type Probed struct{ Err error }

// ServerStopped says that the coordinator on this node has stopped serving, or
// could not begin: nil if everybody was told the end.
type ServerStopped struct{ Err error }

// Tick says that time passed; about ten of them a second.
type Tick struct{}

func (Gossip) event()        {}
func (Admitted) event()      {}
func (Ended) event()         {}
func (SessionLost) event()   {}
func (Exited) event()        {}
func (StartFailed) event()   {}
func (Judged) event()        {}
func (KillOrdered) event()   {}
func (Signalled) event()     {}
func (Drained) event()       {}
func (Seen) event()          {}
func (Formed) event()        {}
func (Waiting) event()       {}
func (Probed) event()        {}
func (ServerStopped) event() {}
func (Tick) event()          {}

// Action is something for the shell around the machine to do.
type Action interface{ action() }

// Point says where the coordinator is now: the agent's own session and the
// node's workers connect to it from now on.
type Point struct{ Addr string }

// Probe asks whether somebody accepts connections where the coordinator was.
// Answered by Probed.
type Probe struct{ Addr string }

// Hold starts the coordinator on this node and makes it known. Answered by
// ServerStopped, sooner or later.
type Hold struct {
	Term   uint64
	Begin  bool            // it may form the run's first generation
	Seen   cluster.Journal // what this node knows of the run
	Silent []string        // nodes that are known to be gone
}

// Keep asks to keep what this node knows of the run on its disk, for a coordinator
// that this node holds after a restart, unless it has kept something newer.
type Keep struct{ Seen cluster.Journal }

// Release stops the coordinator on this node, which another one has replaced.
// Answered by ServerStopped.
type Release struct{}

// Announce tells the other nodes that the run is over.
type Announce struct{ End cluster.End }

// Start starts the process of a slot, as a new member. Answered by StartFailed,
// or at the process's end by Exited.
type Start struct {
	Slot   int
	Member cluster.MemberID
}

// Kill ends the process of a slot with SIGKILL.
type Kill struct{ Slot int }

// Terminate sends SIGTERM to all workers of this node: they save and leave.
type Terminate struct{}

// KillAll ends all workers of this node with SIGKILL.
type KillAll struct{}

// Report certifies the end of a process to the coordinator. Answered by Judged.
type Report struct{ Exit cluster.Exit }

// Drain asks the coordinator to let this node leave the run. Answered by Drained;
// or the run stops, because too few workers would be left.
type Drain struct{}

// RequestStop asks the coordinator to stop the whole run.
type RequestStop struct{ Reason string }

// Notice is for the person who watches.
type Notice struct{ Text string }

// Return ends this node's part. It is the last action and comes once. Err is a
// failure of this node's own part; without it End says how the run ended.
type Return struct {
	End cluster.End
	Err error
}

func (Point) action()       {}
func (Probe) action()       {}
func (Hold) action()        {}
func (Keep) action()        {}
func (Release) action()     {}
func (Announce) action()    {}
func (Start) action()       {}
func (Kill) action()        {}
func (Terminate) action()   {}
func (KillAll) action()     {}
func (Report) action()      {}
func (Drain) action()       {}
func (RequestStop) action() {}
func (Notice) action()      {}
func (Return) action()      {}
