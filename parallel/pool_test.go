package parallel_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/leaktest"
	"github.com/agrdist/agrdist/parallel"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func pool(tb testing.TB, threads int) *parallel.Pool {
	tb.Helper()
	p := parallel.New(threads)
	tb.Cleanup(p.Close)
	return p
}

func TestEachIndexOnce(t *testing.T) {
	for _, threads := range []int{1, 2, 3, 8} {
		p := pool(t, threads)
		require.Equal(t, threads, p.Threads())
		for _, n := range []int{0, 1, 2, 3, 7, 64, 1000} {
			count := make([]atomic.Int32, n)
			for range 50 {
				p.Run(n, func(i int) { count[i].Add(1) })
			}
			for i := range count {
				require.EqualValues(t, 50, count[i].Load(), "threads %d, n %d, index %d", threads, n, i)
			}
		}
	}
}

// Every thread takes part: iterations that wait for each other all end.
func TestThreadsRunTogether(t *testing.T) {
	const threads = 4
	p := pool(t, threads)
	var here atomic.Int32
	all := make(chan struct{})
	p.Run(threads, func(int) {
		if here.Add(1) == threads {
			close(all)
		}
		<-all
	})
	require.EqualValues(t, threads, here.Load())
}

func TestNestedRunIsInline(t *testing.T) {
	p := pool(t, 3)
	var sum atomic.Int64
	p.Run(10, func(i int) {
		order := make([]int, 0, 5) // unguarded: the race detector sees a second goroutine
		p.Run(5, func(j int) { order = append(order, j) })
		for _, j := range order {
			sum.Add(int64(10*i + j))
		}
	})
	require.EqualValues(t, 5*10*45+10*10, sum.Load())
}

func TestPanicReachesCaller(t *testing.T) {
	for _, threads := range []int{1, 3} {
		p := pool(t, threads)
		for bad := range 20 {
			require.PanicsWithValue(t, "bad", func() {
				p.Run(20, func(i int) {
					if i == bad {
						panic("bad")
					}
				})
			})
		}
		var n atomic.Int32
		p.Run(100, func(int) { n.Add(1) })
		require.EqualValues(t, 100, n.Load(), "the pool works on after a panic")
	}
}

func TestCloseIsIdempotentAndRunGoesOnInline(t *testing.T) {
	p := parallel.New(3)
	p.Close()
	p.Close()
	n := 0
	p.Run(10, func(int) { n++ })
	require.Equal(t, 10, n)
}

func TestNewRejectsNoThreads(t *testing.T) {
	require.Panics(t, func() { parallel.New(0) })
}

func TestRunDoesNotAllocate(t *testing.T) {
	p := pool(t, 3)
	var n atomic.Int64
	f := func(int) { n.Add(1) }
	require.Zero(t, testing.AllocsPerRun(100, func() { p.Run(64, f) }))
	require.NotZero(t, n.Load())
}

func BenchmarkRun(b *testing.B) {
	for _, threads := range []int{1, 2} {
		for _, pin := range []bool{false, true} {
			b.Run(fmt.Sprintf("threads=%d/pinned=%t", threads, pin), func(b *testing.B) {
				p := pool(b, threads)
				if pin {
					cores, err := parallel.Cores(0, 1, threads)
					require.NoError(b, err)
					release, err := p.Pin(cores)
					require.NoError(b, err)
					defer release()
				}
				f := func(int) {}
				for b.Loop() {
					p.Run(16, f)
				}
			})
		}
	}
}
