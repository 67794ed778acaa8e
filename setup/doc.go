// Package setup builds the parts of a run from its configuration: backend,
// model, optimizer pass, data, forward process, sampler. Training, sampling and
// the benchmarks all assemble their parts here, so that one configuration means
// one thing.
//
// Device is the hardware of a worker (the processor, or a GPU in a build with CUDA)
// with what depends on it: optimizer pass, groups, memory.
//
// It knows no cluster and no command line.
package setup
