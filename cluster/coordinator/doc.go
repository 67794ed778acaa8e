// Package coordinator carries out what package cluster decides: a gRPC server
// around one cluster.Machine, and the client through which workers and agents
// speak to it.
//
// Its one idea: one goroutine owns the machine. Streams and calls put events
// into its inbox; it takes all that lie there, makes one Step, writes the
// journal and hands out the actions. Nothing else has state worth the name, so
// the server can die at any time: the workers train on, report back with the
// generation that they are in, and the next server continues from that and a small
// journal.
//
//	worker                         coordinator                        agent
//	  Join{member, generation, report} -->        <-- Hello{node, slots}
//	  <-- Admitted | Refused             Admitted | Refused -->
//	  <-- Generation, Abort, Stop        Kill, Stop -->
//	  Report, at changes and heartbeats -->       <-- Heartbeat
//	  <-- Heartbeat                      Heartbeat -->
//	                                              <-- ReportExit(member)
//	                                     Verdict -->
//	  Finish(step, digest) -->
//	  Leave -->
//	  <-- End                            End -->
//
// What goes down a stream is the newest: a generation that was not yet sent when
// its successor is formed is never sent. What goes up is the newest too: Report
// overwrites, so the training loop never waits for the control plane.
//
// A stream that carries nothing for SilentAfter is dead to either side; the
// client then opens a new connection, with exponential backoff and jitter, and
// registers the same member again.
//
// Without TLS credentials the server listens on loopback only. With them (from
// cluster/security) a call that speaks for a node must present that node's
// certificate; any member may ask for the status and for a stop.
//
// The package decides nothing, supervises no process and moves no parameters.
package coordinator
