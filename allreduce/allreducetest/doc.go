// Package allreducetest checks implementations of allreduce.Group.
//
// Its one idea: every implementation passes the same suite, Run, so that a
// trainer tested on local groups behaves the same over a network. Proxy is the
// tool for what a network does to connections: it sits between two ranks and
// cuts, stalls, slows or corrupts what passes.
//
// It does not measure speed.
package allreducetest
