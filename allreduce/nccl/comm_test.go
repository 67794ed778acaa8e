//go:build cuda

package nccl

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/internal/cuda/cudatest"
)

// together runs f on every rank of a new communicator, each on its own device, and
// closes it.
func together(t *testing.T, world int, f func(m *Comm, r *rig, rank int) error) {
	t.Helper()
	cudatest.Devices(t, world)
	lib, err := Open()
	require.NoError(t, err)
	id, err := lib.NewID()
	require.NoError(t, err)
	errs := make([]error, world)
	var wg sync.WaitGroup
	for rank := range world {
		r := rigAt(t, rank)
		wg.Go(func() {
			errs[rank] = r.Current(func() error {
				m, err := lib.Init(t.Context(), id, world, rank)
				if err != nil {
					return err
				}
				return errors.Join(f(m, r, rank), m.Close(t.Context()), m.Close(t.Context()))
			})
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
}

// memory is device memory with values, and a way to see it after the stream.
func memory[T any](r *rig, values []T) (p uintptr, see func() ([]T, error), err error) {
	size := int64(len(values)) * int64(unsafe.Sizeof(values[0]))
	ptr, err := cu.MemAlloc(size)
	if err == nil {
		err = cu.MemcpyHtoD(ptr, unsafe.Pointer(&values[0]), size)
	}
	return uintptr(ptr), func() ([]T, error) {
		out := make([]T, len(values))
		err := r.stream.Synchronize()
		if err == nil {
			err = cu.MemcpyDtoH(unsafe.Pointer(&out[0]), ptr, size)
		}
		return out, errors.Join(err, cu.MemFree(ptr))
	}, err
}

func TestOperations(t *testing.T) {
	const world = 3
	t.Run("all-reduce in bf16", func(t *testing.T) {
		together(t, world, func(m *Comm, r *rig, rank int) error {
			p, see, err := memory(r, []uint16{0x3f80, 0x4000 + uint16(rank)*0x80}) // 1; 2, 4, 8
			if err == nil {
				err = m.AllReduce(p, p, 2, BF16, r.Stream())
			}
			got, failed := see()
			require.Equal(t, []uint16{0x4040, 0x4160}, got) // 3; 14
			return errors.Join(err, failed)
		})
	})
	t.Run("broadcast", func(t *testing.T) {
		together(t, world, func(m *Comm, r *rig, rank int) error {
			p, see, err := memory(r, []float32{float32(rank)})
			if err == nil {
				err = m.Broadcast(p, 1, F32, 2, r.Stream())
			}
			got, failed := see()
			require.Equal(t, []float32{2}, got)
			return errors.Join(err, failed)
		})
	})
	t.Run("send and receive in a circle", func(t *testing.T) {
		together(t, world, func(m *Comm, r *rig, rank int) error {
			values := make([]float32, 40_000) // larger than any buffer between
			for i := range values[:20_000] {
				values[i] = float32(rank*20_000 + i)
			}
			p, see, err := memory(r, values)
			if err == nil {
				err = m.Group(func() error {
					return errors.Join(m.Send(p, 20_000, F32, (rank+1)%world, r.Stream()),
						m.Recv(p+80_000, 20_000, F32, (rank+world-1)%world, r.Stream()))
				})
			}
			got, failed := see()
			require.Equal(t, float32((rank+world-1)%world*20_000+19_999), got[39_999])
			return errors.Join(err, failed)
		})
	})
}

// A rank that nobody meets gives up with its context.
func TestNobodyComes(t *testing.T) {
	cudatest.Doubles(t, "NCCL gives up on a missing rank in its own time, and words its refusals itself")
	lib, err := Open()
	require.NoError(t, err)
	id, err := lib.NewID()
	require.NoError(t, err)
	other, err := lib.NewID()
	require.NoError(t, err)
	require.NotEqual(t, id, other)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.NoError(t, rigAt(t, 0).Current(func() error {
		_, err := lib.Init(ctx, id, 2, 0)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = lib.Init(t.Context(), id, 1, 7)
		var refused *Error
		require.ErrorAs(t, err, &refused)
		require.Equal(t, 4, refused.Code)
		require.ErrorContains(t, err, "ncclCommInitRankConfig: invalid argument")
		require.ErrorContains(t, err, "rank, size or unique id", "what the library said last")
		return nil
	}))
}

// Nothing reaches the library after an abort, in a group either.
func TestAborted(t *testing.T) {
	together(t, 1, func(m *Comm, r *rig, _ int) error {
		m.Abort()
		m.Abort()
		require.ErrorIs(t, m.AllReduce(1, 1, 1, F32, r.Stream()), ErrGone)
		require.ErrorIs(t, m.Group(func() error { panic("not called") }), ErrGone)
		require.ErrorIs(t, m.Err(), ErrGone)
		return nil
	})
}

// The tests below check the bindings against NVIDIA's own files, where the environment
// says where those are; pip has them: nvidia-nccl-cu12, nvidia-cuda-runtime-cu12 and
// nvidia-cuda-nvcc-cu12 (headers).
const (
	envInclude = "AGRDIST_TEST_CUDA_INCLUDE" // directories with headers
	envLib     = "AGRDIST_TEST_CUDA_LIB"     // directories with libraries
)

// TestHeaders compares api.h with the library's header: every value, every
// prototype, the layout of every structure.
func TestHeaders(t *testing.T) {
	list := os.Getenv(envInclude)
	if list == "" {
		t.Skip(envInclude + " is not set")
	}
	args := []string{"-std=gnu11", "-fsyntax-only", "-Wall", "-Werror"}
	for _, dir := range filepath.SplitList(list) {
		args = append(args, "-isystem", dir)
	}
	out, err := exec.CommandContext(t.Context(), "gcc", append(args, "testdata/headers.c")...).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// TestRealLibrary opens NCCL itself: every function is there.
func TestRealLibrary(t *testing.T) {
	list := os.Getenv(envLib)
	if list == "" {
		t.Skip(envLib + " is not set")
	}
	t.Setenv(EnvLibrary, "")
	t.Setenv("AGRDIST_CUDA_PATH", list)
	lib, err := Open()
	require.NoError(t, err)
	require.GreaterOrEqual(t, lib.version, oldest)
	t.Logf("%s is version %s", lib.Path(), lib.Version())
	require.ErrorContains(t, lib.err("op", 5, nil), "nccl: op: invalid usage")
}
