// Package dl opens shared libraries at run time, in builds with the tag cuda: no
// library of NVIDIA's is linked, so one binary serves CUDA 12 and 13 and starts on
// machines that have neither.
//
// A library is looked for, in this order, at the path in its own environment
// variable (and then nowhere else), in the directories of AGRDIST_CUDA_PATH, and
// where the system's loader looks (LD_LIBRARY_PATH, ld.so.conf). Nothing is guessed
// beyond that.
//
// NVIDIA's libraries load others by SONAME when they are first used, and some packages of
// them do not say where those are. [Library.Beside] loads such a file from the same
// directory ahead of time.
//
// The package does not call what it finds: each binding declares its prototypes and
// calls through the pointers of [Library.Symbol].
package dl
