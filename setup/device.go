package setup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/nn"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/parallel"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu"
)

// ErrNoCUDA is returned where the configuration asks for a device that this
// build cannot use.
var ErrNoCUDA = errors.New("this build has no CUDA backend; set device to cpu or auto")

// errNoLibraries is in the chain of openCUDA's error where there is a GPU, but not all
// that it takes to use it.
var errNoLibraries = errors.New("the GPU cannot be used")

// Device is what one worker computes on, and what depends on it.
type Device struct {
	Backend tensor.Backend
	// Rounding names all that the last bits of a result depend on besides the
	// configuration: the workers of a run share it.
	Rounding string
	// Fallback is why device: auto took the CPU on a machine with a GPU; nil elsewhere.
	Fallback  error
	cpu       *cpu.Backend // nil on a GPU
	pass      func(o optim.Config, a *agr.Config, segments []optim.Segment, flatLen int) (agr.Pass, error)
	connector func(Connector, *slog.Logger) Connector
	free      func() (int64, error) // bytes of device memory that can be had
	close     func() error          // before the backend's
}

// Close releases the device.
func (d *Device) Close() error {
	if d.close == nil {
		return d.Backend.Close()
	}
	return errors.Join(d.close(), d.Backend.Close())
}

// DeviceConfig says which device a worker computes on, and how.
type DeviceConfig struct {
	Device    string // auto, cpu or cuda; auto is a GPU where the build, the driver and NVIDIA's libraries have one
	Precision string // f32 or bf16; "" is f32
	Portable  bool   // on a CPU: bits that every other one gives too
	Slot      int    // the worker's number on its node, from 0: its GPU
	Workers   int    // of the node, which share its cores and GPUs; 0 is 1
	Threads   int    // of the worker; 0: its share of the cores
	// Logger, where not nil, is told where the device's libraries fall short.
	Logger *slog.Logger
}

// DeviceOf is the device that a configuration gives the worker in a slot of its node.
func DeviceOf(c *config.Config, slot int) DeviceConfig {
	return DeviceConfig{
		Device: c.Device, Precision: c.Train.Precision, Portable: c.Train.CPU == "portable",
		Slot: slot, Workers: c.Cluster.Workers, Threads: c.Train.Threads,
	}
}

// Open opens a worker's device.
func Open(c DeviceConfig) (*Device, error) {
	c.Workers = max(1, c.Workers)
	precision := tensor.F32
	if c.Precision != "" {
		var err error
		if precision, err = Precision(c.Precision); err != nil {
			return nil, err
		}
	}
	var fallback error
	if c.Device == "cuda" || c.Device == "auto" && GPUs("auto") > 0 {
		dev, err := openCUDA(c, precision)
		if c.Device == "cuda" || !errors.Is(err, errNoLibraries) {
			return dev, err
		}
		fallback = err
	}
	cc := cpu.Config{Threads: Threads(c.Threads, c.Workers), Precision: precision, Portable: c.Portable}
	if err := cc.Validate(); err != nil {
		return nil, err
	}
	be := cpu.New(cc)
	return &Device{Backend: be, Rounding: be.Name(), Fallback: fallback, cpu: be}, nil
}

// Portable tells whether every processor gives the device's bits.
func (d *Device) Portable() bool { return d.cpu != nil && d.cpu.Portable() }

// CPU is the backend where it is the processor's, nil on a GPU.
func (d *Device) CPU() *cpu.Backend { return d.cpu }

// Precision is the element type that train.precision names.
func Precision(name string) (tensor.DType, error) {
	switch name {
	case "f32":
		return tensor.F32, nil
	case "bf16":
		return tensor.BF16, nil
	}
	return 0, fmt.Errorf("precision %q, want f32 or bf16", name)
}

// Pass makes all that follows the all-reduce, in the memory that holds the model.
func (d *Device) Pass(c *config.Config, p *nn.Params) (agr.Pass, error) {
	pass, err := d.untracked(c, p)
	if err != nil {
		return nil, err
	}
	profiles, err := optim.NewProfiles(c.Train.EMAProfiles)
	if err != nil {
		return nil, fmt.Errorf("train.ema_profiles: %w", err)
	}
	return agr.Track(pass, d.Backend, profiles, p.FlatLen())
}

// untracked is the pass without power-function averages.
func (d *Device) untracked(c *config.Config, p *nn.Params) (agr.Pass, error) {
	if d.pass == nil {
		return newPass(c, p, d.cpu.Pool())
	}
	o, err := OptimizerConfig(c)
	if err != nil {
		return nil, err
	}
	return d.pass(o, AGR(c), Segments(p), p.FlatLen())
}

// Connector makes the group of a generation.
type Connector interface {
	Connect(ctx context.Context, c allreduce.GroupConfig) (allreduce.Group, error)
}

// Connector makes groups that exchange this device's memory out of one whose groups
// exchange the host's.
func (d *Device) Connector(c Connector, log *slog.Logger) Connector {
	if d.connector == nil {
		return c
	}
	return d.connector(c, log)
}

// spareMemory is left free where the device could keep more activations than it must:
// for the workspaces of NVIDIA's libraries, operands in other forms, NCCL's buffers, and
// the sampling of images during a run.
const spareMemory = 3 << 30

// Fits compares what training needs of the device's memory with what is free: before
// anything is allocated there. keep says that there is room to keep the activations that
// the backward pass could compute again, which saves time (unet.Model.KeepActivations);
// on the CPU it is false.
func (d *Device) Fits(c *config.Config) (keep bool, err error) {
	if d.free == nil {
		return false, nil
	}
	need, err := MemoryOf(c)
	if err != nil {
		return false, err
	}
	free, err := d.free()
	if err != nil {
		return false, err
	}
	total := need.Total()
	if total > free {
		return false, &config.Error{Source: d.Backend.Name(), Err: fmt.Errorf(
			"it has %s of memory free, training needs %s (%v); lower train.chunk, or end what else runs on it",
			gib(free), gib(total), need)}
	}
	return total+need.Kept+spareMemory <= free, nil
}

// Pin keeps the threads of the worker in a slot on cores of their own where
// train.pin_threads asks for it. It is called, and so is release, by the goroutine
// that trains.
func (d *Device) Pin(c *config.Config, slot int) (release func(), err error) {
	if !c.Train.PinThreads || d.cpu == nil {
		return func() {}, nil
	}
	cores, err := parallel.Cores(slot, c.Cluster.Workers, d.cpu.Pool().Threads())
	if err != nil {
		return nil, &config.Error{Source: "train.pin_threads", Err: err}
	}
	release, err = d.cpu.Pool().Pin(cores)
	if err != nil {
		return nil, &config.Error{Source: "train.pin_threads", Err: err}
	}
	return release, nil
}

// GPUs is how many devices a node has for a setting of device: 0 on the CPU.
func GPUs(device string) int {
	if device == "cpu" {
		return 0
	}
	return gpus()
}

// Load reads and checks the configuration. What is not said follows the device:
// with GPUs, one worker for each.
func Load(s config.Source) (*config.Config, error) {
	c, err := config.Load(s)
	if err != nil {
		return nil, err
	}
	if n := GPUs(c.Device); n > 0 && s.Base == nil {
		s.Workers = n
		if c, err = config.Load(s); err != nil {
			return nil, err
		}
	}
	return c, Check(c)
}
