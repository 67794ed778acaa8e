package cpu

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/agrdist/agrdist/internal/isa"
	"github.com/agrdist/agrdist/internal/sharedmem"
	"github.com/agrdist/agrdist/parallel"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
)

var (
	// ErrMemory is wrapped by Alloc when the machine has no room.
	ErrMemory = errors.New("cpu: out of memory")
	// ErrConfig is wrapped by Config.Validate.
	ErrConfig = errors.New("cpu: bad configuration")
)

// Config says how a Backend is made.
type Config struct {
	// Threads is how many threads compute, the caller's included; at least 1.
	// It changes no result.
	Threads int
	// Kernels is the set of inner loops: "go", "avx2", "avx512" or "neon"; "avx512bf16"
	// or "neonbf16" (those and, in precision BF16, their bf16 instruction for matmuls and
	// convolutions); or "portable", the fastest here of those whose results are the same
	// bits on every processor. Empty means the environment's AGRDIST_CPU or else the best
	// of this processor. Other sets differ in the last bits of their results.
	Kernels string
	// Portable refuses an AGRDIST_CPU that is not portable, and takes "portable" where
	// there is none.
	Portable bool
	// Precision is what the inputs of matmuls and convolutions (of MatMul, with b
	// times Alpha, and of Conv2D and its gradients) are rounded to, to nearest even:
	// BF16, or F32, which rounds nothing. Sums and all else are F32 in both.
	Precision tensor.DType
}

// DefaultConfig uses every processor and its best kernels.
func DefaultConfig() Config { return Config{Threads: runtime.GOMAXPROCS(0)} }

// Validate reports what New would panic on.
func (c Config) Validate() error {
	var errs []error
	if c.Threads < 1 {
		errs = append(errs, fmt.Errorf("%w: %d threads, want at least 1", ErrConfig, c.Threads))
	}
	if _, err := c.kernels(); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, checkPrecision(c.Precision))
	return errors.Join(errs...)
}

// kernels is the kernel set that the configuration means.
func (c Config) kernels() (isa.Set, error) {
	if c.Kernels != "" {
		set, err := isa.Parse(c.Kernels)
		if err != nil {
			return isa.Go, fmt.Errorf("%w: Kernels: %w", ErrConfig, err)
		}
		return set, nil
	}
	set, named, err := isa.FromEnv()
	switch {
	case err != nil:
		return isa.Go, fmt.Errorf("%w: %w", ErrConfig, err)
	case named && c.Portable && !set.Portable():
		return isa.Go, fmt.Errorf("%w: %s=%s is not portable, and train.cpu is: unset %s, or set it to %s", ErrConfig, isa.Env, set, isa.Env, isa.Rounding)
	case named:
		return set, nil
	case c.Portable:
		return isa.BestPortable(), nil
	case c.Precision == tensor.BF16:
		return isa.Set(kernel.BestBF16()), nil
	}
	return isa.Best(), nil
}

// Backend computes on the host processor. Its methods are called from one
// goroutine.
type Backend struct {
	pool  *parallel.Pool
	limit int64 // bytes the machine has
	used  int64 // bytes in buffers
	// shared are the blocks of AllocShared, which no garbage collector takes.
	shared map[*sharedmem.Memory]bool

	isa      isa.Set // what the configuration meant
	set      kernel.Set
	form     form       // of the inputs of matmuls and convolutions
	products kernel.Set // what multiplies them: set, AVX512BF16 or NEONBF16
	tasks    tasks
	scratch  scratch
	slots    chan int // one for each thread: what it may write on in scratch.slots
}

var _ tensor.Backend = (*Backend)(nil)

// New starts a backend. It panics on a Config that does not validate.
func New(c Config) *Backend {
	if err := c.Validate(); err != nil {
		panic(err.Error())
	}
	set, _ := c.kernels() // validated
	slots := make(chan int, c.Threads)
	for i := range c.Threads {
		slots <- i
	}
	b := &Backend{
		pool: parallel.New(c.Threads), limit: physicalMemory(), isa: set, set: kernel.Of(set).F32(), tasks: newTasks(), slots: slots,
		shared: map[*sharedmem.Memory]bool{},
	}
	b.form, b.products = precision(c.Precision, kernel.Of(set))
	return b
}

// Name is "cpu/" and what the kernel set of matmuls and convolutions rounds as (the set's
// own name, or "portable"), followed by " bf16" in precision BF16: backends of one name
// give the same bits.
func (b *Backend) Name() string {
	name := "cpu/" + b.kernels().Rounding()
	if b.form == asIs {
		return name
	}
	return name + " bf16"
}

// Kernels is the name of the kernel set of matmuls and convolutions: "avx512",
// "portable-avx512".
func (b *Backend) Kernels() string { return b.kernels().String() }

// Portable tells whether every processor gives this backend's bits.
func (b *Backend) Portable() bool { return b.isa.Portable() }

func (b *Backend) kernels() isa.Set {
	if b.isa.Portable() {
		return b.isa
	}
	return isa.Set(b.products)
}

// Pool is the backend's threads, for other work between operations.
func (b *Backend) Pool() *parallel.Pool { return b.pool }

// Close ends the threads, and the life of shared buffers.
func (b *Backend) Close() error {
	b.pool.Close()
	for block := range b.shared {
		block.Free()
	}
	clear(b.shared)
	return nil
}
