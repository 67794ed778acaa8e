//go:build cuda

package nvrtc_test

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
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

// architectures are the oldest that is promised, the H100's, and Blackwell's, which
// NVRTC knows since 12.8.
var architectures = []string{"sm_80", "sm_90", "sm_100"}

// TestKernelSources compiles every kernel with NVIDIA's own compiler, which needs no
// GPU. The doubles' g++ accepts what NVRTC does not, and has no limit on shared memory
// or registers. No kernel may spill registers. -v prints what each uses.
func TestKernelSources(t *testing.T) {
	if !cudatest.Real() {
		t.Skip("with NVIDIA's NVRTC only: hack/cuda-check.sh fetches it")
	}
	prelude, err := os.ReadFile(filepath.Join(kernels, "prelude.cu"))
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(kernels, "*.cu"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, arch := range architectures {
		if arch == "sm_100" && !newer(t, 12, 8) {
			continue
		}
		for _, file := range files {
			name := filepath.Base(file)
			if name == "prelude.cu" {
				continue
			}
			t.Run(arch+"/"+strings.TrimSuffix(name, ".cu"), func(t *testing.T) {
				t.Parallel()
				text, err := os.ReadFile(file)
				require.NoError(t, err)
				cubin, log, err := nvrtc.Compile(string(prelude)+string(text), name, arch, append(options, "--ptxas-options=-v")...)
				require.NoError(t, err, log)
				requireCubin(t, cubin)
				used, other := resources(log)
				require.Empty(t, other, "warnings")
				require.Len(t, used, kernelsOf(cubin), "every kernel is in the log")
				for _, u := range used {
					t.Log(u)
					require.Zero(t, u.spilled, "%s spills registers: give it fewer values to keep or a bound that leaves it more", u.kernel)
				}
			})
		}
	}
}

// newer says that NVRTC is of a version or a later one.
func newer(t *testing.T, major, minor int) bool {
	t.Helper()
	version, err := nvrtc.Version()
	require.NoError(t, err)
	var x, y int
	_, err = fmt.Sscanf(version, "%d.%d", &x, &y)
	require.NoError(t, err)
	return x > major || x == major && y >= minor
}

// kernelsOf counts the sections of code, whose names are in two tables.
func kernelsOf(cubin []byte) int {
	names := map[string]bool{}
	for _, m := range section.FindAllSubmatch(cubin, -1) {
		names[string(m[1])] = true
	}
	return len(names)
}

// usage is what the assembler says of a kernel, in bytes but for the registers.
type usage struct {
	kernel                            string
	registers, stack, spilled, shared int
}

func (u usage) String() string {
	return fmt.Sprintf("%-36s %3d registers  %3d B of stack  %3d B spilled  %5d B shared", u.kernel, u.registers, u.stack, u.spilled, u.shared)
}

var (
	section   = regexp.MustCompile(`\x00\.text\.(\w+)`)
	compiling = regexp.MustCompile(`Compiling entry function '(\w+)'`)
	frame     = regexp.MustCompile(`(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads`)
	registers = regexp.MustCompile(`Used (\d+) registers`)
	shared    = regexp.MustCompile(`(\d+) bytes smem`)
	chatter   = regexp.MustCompile(`^(ptxas info\s*: (\d+ bytes gmem.*|Function properties for .*|Compile time = .*))?$`)
)

// resources reads the log of ptxas -v; other is what else it says.
func resources(log string) (used []usage, other []string) {
	number := func(s string) int { n, _ := strconv.Atoi(s); return n }
	used = []usage{{}} // what stands before the first kernel
	for line := range strings.Lines(log) {
		line = strings.TrimSpace(line)
		if m := compiling.FindStringSubmatch(line); m != nil {
			used = append(used, usage{kernel: m[1]})
			continue
		}
		u, known := &used[len(used)-1], chatter.MatchString(line)
		if m := frame.FindStringSubmatch(line); m != nil {
			u.stack, u.spilled, known = number(m[1]), number(m[2])+number(m[3]), true
		}
		if m := registers.FindStringSubmatch(line); m != nil {
			u.registers, known = number(m[1]), true
		}
		if m := shared.FindStringSubmatch(line); m != nil {
			u.shared = number(m[1])
		}
		if !known {
			other = append(other, line)
		}
	}
	return used[1:], other
}

// requireCubin: an ELF file for NVIDIA's machine, with a section of code for each
// kernel. Package elf refuses the version that NVIDIA writes into it.
func requireCubin(t *testing.T, cubin []byte) {
	t.Helper()
	require.Equal(t, elf.ELFMAG, string(cubin[:4]))
	require.Equal(t, uint16(190), binary.LittleEndian.Uint16(cubin[18:]), "EM_CUDA")
	require.Contains(t, string(cubin), "\x00.text.")
}
