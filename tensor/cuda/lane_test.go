//go:build cuda

package cuda_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce/nccl"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cuda"
)

var _ nccl.Lane = (*cuda.Lane)(nil)

// finish waits until the lane is done.
func finish(t *testing.T, l *cuda.Lane) {
	t.Helper()
	for {
		done, err := l.Done()
		require.NoError(t, err)
		if done {
			return
		}
		runtime.Gosched()
	}
}

// A lane that follows sees what the backend was given before, and its results are
// there when it is done: on the double, streams that nothing orders run in any
// order.
func TestLaneFollows(t *testing.T) {
	be := open(t)
	l := be.Lane()
	const n = 1000
	one := func(v []float32) tensor.Tensor {
		return tensor.Tensor{Buf: alloc(t, be, tensor.F32, v), Shape: tensor.Of(n)}
	}
	for round := range 20 {
		x, y := normal(round, n), normal(round+100, n)
		a, b, sum := one(x), one(make([]float32, n)), one(make([]float32, n))
		be.Upload(b.Buf, y)
		be.Scale(b, b, 2)
		require.NoError(t, l.Follow())
		buf, err := l.Alloc(tensor.F32, n)
		require.NoError(t, err)
		own := tensor.Tensor{Buf: l.Slice(buf, 0, n), Shape: tensor.Of(n)}
		l.Add(own, own, b) // new memory is zero on the lane too
		l.Add(sum, a, own)
		l.Copy(a, sum)
		l.Fill(b, 7)
		finish(t, l)
		want := make([]float32, n)
		for i := range want {
			want[i] = x[i] + 2*y[i]
		}
		require.Equal(t, want, download(t, be, sum.Buf))
		require.Equal(t, want, download(t, be, a.Buf))
		require.Equal(t, float32(7), download(t, be, b.Buf)[n-1])
		l.Free(buf)
	}
	require.NoError(t, be.Sync())
}

func TestLaneOfADevice(t *testing.T) {
	be := open(t)
	l := be.Lane()
	buf := alloc(t, be, tensor.F32, []float32{1, 2})
	p, ok := cuda.Pointer(buf)
	require.True(t, ok)
	require.Equal(t, p, l.Pointer(buf))
	require.NotEmpty(t, l.ID())
	require.NotZero(t, l.Stream())
	require.Equal(t, l.ID(), open(t).Lane().ID(), "another backend on the same device")
	called := false
	require.NoError(t, l.Current(func() error { called = true; return nil }))
	require.True(t, called)
}
