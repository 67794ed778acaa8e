// Package agent is one node's part in a run: it finds the other nodes, holds the
// coordinator if that is its lot, and keeps one worker process in each slot.
//
//	            gossip                        gRPC
//	other agents <----> membership     coordinator (on one node)
//	                        |               ^   ^
//	                     [agent] -----------+   | registration, reports,
//	                        | spawns, reaps     | generations
//	                        v                   |
//	                 worker processes ----------+
//
// Its one idea: it decides nothing. Package cluster/node decides, a pure function
// of what happened; this package is the shell around it. It turns gossip, the
// coordinator's words, signals and ended processes into events, and carries the
// actions out. Its own end ends its workers, never anybody else's.
//
// One goroutine, Run's, owns the machine. All others only wait for something (an
// answer of the coordinator, a change of the gossip) and hand it over as an event;
// they end with Run.
//
// The package prints nothing; whoever runs it is told by the callbacks of Config.
package agent
