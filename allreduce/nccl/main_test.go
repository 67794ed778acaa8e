//go:build cuda

package nccl

import (
	"fmt"
	"os"
	"testing"

	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/internal/leaktest"
)

func TestMain(m *testing.M) {
	if os.Getenv("AGRDIST_FAKE_GPUS") == "" {
		_ = os.Setenv("AGRDIST_FAKE_GPUS", "5") // a rank has one for itself
	}
	if err := cudatest.Setup(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if orders := os.Getenv(childEnv); orders != "" {
		if err := runChild(orders); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	leaktest.Main(m)
}
