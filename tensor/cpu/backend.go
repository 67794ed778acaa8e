package cpu

import (
	"errors"
	"fmt"

	"github.com/agrdist/agrdist/parallel"
	"github.com/agrdist/agrdist/tensor"
)

// ErrMemory is wrapped by Alloc when the machine has no room.
var ErrMemory = errors.New("cpu: out of memory")

// Config says how a Backend is made.
type Config struct {
	// Threads is how many threads compute, the caller's included; at least 1.
	// It changes no result.
	Threads int
}

// Backend computes on the host processor. Its methods are called from one
// goroutine.
type Backend struct {
	pool  *parallel.Pool
	limit int64 // bytes the machine has
	used  int64 // bytes in buffers
	tasks tasks

	partial []float64 // scratch of GroupNormGrad
}

var _ tensor.Backend = (*Backend)(nil)

// New starts a backend. It panics when Threads < 1.
func New(c Config) *Backend {
	if c.Threads < 1 {
		panic(fmt.Sprintf("cpu: %d threads", c.Threads))
	}
	b := &Backend{pool: parallel.New(c.Threads), limit: physicalMemory()}
	b.tasks = newTasks()
	return b
}

// Name is "cpu/" and the kernel set.
func (b *Backend) Name() string { return "cpu/go" }

// Pool is the backend's threads, for other work between operations.
func (b *Backend) Pool() *parallel.Pool { return b.pool }

// Close ends the threads.
func (b *Backend) Close() error {
	b.pool.Close()
	return nil
}
