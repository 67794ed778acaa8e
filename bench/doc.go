// Package bench measures the parts of a step on this machine: what `agrdist
// bench` prints.
//
// The one idea: a figure comes with the yardstick that it is compared with,
// measured in the same run and, where a share is given, right before it (package
// probe): multiply-adds on registers, memory scaled in place. Every figure is a
// median over repetitions. Work on one thread is timed by the processor time of
// that thread where the system has it, because on a shared machine the wall's
// time is also the neighbours'; compare figures of one run with each other.
//
// The package asserts nothing about speed. peers/ holds the same measurements of
// PyTorch and a script that alternates between both.
package bench
