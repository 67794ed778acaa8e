//go:build !cuda

package setup

import "github.com/agrdist/agrdist/config"

// HasCUDA says whether this build can use GPUs.
const HasCUDA = false

func openCUDA(*config.Config, int) (*Device, error) { return nil, ErrNoCUDA }

func gpus() int { return 0 }
