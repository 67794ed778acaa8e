//go:build unix

// Package supervise starts worker processes, keeps their output, and sees to it
// that none of them, nor what they started, outlives its need.
//
// The one idea: nobody is left behind, and nobody else is hit. Each worker leads
// its own process group, and signals go to that group while its leader is known
// to be unreaped, so a recycled process id is never signalled.
//
//	event                        what ends the worker
//	Stop(slot)                   SIGTERM to the group, SIGKILL after KillGrace
//	Kill(slot)                   SIGKILL to the group, at once
//	the worker exits by itself   SIGKILL to what is left of its group
//	the supervisor dies (Linux)  PR_SET_PDEATHSIG: SIGKILL from the kernel
//	the supervisor dies (all)    end of file on the worker's stdin: WatchParent
//
// PR_SET_PDEATHSIG fires when the THREAD that forked dies, not the process, and
// the Go runtime may end threads. All forks therefore run on one goroutine that
// is locked to its thread and lives until the last worker is reaped. The signal
// reaches the worker alone: what the worker started must watch its own parent.
//
// A worker's stdout and stderr share one pipe, so their order is kept. Lines go
// to LogDir/NAME.log with a header for each incarnation and, prefixed with the
// name, to Output; the last ones are kept for the failure message. What a worker says
// to the program that started it goes over a pipe of its own, a record a line
// (Records, Config.Record, Exit.Record), and never has to be found in text.
//
// What it does not do: it decides nothing. Whether and when a worker is started
// again is the business of whoever reads Exits.
package supervise
