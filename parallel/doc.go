// Package parallel runs a loop on a fixed set of goroutines.
//
// Its one idea: the iterations are handed out one by one from an atomic
// counter, never split beforehand, so a core that the system takes away for a
// while delays one iteration and not a whole share. WHICH goroutine runs an
// iteration is therefore unknown, and a loop body must write only what belongs
// to its index. A result that is a function of the index alone is the same for
// any number of threads.
//
// A thread that finds nothing to do spins for a millisecond while the others are in
// the loop, and for some 50 us after it, before it sleeps, unless there are more threads
// than GOMAXPROCS.
//
// Pin keeps the threads on processors of their own. It may make a run faster and
// changes no result.
//
// The package does no reductions, has no futures and knows no contexts: an
// iteration is short.
package parallel
