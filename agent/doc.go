// Package agent is one node's part in a run: it finds the other nodes, holds the
// coordinator if it is the first, and keeps one worker process a slot alive.
//
//	            gossip                      gRPC
//	other agents <----> membership     coordinator (first node only)
//	                        |               ^   ^
//	                     [agent] -----------+   | registration, reports,
//	                        | spawns, reaps     | generations
//	                        v                   |
//	                 worker processes ----------+
//
// Its one idea: it decides nothing. Gossip says where the coordinator is, the
// coordinator says who trains and whether a dead worker is started again; the
// agent is the hands: it starts, signals, kills and reaps, and certifies deaths.
// Its own end ends its workers, never anybody else's.
//
// The package prints nothing; whoever runs it watches Status.
package agent
