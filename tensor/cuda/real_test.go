//go:build cuda

package cuda_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/tensor/cuda"
)

// TestKernelSources compiles all kernels with NVIDIA's own compiler, which needs no
// GPU, only AGRDIST_TEST_GPU=1 and NVRTC (pip: nvidia-cuda-nvrtc-cu12) in
// AGRDIST_CUDA_PATH: the double accepts what NVRTC does not.
func TestKernelSources(t *testing.T) {
	if !cudatest.Real() {
		t.Skip("with NVIDIA's NVRTC only")
	}
	modules, err := cuda.Modules()
	require.NoError(t, err)
	for name, m := range modules {
		for _, arch := range []string{"sm_80", "sm_90"} {
			t.Run(arch+"/"+name, func(t *testing.T) {
				t.Parallel()
				image, err := cuda.Compile("", name, m.Source, arch)
				require.NoError(t, err)
				require.True(t, bytes.HasPrefix(image, []byte("\x7fELF")))
				for _, entry := range m.Entries {
					require.True(t, bytes.Contains(image, []byte(".text."+entry+"\x00")), "no kernel %s", entry)
				}
			})
		}
	}
}
