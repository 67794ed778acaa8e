// Package bench measures the parts of a step on this machine: what `agrdist
// bench` prints. Every figure is a median over repetitions; compare figures of
// one run with each other, since a shared machine drifts.
package bench
