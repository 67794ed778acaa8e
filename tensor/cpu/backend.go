package cpu

import (
	"errors"
	"fmt"
	"os"
	"runtime"

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

// EnvKernels is the environment variable that names the kernels of every Config
// that names none: go, avx2, avx512 or avx512bf16.
const EnvKernels = "AGRDIST_CPU"

// Config says how a Backend is made.
type Config struct {
	// Threads is how many threads compute, the caller's included; at least 1.
	// It changes no result.
	Threads int
	// Kernels is the set of inner loops: "go", "avx2", "avx512" or "avx512bf16"
	// (AVX-512 and, in precision BF16, products by its bf16 instruction). Empty
	// means the environment's AGRDIST_CPU or else the best of this processor. Sets
	// differ in the last bits of their results.
	Kernels string
	// Precision is what the operands of products are rounded to, nearest even:
	// those of Conv2D and its gradients, and of MatMul (b times Alpha). BF16 or
	// F32, which rounds nothing. Sums and all else are F32 in both.
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
func (c Config) kernels() (kernel.Set, error) {
	name, from := c.Kernels, "Kernels"
	if name == "" {
		name, from = os.Getenv(EnvKernels), EnvKernels
	}
	if name == "" && c.Precision == tensor.BF16 {
		return kernel.BestBF16(), nil
	}
	set, err := kernel.Parse(name)
	if err != nil {
		return set, fmt.Errorf("%w: %s: %w", ErrConfig, from, err)
	}
	return set, nil
}

// Backend computes on the host processor. Its methods are called from one
// goroutine.
type Backend struct {
	pool  *parallel.Pool
	limit int64 // bytes the machine has
	used  int64 // bytes in buffers

	set      kernel.Set
	form     form       // of the operands of products
	products kernel.Set // what multiplies them: set, or AVX512BF16
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
	b := &Backend{pool: parallel.New(c.Threads), limit: physicalMemory(), set: set.F32(), tasks: newTasks(), slots: slots}
	b.form, b.products = precision(c.Precision, set)
	return b
}

// Name is "cpu/" and the kernel set of the products; in precision BF16, " bf16"
// behind it.
func (b *Backend) Name() string {
	if b.form == asIs {
		return "cpu/" + b.products.String()
	}
	return "cpu/" + b.products.String() + " bf16"
}

// Pool is the backend's threads, for other work between operations.
func (b *Backend) Pool() *parallel.Pool { return b.pool }

// Close ends the threads.
func (b *Backend) Close() error {
	b.pool.Close()
	return nil
}
