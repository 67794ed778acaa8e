// Package nccl exchanges device memory by NVIDIA's NCCL, which it loads at run time.
// It is built with -tags cuda and is empty otherwise.
//
// Its one idea: NCCL moves gradients, and nothing else depends on it. A group is an
// ordinary allreduce.Group of connections, which carries words, barriers and the news
// of a failure, with a communicator beside it for the device's memory:
//
//	connections   ranks, generation, unique id, abort    fail in seconds, by themselves
//	communicator  AllReduceDevice, BroadcastDevice       never fails by itself: a dead
//	                                                     peer is waited for forever
//
// So a group watches its connections. When they fail, on all ranks at once, every rank
// aborts its communicator, which frees whoever waits; the next generation makes a new
// one. The unique id travels over the connections of the generation: it cannot be
// taken for another's. A communicator never blocks the program: a goroutine of the group
// makes the calls and polls for them, with deadlines, while whoever computes gradients
// continues to give the device work.
//
// In OrderTree the sum has the bits of the canonical tree: subtree sums travel by
// grouped sends and receipts, and the device adds them in their order
// (allreduce.DeviceTree). OrderRing is ncclAllReduce, whose order is its own.
//
// Where a rank lacks NCCL, or the versions differ, or two ranks have one GPU, all
// ranks agree to copy through the host instead.
package nccl
