//go:build unix

// Package preflight finds, before a run starts, what would stop or slow it hours
// later: peers that cannot be reached, clocks that differ, too little shared
// memory, too few open files.
//
// The one idea: a failure names the peer or the resource, what is wrong with it,
// and how to mend it. Every function returns nil or an error made of Errors.
//
//	err := errors.Join(
//		preflight.DialAll(ctx, addrs, preflight.DialConfig{}),
//		preflight.SharedMemory("/dev/shm", 1<<30),
//		preflight.OpenFiles(4096),
//	)
//	for _, p := range preflight.Problems(err) { ... }
//
// What it does not do: it changes nothing, and it decides nothing; whether a
// problem is fatal is up to the caller.
package preflight
