//go:build cuda

package nvrtc_test

import (
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/internal/cuda/nvrtc"
)

// kernels are the sources of tensor/cuda, each with the prelude in front, and the
// options that package compiles them with.
const kernels = "../../../tensor/cuda/kernels"

var options = []string{"--std=c++17", "--fmad=false", "--device-as-default-execution-space", "--extra-device-vectorization"}

// TestKernelSources compiles every kernel with NVIDIA's own compiler, which needs no
// GPU: for the oldest architecture that is promised, and for the H100. The doubles'
// g++ accepts what NVRTC does not, and has no limit on shared memory.
func TestKernelSources(t *testing.T) {
	if !cudatest.Real() {
		t.Skip("with NVIDIA's NVRTC only: hack/cuda-check.sh fetches it")
	}
	prelude, err := os.ReadFile(filepath.Join(kernels, "prelude.cu"))
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(kernels, "*.cu"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, arch := range []string{"sm_80", "sm_90"} {
		for _, file := range files {
			name := filepath.Base(file)
			if name == "prelude.cu" {
				continue
			}
			t.Run(arch+"/"+strings.TrimSuffix(name, ".cu"), func(t *testing.T) {
				text, err := os.ReadFile(file)
				require.NoError(t, err)
				cubin, log, err := nvrtc.Compile(string(prelude)+string(text), name, arch, options...)
				require.NoError(t, err, log)
				require.Empty(t, log, "warnings")
				requireCubin(t, cubin)
			})
		}
	}
}

// requireCubin: an ELF file for NVIDIA's machine, with a section of code for each
// kernel. Package elf refuses the version that NVIDIA writes into it.
func requireCubin(t *testing.T, cubin []byte) {
	t.Helper()
	require.Equal(t, elf.ELFMAG, string(cubin[:4]))
	require.Equal(t, uint16(190), binary.LittleEndian.Uint16(cubin[18:]), "EM_CUDA")
	require.Contains(t, string(cubin), "\x00.text.")
}
