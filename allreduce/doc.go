// Package allreduce sums gradients over the ranks of a training run.
//
// Its one idea: a sum has ONE order. The global batch is cut into C chunks, and
// the gradient of the batch is the sum of the chunks' gradients along a binary
// tree over the chunk indices,
//
//	node(l, i) = node(l-1, 2i) + node(l-1, 2i+1)    a missing right child adds nothing
//
// in float32. The tree depends on C alone. A rank holds a contiguous block of
// chunks; it pre-sums the subtrees that lie inside its block (Accumulator), and
// AllReduce combines the ranks' subtree sums along the rest of the tree. So the
// result has the same bits on 1, 2, 3 or 8 ranks, and the same bits on every
// rank.
//
//	plan, err := allreduce.NewPlan(chunks, world)
//	acc := allreduce.NewAccumulator(plan, rank, n)
//	for chunk := lo; chunk < hi; chunk++ {          // lo, hi := plan.Block(rank)
//		...                                     // backward of chunk fills grad
//		acc.Add(chunk, 0, n, grad)              // or bucket by bucket
//	}
//	parts := acc.Parts(nil, 0, n)
//	err = group.AllReduce(ctx, 0, parts, grad)      // grad: the sum over all chunks
//	acc.Free()                                      // with the generation
//
// This package is the contract and the arithmetic:
//
//	Plan, Node, Accumulator   who holds which subtrees; no I/O
//	Group, GroupConfig        the operations of one generation of ranks
//	Program, Machine, Cut     what implementations of Group add by
//	NewLocal                  a Group for ranks that share a process (tests)
//	DeviceGroup               the same for memory of devices: package nccl, or
//	                          Staged, which copies through the host
//
// Package mesh implements Group over TCP and shared memory; package
// allreducetest is the suite that every implementation passes.
//
// A tree AllReduce is a direct reduce-scatter and an all-gather. The bucket is
// cut into one slice a rank; every rank sends its subtree sums of a slice to the
// slice's owner, the owner adds them in tree order and sends the sum to all.
// For power-of-two counts that moves as many bytes as a ring; for others a rank
// sends at most O(log C) subtree sums. OrderRing is the classic ring: fewest
// bytes for any count, but an order of sums that depends on the world size.
//
// A Group lives for one generation. The first failure of any kind (a peer's
// death, a corrupt frame, a deadline, a cancelled context, Abort) ends it for
// good, on all ranks at once: the frames of an unfinished operation are never
// taken for those of a later one, because a new generation has new connections.
// Every failure is an *Error that names the peer at fault.
//
// What it does not do: it opens no connection, does not decide who is in a
// generation (package cluster does), retry, or compress.
package allreduce
