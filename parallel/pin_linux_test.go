package parallel

import (
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// where is the mask of every thread of a pool.
func where(p *Pool) []unix.CPUSet {
	var masks []unix.CPUSet
	var guard sync.Mutex
	_ = p.each(func() error {
		var m unix.CPUSet
		err := unix.SchedGetaffinity(0, &m)
		guard.Lock()
		masks = append(masks, m)
		guard.Unlock()
		return err
	})
	return masks
}

// Every thread of a pinned pool is on a core of its own, and released ones are
// where they were.
func TestPin(t *testing.T) {
	all, err := allowed()
	require.NoError(t, err)
	runtime.LockOSThread() // release is to take back this thread, not only let it go
	defer runtime.UnlockOSThread()
	threads := min(3, len(all))
	p := New(threads)
	defer p.Close()
	before := where(p)
	cores, err := Cores(0, 1, threads)
	require.NoError(t, err)
	release, err := p.Pin(cores)
	require.NoError(t, err)
	_, err = p.Pin(cores)
	require.ErrorContains(t, err, "pinned already")
	var seen []int
	for _, m := range where(p) {
		require.Equal(t, 1, m.Count())
		for _, c := range cores {
			if m.IsSet(c) {
				seen = append(seen, c)
			}
		}
	}
	require.ElementsMatch(t, cores, seen)
	release()
	release()
	var caller unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &caller))
	require.Equal(t, before[0], caller)
}

// What cannot be pinned fails in words, and leaves every thread where it was.
func TestPinRefuses(t *testing.T) {
	all, err := allowed()
	require.NoError(t, err)
	p := New(2)
	before := where(p)
	first := all[0].id
	for want, cores := range map[string][]int{
		"1 cores for 2 threads":   {first},
		"is named twice":          {first, first},
		"core 4095 is none of":    {first, 4095},
		"core -1 is none of thos": {-1, first},
	} {
		_, err := p.Pin(cores)
		require.ErrorIs(t, err, ErrPin)
		require.ErrorContains(t, err, want)
	}
	require.Equal(t, before, where(p))
	p.Close()
	_, err = p.Pin([]int{first, first + 1})
	require.ErrorContains(t, err, "running or closed")
}

// A thread that the system does not move takes the others back.
func TestPinUndoes(t *testing.T) {
	p := New(3)
	defer p.Close()
	all, err := allowed()
	require.NoError(t, err)
	before := where(p)
	var guard sync.Mutex
	old, core := map[int]affinity{}, 0
	err = p.each(func() error {
		guard.Lock()
		defer guard.Unlock()
		c := []int{all[0].id, all[0].id, 1 << 20}[core]
		core++
		thread, mask, err := lockTo(c)
		if err == nil {
			old[thread] = mask
		}
		return err
	})
	require.Error(t, err, "a mask without a processor")
	require.Len(t, old, 2)
	require.NoError(t, p.each(func() error {
		guard.Lock()
		defer guard.Unlock()
		return unlock(old)
	}))
	require.Equal(t, before, where(p))
	require.Empty(t, old)
}
