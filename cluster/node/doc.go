// Package node decides what one node's agent does: when it starts, signals and
// kills its workers, whom it takes for the coordinator, and when its own part in
// the run is over.
//
// Its one idea is that of package cluster, one floor up: the decision is a pure
// function. Machine has no clock, no goroutine and no I/O; Step takes the time
// and what happened and returns what to do. So the rules are tested with
// made-up clocks and transcripts (testdata), a simulation can drive many nodes
// in one process, and package agent is only the shell that carries the actions
// out.
//
//	m := node.New(cfg, now)
//	for _, a := range m.Step(now, node.Tick{}) {
//		switch a := a.(type) {
//		case node.Start: // start the process of a.Slot as member a.Member
//		...
//
// # One node's states
//
//	           admitted              the run ends
//	seeking ------------> supervising ------------> ending ------> returned
//	   |                       |     every worker is gone, or killed
//	   +-----------------------+------> returned, with an error
//	     nobody found in time,    second signal, refused,
//	     a signal                 session lost for good
//
// In an elastic run SIGTERM means leaving: supervising, then draining until the
// coordinator lets the node go, then returned with a LeftError.
//
// # One slot's states
//
//	idle --Start--> running --Exited--> judged --the verdict's delay--> idle
//	  ^                |
//	  +--StartFailed---+  again after a bounded back-off
//
// # The coordinator
//
// One node holds it, at first the founder. When gossip counts no living node that
// does, and a dial of where it was fails, the first living node in join order takes
// over (docs/adr/0020), if it has seen a generation of the run: until there is one, only
// the founder holds it. Two at once are harmless; the one of the lower term stands
// down as soon as it hears of the other.
//
// # What it does not do
//
// It makes no decision about membership: who trains, and whether a dead worker
// may be started again, is the coordinator's to say. It opens no connection and
// starts no process.
package node
