//go:build cuda

package cudatest_test

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/internal/cuda/driver"
)

const steps = `
extern "C" __global__ void set(float *x, float v) { x[0] = v; }
extern "C" __global__ void inc(float *x) { x[0] += 1; }
extern "C" __global__ void twice(float *x) { x[0] *= 2; }
extern "C" __global__ void sum(float *y, const float *a, const float *b) { y[0] = a[0] + b[0]; }
`

type kernels struct{ set, inc, twice, sum cu.Function }

func load(t *testing.T) kernels {
	t.Helper()
	m := cudatest.Module(t, cudatest.Context(t, 0), steps)
	f := func(name string) cu.Function { return cudatest.Function(t, m, name) }
	return kernels{f("set"), f("inc"), f("twice"), f("sum")}
}

func event(t *testing.T) cu.Event {
	t.Helper()
	e, err := cu.MakeEvent(cu.DisableTiming)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cu.DestroyEvent(&e)) })
	return e
}

const one = 0x3f800000 // the bits of 1.0f

func TestStreamKeepsItsOrder(t *testing.T) {
	k := load(t)
	s, x := cudatest.Stream(t), cudatest.Alloc(t, 1)
	for range 20 {
		require.NoError(t, cudatest.Launch(k.set, s, 1, 1, uint64(x), one))
		require.NoError(t, cudatest.Launch(k.inc, s, 1, 1, uint64(x)))
		require.NoError(t, cudatest.Launch(k.twice, s, 1, 1, uint64(x)))
		require.NoError(t, cudatest.Launch(k.inc, s, 1, 1, uint64(x)))
		require.Equal(t, float32(5), cudatest.Download(t, x, 1)[0])
	}
}

// chain puts inc on a and twice on b behind it, ordered by an event or not.
func chain(t *testing.T, k kernels, a, b cu.Stream, e cu.Event, x cu.DevicePtr, wait bool) float32 {
	t.Helper()
	require.NoError(t, cudatest.Launch(k.set, a, 1, 1, uint64(x), one))
	require.NoError(t, a.Synchronize())
	require.NoError(t, cudatest.Launch(k.inc, a, 1, 1, uint64(x)))
	require.NoError(t, e.Record(a))
	if wait {
		require.NoError(t, b.Wait(e, 0))
	}
	require.NoError(t, cudatest.Launch(k.twice, b, 1, 1, uint64(x)))
	return cudatest.Download(t, x, 1)[0]
}

// TestEventsOrderStreams: with an event the order is kept, without one it is seen to
// be lost now and then.
func TestEventsOrderStreams(t *testing.T) {
	k := load(t)
	a, b, e, x := cudatest.Stream(t), cudatest.Stream(t), event(t), cudatest.Alloc(t, 1)
	lost := 0
	for range 100 {
		require.Equal(t, float32(4), chain(t, k, a, b, e, x, true))
		if chain(t, k, a, b, e, x, false) != 4 {
			lost++
		}
	}
	if !cudatest.Real() {
		require.NotZero(t, lost)
	}
}

// TestNonBlockingStreamsIgnoreTheDefault: a copy of the default stream waits for
// streams that block it and for no others.
func TestNonBlockingStreamsIgnoreTheDefault(t *testing.T) {
	k := load(t)
	x := cudatest.Alloc(t, 1)
	stale := func(flags cu.StreamFlags) int {
		s, err := cu.MakeStream(flags)
		require.NoError(t, err)
		n := 0
		for range 100 {
			require.NoError(t, cu.MemsetD32(x, 0, 1))
			require.NoError(t, cu.Synchronize())
			require.NoError(t, cudatest.Launch(k.set, s, 1, 1, uint64(x), one))
			var v float32
			require.NoError(t, cu.MemcpyDtoH(unsafe.Pointer(&v), x, 4))
			if v != 1 {
				n++
			}
			require.NoError(t, s.Synchronize())
		}
		require.NoError(t, s.Destroy())
		return n
	}
	require.Zero(t, stale(cu.DefaultStream))
	if !cudatest.Real() {
		require.NotZero(t, stale(cu.NonBlocking))
	}
}

// TestPinnedCopiesAreLate: a copy from pinned memory reads it when it runs, one from
// pageable memory when it is called.
func TestPinnedCopiesAreLate(t *testing.T) {
	cudatest.Context(t, 0)
	s, x := cudatest.Stream(t), cudatest.Alloc(t, 1)
	p, err := driver.HostAlloc(4)
	require.NoError(t, err)
	pinned := (*float32)(p)
	early := 0
	for range 100 {
		*pinned = 1
		require.NoError(t, cu.MemcpyHtoDAsync(x, p, 4, s))
		*pinned = 2 // wrong: the copy may not have been made
		if cudatest.Download(t, x, 1)[0] == 2 {
			early++
		}
		pageable := float32(3)
		require.NoError(t, cu.MemcpyHtoDAsync(x, unsafe.Pointer(&pageable), 4, s))
		pageable = 4
		require.Equal(t, float32(3), cudatest.Download(t, x, 1)[0])
	}
	if !cudatest.Real() {
		require.NotZero(t, early)
	}
	require.NoError(t, driver.HostFree(p))
}

func TestQueryAndElapsed(t *testing.T) {
	k := load(t)
	s, x := cudatest.Stream(t), cudatest.Alloc(t, 1)
	var ends [2]cu.Event
	for i := range ends {
		e, err := cu.MakeEvent(cu.DefaultEvent)
		require.NoError(t, err)
		ends[i] = e
	}
	require.NoError(t, ends[0].Record(s))
	pending := 0
	for range 200 {
		require.NoError(t, cudatest.Launch(k.inc, s, 1, 1, uint64(x)))
		require.NoError(t, ends[1].Record(s))
		if err := ends[1].Query(); err != nil {
			require.ErrorIs(t, err, cu.NotReady)
			pending++
		}
	}
	require.NotZero(t, pending)
	require.NoError(t, ends[1].Synchronize())
	require.NoError(t, ends[1].Query())
	require.NoError(t, s.Query())
	ms, err := ends[0].Elapsed(ends[1])
	require.NoError(t, err)
	require.Positive(t, ms)
}

// fork records: set on a; inc on a beside set+twice on b; then sum on a.
func fork(t *testing.T, k kernels, a, b cu.Stream, x, y, z cu.DevicePtr) driver.Graph {
	t.Helper()
	begun, done := event(t), event(t)
	require.NoError(t, driver.BeginCapture(a, driver.CaptureThreadLocal))
	require.NoError(t, cudatest.Launch(k.twice, a, 1, 1, uint64(x)))
	require.NoError(t, begun.Record(a))
	require.NoError(t, b.Wait(begun, 0))
	require.NoError(t, cudatest.Launch(k.inc, a, 1, 1, uint64(x)))
	require.NoError(t, cudatest.Launch(k.set, b, 1, 1, uint64(y), one))
	require.NoError(t, cudatest.Launch(k.twice, b, 1, 1, uint64(y)))
	require.NoError(t, done.Record(b))
	require.NoError(t, a.Wait(done, 0))
	require.NoError(t, cudatest.Launch(k.sum, a, 1, 1, uint64(z), uint64(x), uint64(y)))
	on, err := driver.Capturing(b)
	require.NoError(t, err)
	require.True(t, on)
	g, err := driver.EndCapture(a)
	require.NoError(t, err)
	on, err = driver.Capturing(b)
	require.NoError(t, err)
	require.False(t, on)
	return g
}

// TestGraphRepeats: nothing runs while it is recorded, each launch runs it all on what
// the memory holds then.
func TestGraphRepeats(t *testing.T) {
	k := load(t)
	a, b := cudatest.Stream(t), cudatest.Stream(t)
	x, y, z := cudatest.Upload(t, []float32{3}), cudatest.Alloc(t, 1), cudatest.Alloc(t, 1)
	g := fork(t, k, a, b, x, y, z)
	n, err := g.Nodes()
	require.NoError(t, err)
	require.Equal(t, 5, n)
	require.Equal(t, float32(3), cudatest.Download(t, x, 1)[0])

	exec, err := g.Instantiate()
	require.NoError(t, err)
	require.NoError(t, g.Destroy())
	want := float32(3)
	for range 20 {
		require.NoError(t, exec.Launch(a))
		want = 2*want + 1
		require.Equal(t, want+2, cudatest.Download(t, z, 1)[0])
		if want > 1e6 {
			want = 5
			require.NoError(t, cudatest.Launch(k.set, a, 1, 1, uint64(x), 0x40a00000))
		}
	}
	require.NoError(t, exec.Launch(b))
	require.NoError(t, cu.Synchronize())
	require.NoError(t, exec.Destroy())
}

// TestCaptureRefuses: what a capture cannot hold breaks it.
func TestCaptureRefuses(t *testing.T) {
	k := load(t)
	a, b, x := cudatest.Stream(t), cudatest.Stream(t), cudatest.Alloc(t, 1)
	outside, inside := event(t), event(t)
	require.NoError(t, outside.Record(b))
	for _, tt := range []struct {
		name string
		call func() error
		want error
	}{
		{"synchronize the stream", a.Synchronize, cu.StreamCaptureUnsupported},
		{"query the stream", a.Query, cu.StreamCaptureUnsupported},
		{"synchronize all", cu.Synchronize, cu.StreamCaptureUnsupported},
		{"allocate", func() error { _, err := cu.MemAlloc(4); return err }, cu.StreamCaptureUnsupported},
		{"wait for an event of outside", func() error { return a.Wait(outside, 0) }, cu.StreamCaptureIsolation},
		{"query an event of inside", func() error {
			require.NoError(t, inside.Record(a))
			return inside.Query()
		}, cu.CapturedEvent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cudatest.Context(t, 0) // a test has its own thread
			require.NoError(t, driver.BeginCapture(a, driver.CaptureGlobal))
			require.NoError(t, cudatest.Launch(k.inc, a, 1, 1, uint64(x)))
			require.ErrorIs(t, tt.call(), tt.want)
			_, err := driver.EndCapture(a)
			require.ErrorIs(t, err, cu.StreamCaptureInvalidated)
			require.NoError(t, a.Synchronize(), "the stream works again")
		})
	}
	t.Run("a branch that does not come back", func(t *testing.T) {
		cudatest.Context(t, 0)
		require.NoError(t, driver.BeginCapture(a, driver.CaptureGlobal))
		require.NoError(t, cudatest.Launch(k.inc, a, 1, 1, uint64(x)))
		require.NoError(t, inside.Record(a))
		require.NoError(t, b.Wait(inside, 0))
		require.NoError(t, cudatest.Launch(k.inc, b, 1, 1, uint64(x)))
		_, err := driver.EndCapture(a)
		require.ErrorIs(t, err, cu.StreamCaptureUnjoined)
		require.NoError(t, b.Synchronize())
	})
	_, err := driver.EndCapture(a)
	require.ErrorIs(t, err, cu.IllegalState)
}
