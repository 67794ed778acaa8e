//go:build cuda

package setup

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/agrdist/agrdist/allreduce/nccl"
	"github.com/agrdist/agrdist/internal/cuda/cublaslt"
	"github.com/agrdist/agrdist/internal/cuda/cudnn"
	"github.com/agrdist/agrdist/internal/cuda/driver"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cuda"
	"github.com/agrdist/agrdist/trainer"
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
	be, err := cuda.New(cuda.Config{Device: c.Slot, BF16: precision == tensor.BF16})
	if err != nil {
		return nil, err
	}
	rounding, err := roundingOf(info.Devices[c.Slot])
	if err != nil {
		return nil, errors.Join(err, be.Close())
	}
	return &Device{
		Backend: be, Rounding: rounding,
		optimizer: func(o optim.Config, agr bool, segments []optim.Segment, flatLen int) (trainer.DeviceOptimizer, error) {
			pass, err := cuda.NewPass(be, o, agr, segments, flatLen)
			return cudaPass{pass}, err
		},
		connector: func(e trainer.Connector, log *slog.Logger) trainer.Connector {
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

// roundingOf names what the libraries choose their algorithms by: these round in
// their own ways. Kernels of this project are the same for an architecture.
func roundingOf(d driver.Device) (string, error) {
	dnn, err := cudnn.Open()
	if err != nil {
		return "", err
	}
	blas, err := cublaslt.Open()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("cuda/%s with %d multiprocessors, cuDNN %d, cuBLASLt %d", d.Arch(), d.Processors, dnn.Version(), blas.Version()), nil
}

// cudaPass is the update on the GPU in the trainer's words.
type cudaPass struct{ *cuda.Pass }

var _ trainer.DeviceOptimizer = cudaPass{}

// Measure implements trainer.DeviceOptimizer.
func (p cudaPass) Measure(u trainer.DeviceUpdate) (optim.Stats, error) {
	return p.Pass.Measure(u.Params, u.Grads, u.EMA, u.LR, u.T, u.MaxGradNorm, u.EMADecay)
}

// Slots implements trainer.DeviceOptimizer.
func (p cudaPass) Slots() []trainer.DeviceSlot {
	slots := p.Pass.Slots()
	out := make([]trainer.DeviceSlot, len(slots))
	for i, s := range slots {
		out[i] = trainer.DeviceSlot{Name: s.Name, Buf: s.Data}
	}
	return out
}
