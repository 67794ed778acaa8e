//go:build !cuda

package setup

import "github.com/agrdist/agrdist/tensor"

// HasCUDA says whether this build can use GPUs.
const HasCUDA = false

func openCUDA(DeviceConfig, tensor.DType) (*Device, error) { return nil, ErrNoCUDA }

func gpus() int { return 0 }
