package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/agrdist/agrdist/allreduce"
)

// AllReduceConfig is one sweep of the collective over sizes.
type AllReduceConfig struct {
	World      int
	From, To   int64 // bytes of a vector
	Factor     int64 // from one size to the next
	Iterations int   // measured calls a size, after one to warm up
	Order      allreduce.Order
}

// AllReduceResult is one size. The columns are those of nccl-tests: algbw is
// bytes / time, busbw is algbw x 2(n-1)/n, which a perfect network would reach
// whatever n is.
type AllReduceResult struct {
	Bytes  int64   `json:"bytes"`
	World  int     `json:"world"`
	Order  string  `json:"order"`
	Millis float64 `json:"time_ms"`    // median
	AlgBW  float64 `json:"algbw_gb_s"` // 10^9 bytes/s
	BusBW  float64 `json:"busbw_gb_s"` // 10^9 bytes/s
}

// AllReduce measures the collective among ranks of this process, each with
// endpoint, connections and goroutines of its own, over loopback.
func AllReduce(ctx context.Context, c AllReduceConfig, each func(AllReduceResult)) error {
	if c.World < 1 || c.From < 4 || c.To < c.From || c.Factor < 2 || c.Iterations < 1 {
		return fmt.Errorf("world %d, sizes %d to %d by %d, %d iterations: sizes are 4 bytes or more and grow, the rest is positive", c.World, c.From, c.To, c.Factor, c.Iterations)
	}
	groups, closeAll, err := connect(ctx, c)
	if err != nil {
		return err
	}
	defer closeAll()
	bucket := uint32(0)
	for bytes := c.From; bytes <= c.To; bytes *= c.Factor {
		times, err := sweep(ctx, groups, int(bytes/4), c.Iterations, &bucket)
		if err != nil {
			return err
		}
		ms := median(times)
		alg := float64(bytes) / ms / 1e6
		each(AllReduceResult{
			Bytes: bytes, World: c.World, Order: c.Order.String(), Millis: ms,
			AlgBW: alg, BusBW: alg * 2 * float64(c.World-1) / float64(c.World),
		})
	}
	return nil
}

func connect(ctx context.Context, c AllReduceConfig) (groups []allreduce.Group, closeAll func(), err error) {
	plan, err := allreduce.NewPlan(c.World, c.World)
	if err != nil {
		return nil, nil, err
	}
	var ends []*allreduce.Endpoint
	closeAll = func() {
		for _, g := range groups {
			if g != nil {
				_ = g.Close() // measured already
			}
		}
		for _, e := range ends {
			_ = e.Close()
		}
	}
	var peers []string
	for range c.World {
		e, err := allreduce.Listen(allreduce.EndpointConfig{RunID: "bench"})
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		ends, peers = append(ends, e), append(peers, e.Addr())
	}
	groups = make([]allreduce.Group, c.World)
	err = together(c.World, func(rank int) (err error) {
		groups[rank], err = ends[rank].Connect(ctx, allreduce.GroupConfig{
			Generation: 1, Rank: rank, Peers: peers, Plan: plan, Order: c.Order, OpTimeout: time.Minute,
		})
		return err
	})
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	return groups, closeAll, nil
}

func sweep(ctx context.Context, groups []allreduce.Group, n, iterations int, bucket *uint32) ([]float64, error) {
	in, out := make([][]float32, len(groups)), make([][]float32, len(groups))
	for i := range groups {
		in[i], out[i] = make([]float32, n), make([]float32, n)
		for j := range in[i] {
			in[i][j] = float32(i + 1)
		}
	}
	want := float32(len(groups) * (len(groups) + 1) / 2)
	var times []float64
	for i := range iterations + 1 {
		start := time.Now()
		err := together(len(groups), func(rank int) error {
			return groups[rank].AllReduce(ctx, *bucket, [][]float32{in[rank]}, out[rank])
		})
		if err != nil {
			return nil, err
		}
		if i > 0 {
			times = append(times, millis(time.Since(start)))
		}
		*bucket++
	}
	for rank, o := range out {
		if o[0] != want || o[n-1] != want {
			return nil, fmt.Errorf("bench: rank %d has %g and %g, expected the sum %g", rank, o[0], o[n-1], want)
		}
	}
	return times, nil
}

// together runs f for every rank at once.
func together(n int, f func(rank int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for rank := range n {
		wg.Go(func() { errs[rank] = f(rank) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
