// Package mesh connects the ranks of a generation, each with each, and implements
// allreduce.Group over these connections.
//
// Its one idea: bytes go straight from where they are to where they are needed.
// A reader puts a frame's payload into the memory of the running operation, so
// nothing is buffered or copied on the way; what an operation has no room for
// waits in the connection. Arithmetic and waiting are done by the goroutine that
// called the operation.
//
//	Endpoint    a process's listener, kept over generations; Connect makes a group
//	handshake   who is on the other end, and do we agree on the group
//	group       one generation: operations, failures, deadlines
//	link        one connection with its reader and its writer
//	frames      what a connection carries (frame.go has the layout)
//	tree, ring, chain, words   the operations, as state machines over frames
//
// Ranks of one host talk through rings of bytes in memory that both map. Vectors
// that lie in memory which both can read (package internal/sharedmem: the
// accumulator's slots, and gradients of package nn on the CPU) do not travel at
// all: owners add straight from the others' subtree sums, and the others copy from
// where the sum was made, one addition and one copy of a slice a rank. A vector
// that only some can read is lent to them and sent to the others; the bits are the
// same either way.
//
// With a Secret both ends of a connection prove that they know it before the first
// frame, and every frame carries a MAC under a key of this connection (Security):
// who stands between two ranks can hold frames up, not change what they sum. Without
// a Secret frames carry a CRC32C, which finds faults of hardware, not forgery. Within
// a host, bytes in memory that two ranks map carry neither; only processes of the same
// user get at it.
//
// What it does not do: it does not decide who is in a generation, retry, or compress.
package mesh
