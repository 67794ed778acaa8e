//go:build cuda

package cuda

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/internal/cuda/driver"
)

var (
	// ErrUnavailable is wrapped by New where there is no driver, no such device, or not
	// all of NVIDIA's libraries.
	ErrUnavailable = errors.New("cuda: no usable device")
	// ErrMemory is wrapped by Alloc when the device has no room.
	ErrMemory = errors.New("cuda: out of memory")
)

// Config says how a Backend is made. The zero Config is device 0 in full F32.
type Config struct {
	// Device is an ordinal among the devices that CUDA_VISIBLE_DEVICES leaves.
	Device int
	// TF32 multiplies F32 inputs of matmuls and convolutions with 10
	// bits of mantissa, on tensor cores.
	TF32 bool
	// BF16 rounds F32 inputs of matmuls and convolutions to BF16, and asks
	// for activations in BF16 (tensor.Mixed). Sums are F32; what cuDNN writes has
	// passed through BF16.
	BF16 bool
	// CacheDir keeps compiled kernels. Empty means os.UserCacheDir()/agrdist.
	CacheDir string
	// Logger, where not nil, is told where a library falls short, once for each problem.
	Logger *slog.Logger
}

// Backend computes on one device. Its methods are called from one goroutine at
// a time, on any thread.
type Backend struct {
	queue // of all operations

	config Config
	arch   string // "sm_90"
	device cu.Device
	side   cu.Stream // copies input ahead of time
	lane   Lane

	kernels   kernels
	libraries libraries
	staging   staging
	work      workspace
	outer     workspace // of operations that call operations
	views     [3]buffer // of scratch memory, for operations that call operations
	// scoreBytes is maxScoreBytes, but in tests of attention in several parts.
	scoreBytes int64

	closers []func() error // run by Close in reverse order, the context current
	closed  bool
}

// New opens a device and compiles the kernels for it, or loads them from the
// cache. Errors wrap ErrUnavailable where the machine lacks something.
func New(c Config) (*Backend, error) {
	if err := driver.Init(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	count, err := cu.NumDevices()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if c.Device < 0 || c.Device >= count {
		return nil, fmt.Errorf("%w: device %d of %d", ErrUnavailable, c.Device, count)
	}
	b := &Backend{config: c, scoreBytes: maxScoreBytes}
	b.args.init()
	b.lane.args.init()
	if err := b.open(); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (b *Backend) open() (err error) {
	d, err := driver.Describe(b.config.Device)
	if err != nil {
		return fmt.Errorf("cuda: %w", err)
	}
	b.device, b.arch = d.Ordinal, d.Arch()
	b.name = fmt.Sprintf("cuda:%d %s", b.config.Device, d.Name)
	if b.context, err = b.device.RetainPrimaryCtx(); err != nil {
		return fmt.Errorf("cuda: context of %s: %w", b.name, err)
	}
	b.closers = append(b.closers, b.device.ReleasePrimaryCtx)

	b.enter()
	defer b.leave()
	for _, s := range []*cu.Stream{&b.stream, &b.side, &b.lane.stream} {
		if *s, err = cu.MakeStream(cu.NonBlocking); err != nil {
			return fmt.Errorf("cuda: stream on %s: %w", b.name, err)
		}
		b.closers = append(b.closers, s.Destroy)
	}
	b.lane.open(b, d.UUID)
	if err := b.loadKernels(); err != nil {
		return err
	}
	b.closers = append(b.closers, b.work.free, b.outer.free)
	if err := errors.Join(b.openStaging(), b.openLibraries()); err != nil {
		return err
	}
	return b.failed
}

// Name is the device's number and model: "cuda:0 NVIDIA H100 80GB HBM3".
func (b *Backend) Name() string { return b.name }

// Arch is what kernels are compiled for: "sm_90".
func (b *Backend) Arch() string { return b.arch }

// Close waits for the device and releases everything. Buffers that were not
// freed go with the context when its last user is gone.
func (b *Backend) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	if len(b.closers) == 0 {
		return nil
	}
	b.enter()
	defer b.leave()
	var errs []error
	if b.stream != (cu.Stream{}) {
		if err := cu.Synchronize(); err != nil {
			errs = append(errs, fmt.Errorf("cuda: close %s: %w", b.name, err))
		}
	}
	for _, f := range slices.Backward(b.closers) {
		if err := f(); err != nil {
			errs = append(errs, fmt.Errorf("cuda: close %s: %w", b.name, err))
		}
	}
	return errors.Join(errs...)
}

// Sync waits for the stream of operations and returns the first failure since
// the backend was made.
func (b *Backend) Sync() error {
	b.enter()
	defer b.leave()
	b.check("synchronize", b.synchronize())
	return b.failed
}
