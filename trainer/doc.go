// Package trainer is the data-parallel training loop: what one worker process
// does from its first generation to the end of the run.
//
// Its one idea is the project's: the model after step N is a pure function of
// (config, seed). The work of a step is cut in chunks; a chunk's gradient is
// the same bits on whichever rank computes it; the sum over chunks has one
// order (package allreduce); everything after the sum is done by every rank
// alike. So a rank that is behind copies the state of one that is ahead, and
// nobody can tell afterwards that anything happened.
//
// The flow of a step:
//
//	draws -> batch -> t, eps -> x_t -> model -> gradient, bucket by bucket
//	   -> all-reduce while backward continues -> norm -> commit word -> update -> step+1
//
// A step commits in the data plane: the commit word is an all-gather that every
// rank of the generation takes part in after its last bucket, so nobody commits
// alone. Generations come from outside (Session); when a newer one arrives, or a
// collective fails, the loop drops the step in flight, meets the others in the
// new generation, compares step counts and continues. Where nothing was wrong with the
// generation before, the ranks agree in a commit word to move after that step, and a rank
// without state learns it while the others train (lesson).
//
// The state lives where the model does (residence): in memory that the host addresses,
// or in a device's own. There chunks are summed, reduced, applied and copied to peers on
// the device, with the same bits, and the host waits once a step; State's slices are then
// copies, fetched when somebody reads them.
//
// Between steps the ranks do the run's tasks together (Task): sample grids, and whatever
// else is computed from the state.
//
// The package knows no gRPC, no gossip, no configuration file, and no device but through
// tensor.Backend. It does not decide who is a member, and it never restarts a process.
package trainer
