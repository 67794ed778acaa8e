// Package vfstest has two file systems for tests of what must survive a crash: Mem,
// which loses what was not synced when it crashes, and Hooked, which shows
// every call to a function that can make it fail or end the process there.
//
// The idea is that of pebble's vfs: faults come in through the contract, so the
// code under test is the code that ships.
//
// Mem is a model of what POSIX promises, not of any one file system: it is
// harsher than most.
package vfstest
