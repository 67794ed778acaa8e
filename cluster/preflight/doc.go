//go:build unix

// Package preflight finds, before a run starts, peers that cannot be reached.
//
// The one idea: a failure names the peer, what is wrong with it, and how to fix it.
//
//	err := preflight.DialAll(ctx, addrs, preflight.DialConfig{})
//	for _, p := range preflight.Problems(err) { ... }
//
// What it does not do: it changes nothing, and it decides nothing; whether a
// problem is fatal is up to the caller.
package preflight
