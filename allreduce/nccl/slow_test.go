//go:build cuda

package nccl

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/allreduce/allreducetest"
	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/tensor"
)

// slow makes the calls of rank 0 last until open.
func slow(t *testing.T) (open func()) {
	t.Helper()
	cudatest.Doubles(t, "it makes the library's calls last until they are told to end")
	gate := filepath.Join(t.TempDir(), "open")
	t.Setenv("AGRDIST_FAKE_NCCL_SLOW", "0:"+gate)
	return func() { require.NoError(t, os.WriteFile(gate, nil, 0o600)) }
}

// buckets are buffers whose elements are value.
func buckets(t *testing.T, g allreduce.Group, n int, value float32) (all []tensor.Buffer, err error) {
	t.Helper()
	be := rigAt(t, g.Rank())
	for range n {
		b, err := be.Alloc(tensor.F32, 4)
		if err != nil {
			return nil, err
		}
		be.Upload(b, []float32{value, value, value, value})
		all = append(all, b)
	}
	return all, nil
}

// While the library takes its time to begin an operation, whoever computes the gradients
// continues to give the device work and to queue what is ready: the calls return at once,
// and what they were given before the library begins is summed.
func TestSlowLibrary(t *testing.T) {
	for name, order := range map[string]allreduce.Order{"tree": allreduce.OrderTree, "ring": allreduce.OrderRing} {
		t.Run(name, func(t *testing.T) {
			open := slow(t)
			r := newRanks(t, 2, order)
			r.timeout = 20 * time.Second // a call that waits for the library ends with it
			groups := r.connect(t, allreducetest.Plan(t, 2, 2))
			allreducetest.AllOK(t, groups, func(g allreduce.Group) error {
				d, be := g.(allreduce.DeviceGroup), rigAt(t, g.Rank())
				all, err := buckets(t, g, 8, float32(1+g.Rank()))
				if err != nil {
					return err
				}
				for i, b := range all {
					part := tensor.Tensor{Buf: b, Shape: tensor.Of(4)}
					be.Add(part, part, part)
					if err := d.AllReduceDevice(t.Context(), uint32(i), []tensor.Buffer{b}, b); err != nil {
						return err
					}
				}
				if g.Rank() == 0 {
					open()
				}
				if err := d.Wait(t.Context()); err != nil {
					return err
				}
				for _, b := range all {
					got := make([]float32, 4)
					if err := be.Download(got, b); err != nil {
						return err
					}
					if got[3] != 2*1+2*2 {
						return errors.New("a sum is wrong")
					}
				}
				return g.Close()
			})
		})
	}
}

// A library that never begins an operation is waited for no longer than the deadline, by
// the ranks that it keeps waiting too, and the operation is named.
func TestLibraryThatNeverBegins(t *testing.T) {
	slow(t)
	r := newRanks(t, 2, allreduce.OrderTree)
	r.timeout = 400 * time.Millisecond
	groups := r.connect(t, allreducetest.Plan(t, 2, 2))
	for rank, err := range allreducetest.Each(t, groups, func(g allreduce.Group) error {
		all, err := buckets(t, g, 3, 1)
		if err != nil {
			return err
		}
		d := g.(allreduce.DeviceGroup)
		for i, b := range all {
			if err := d.AllReduceDevice(t.Context(), 7+uint32(i), []tensor.Buffer{b}, b); err != nil {
				return err
			}
		}
		return d.Wait(t.Context())
	}) {
		var of *allreduce.Error
		require.ErrorAs(t, err, &of, "rank %d", rank)
		require.Equal(t, allreduce.OpAllReduce, of.Op)
		if rank == 0 {
			require.Equal(t, uint32(7), of.Bucket, "the one that the library was given")
		}
	}
	allreducetest.AllOK(t, groups, func(g allreduce.Group) error { return g.Close() })
	t.Setenv("AGRDIST_FAKE_NCCL_SLOW", "")
	r.timeout = time.Minute
	works(t, r, 2)
}

// A group that is given up while the library is at work on an operation is free at once:
// nothing waits for the rest.
func TestAbortedWhileTheLibraryIsSlow(t *testing.T) {
	slow(t)
	r := newRanks(t, 2, allreduce.OrderRing)
	groups := r.connect(t, allreducetest.Plan(t, 2, 2))
	cause := errors.New("generation 2 has begun")
	for rank, err := range allreducetest.Each(t, groups, func(g allreduce.Group) error {
		all, err := buckets(t, g, 3, 1)
		if err != nil {
			return err
		}
		d := g.(allreduce.DeviceGroup)
		for i, b := range all {
			if err := d.AllReduceDevice(t.Context(), uint32(i), []tensor.Buffer{b}, b); err != nil {
				return err
			}
		}
		if g.Rank() == 0 {
			g.Abort(cause)
		}
		return d.Wait(t.Context())
	}) {
		require.ErrorIs(t, err, allreduce.ErrAborted, "rank %d", rank)
	}
	allreducetest.AllOK(t, groups, func(g allreduce.Group) error { return g.Close() })
	t.Setenv("AGRDIST_FAKE_NCCL_SLOW", "")
	works(t, r, 2)
}
