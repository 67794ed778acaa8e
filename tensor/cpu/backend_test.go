package cpu_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/isa"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu"
)

func TestConfig(t *testing.T) {
	t.Setenv(isa.Env, "")
	require.NoError(t, cpu.DefaultConfig().Validate())
	require.Equal(t, runtime.GOMAXPROCS(0), cpu.DefaultConfig().Threads)

	err := cpu.Config{Threads: 0, Kernels: "sse9"}.Validate()
	require.ErrorIs(t, err, cpu.ErrConfig)
	require.ErrorIs(t, err, isa.ErrSet)
	require.ErrorContains(t, err, "0 threads")
	require.ErrorContains(t, err, "sse9")
	require.Panics(t, func() { cpu.New(cpu.Config{}) })
}

func TestEnvironmentNamesKernels(t *testing.T) {
	t.Setenv(isa.Env, "go")
	be := cpu.New(cpu.Config{Threads: 1})
	require.Equal(t, "cpu/go", be.Name())
	require.Equal(t, "go", be.Kernels())
	require.NoError(t, be.Close())

	t.Setenv(isa.Env, "nonsense")
	require.ErrorContains(t, cpu.Config{Threads: 1}.Validate(), isa.Env)
	require.NoError(t, cpu.Config{Threads: 1, Kernels: "go"}.Validate(), "a named set goes before the environment")
}

// A run that asks for portable kernels gets them, or is told what keeps it from them.
func TestPortable(t *testing.T) {
	name := func(c cpu.Config) string {
		c.Threads = 1
		be := cpu.New(c)
		defer func() { require.NoError(t, be.Close()) }()
		return be.Name()
	}
	t.Setenv(isa.Env, "")
	require.Equal(t, "cpu/portable", name(cpu.Config{Portable: true}))
	require.Equal(t, "cpu/portable bf16", name(cpu.Config{Portable: true, Precision: tensor.BF16}))
	require.NotEqual(t, "cpu/portable", name(cpu.Config{}))
	for _, set := range isa.Portables() {
		require.Equal(t, "cpu/portable", name(cpu.Config{Kernels: set.String()}))
		t.Setenv(isa.Env, set.String())
		require.Equal(t, "cpu/portable", name(cpu.Config{}))
		require.Equal(t, "cpu/portable", name(cpu.Config{Portable: true}))
	}
	t.Setenv(isa.Env, "go")
	require.ErrorContains(t, cpu.Config{Threads: 1, Portable: true}.Validate(),
		"AGRDIST_CPU=go is not portable, and train.cpu is: unset AGRDIST_CPU, or set it to portable")
}

func TestHostBuffersAreTheMemoryItself(t *testing.T) {
	be := cpu.New(cpu.Config{Threads: 1})
	defer func() { require.NoError(t, be.Close()) }()
	b, err := be.Alloc(tensor.F32, 8)
	require.NoError(t, err)
	be.Slice(b, 2, 3).(tensor.Host).Float32s()[1] = 7
	require.Equal(t, []float32{0, 0, 0, 7, 0, 0, 0, 0}, b.(tensor.Host).Float32s())
	h, err := be.Alloc(tensor.BF16, 8)
	require.NoError(t, err)
	_, ok := h.(tensor.Host)
	require.False(t, ok, "a BF16 buffer has no float32 to show")
}
