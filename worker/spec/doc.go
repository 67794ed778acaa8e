// Package spec is what an agent and its worker processes tell each other outside
// the network: a Spec on a pipe, and Records on a pipe back.
//
//	agent --- supervise's input pipe: Spec ----------> worker
//	agent <-- supervise's record pipe: Record a line -- worker
//	agent --- file: address of the coordinator -------> worker
//
// Its one idea: agent and worker are siblings that share a vocabulary, not code.
// What ends a worker arrives as a typed Record, never as a line of log text. The
// package starts no process and reads no pipe (package supervise does).
package spec
