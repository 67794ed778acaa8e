//go:build cuda

package setup

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/allreduce/nccl"
	"github.com/agrdist/agrdist/internal/cuda/cublaslt"
	"github.com/agrdist/agrdist/internal/cuda/cudnn"
	"github.com/agrdist/agrdist/internal/cuda/driver"
	"github.com/agrdist/agrdist/internal/cuda/nvrtc"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cuda"
)

// HasCUDA says whether this build can use GPUs.
const HasCUDA = true

func gpus() int {
	info, err := driver.Status()
	if err != nil {
		return 0
	}
	return len(info.Devices)
}

// openCUDA opens the GPU of a slot: slot 0 has the first device that
// CUDA_VISIBLE_DEVICES leaves, slot 1 the second, and so on.
func openCUDA(c DeviceConfig, precision tensor.DType) (*Device, error) {
	info, err := driver.Status()
	if err != nil {
		return nil, fmt.Errorf("%w (agrdist doctor says more)", err)
	}
	if n := len(info.Devices); c.Slot >= n {
		return nil, fmt.Errorf("worker %d has no GPU: CUDA shows %d%s and cluster.workers is %d; set cluster.workers=%d",
			c.Slot, n, visible(), c.Workers, n)
	}
	be, err := cuda.New(cuda.Config{Device: c.Slot, BF16: precision == tensor.BF16, Logger: c.Logger})
	if errors.Is(err, cuda.ErrUnavailable) {
		return nil, fmt.Errorf("%w: %w (agrdist doctor says more)", errNoLibraries, err)
	}
	if err != nil {
		return nil, err
	}
	rounding, err := roundingOf(info.Devices[c.Slot])
	if err != nil {
		return nil, errors.Join(err, be.Close())
	}
	return &Device{
		Backend: be, Rounding: rounding,
		pass: func(o optim.Config, a *agr.Config, segments []optim.Segment, flatLen int) (agr.Pass, error) {
			return cuda.NewPassWith(be, o, a, segments, flatLen)
		},
		connector: func(e Connector, log *slog.Logger) Connector {
			lib, err := nccl.Open()
			if err != nil && c.Workers > 1 {
				log.Warn("no NCCL: gradients are copied through the host", "reason", err)
			}
			return &nccl.Connector{Endpoint: e, Library: lib, Lane: be.Lane(), Logger: log}
		},
		free: func() (int64, error) {
			free, _, err := be.MemInfo()
			return free, err
		},
	}, nil
}

func visible() string {
	if v, ok := os.LookupEnv("CUDA_VISIBLE_DEVICES"); ok {
		return fmt.Sprintf(" (CUDA_VISIBLE_DEVICES is %q)", v)
	}
	return ""
}

// roundingOf names what the libraries choose their algorithms by, which round in their
// own ways, and what compiles this project's kernels for an architecture.
func roundingOf(d driver.Device) (string, error) {
	dnn, err := cudnn.Open()
	if err != nil {
		return "", err
	}
	blas, err := cublaslt.Open()
	if err != nil {
		return "", err
	}
	compiler, err := nvrtc.Version()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("cuda/%s with %d multiprocessors, NVRTC %s, cuDNN %d, cuBLASLt %d",
		d.Arch(), d.Processors, compiler, dnn.Version(), blas.Version()), nil
}
