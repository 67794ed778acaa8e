// Package setup builds the parts of a run from its configuration: backend,
// model, optimizer pass, data, forward process, sampler. Training, sampling and
// the benchmarks all assemble their parts here, so that one configuration means
// one thing.
//
// It knows no cluster and no command line.
package setup
