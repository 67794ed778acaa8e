package mesh_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/allreduce/allreducetest"
	"github.com/agrdist/agrdist/allreduce/mesh"
)

// faulty makes groups in which every connection passes through a proxy:
// proxy[a][b], a < b, stands between ranks a and b, and b dials.
func faulty(t *testing.T, world int, order allreduce.Order, timeout time.Duration) ([]allreduce.Group, [][]*allreducetest.Proxy) {
	t.Helper()
	return faultyOf(t, world, order, timeout, mesh.SecurityMAC)
}

func faultyOf(t *testing.T, world int, order allreduce.Order, timeout time.Duration, security mesh.Security) ([]allreduce.Group, [][]*allreducetest.Proxy) {
	t.Helper()
	c := newClusterOf(t, world, mesh.EndpointConfig{Transport: mesh.TransportTCP, Security: security})
	proxies := make([][]*allreducetest.Proxy, world)
	for a := range proxies {
		proxies[a] = make([]*allreducetest.Proxy, world)
		for b := a + 1; b < world; b++ {
			proxies[a][b] = allreducetest.NewProxy(t, c.addrs[a])
		}
	}
	cfg := allreduce.GroupConfig{
		Generation: 3, Plan: allreducetest.Plan(t, 8, world), Order: order, OpTimeout: timeout, SegmentElems: 1024,
	}
	groups := c.connect(t, cfg, func(cfg *allreduce.GroupConfig) {
		cfg.Peers = append([]string(nil), cfg.Peers...)
		for a := range cfg.Rank {
			cfg.Peers[a] = proxies[a][cfg.Rank].Addr()
		}
	})
	t.Cleanup(func() { allreducetest.AllOK(t, groups, func(g allreduce.Group) error { return g.Close() }) })
	return groups, proxies
}

// reduceUntilError runs AllReduce again and again.
func reduceUntilError(plan *allreduce.Plan, n int) func(allreduce.Group) error {
	return func(g allreduce.Group) error {
		parts := make([][]float32, len(plan.Nodes(g.Rank())))
		for i := range parts {
			parts[i] = make([]float32, n)
		}
		dst := make([]float32, n)
		for bucket := uint32(0); ; bucket++ {
			if err := g.AllReduce(context.Background(), bucket, parts, dst); err != nil {
				return err
			}
		}
	}
}

var orders = []allreduce.Order{allreduce.OrderTree, allreduce.OrderRing}

// A connection breaks in the middle: its two ends accuse each other, and no
// rank continues or hangs.
func TestCutConnectionEndsTheGroup(t *testing.T) {
	for _, order := range orders {
		for _, world := range []int{2, 3, 5} {
			t.Run(fmt.Sprintf("%v/%d", order, world), func(t *testing.T) {
				groups, proxies := faulty(t, world, order, 20*time.Second)
				proxies[0][1].Arm(allreducetest.ToDialer, allreducetest.Cut, 100_000)
				errs := allreducetest.Each(t, groups, reduceUntilError(allreducetest.Plan(t, 8, world), 20_000))
				for rank, err := range errs {
					e := allreducetest.Failed(t, err, rank)
					require.Equal(t, allreduce.OpAllReduce, e.Op)
					require.EqualValues(t, 3, e.Generation)
					require.Contains(t, []int{0, 1}, e.Peer)
					if rank < 2 {
						require.True(t, errors.Is(err, allreduce.ErrPeerLost) || errors.Is(err, allreduce.ErrAborted), "%v", err)
					}
				}
			})
		}
	}
}

// A flipped bit or a lost byte anywhere in the stream is found, wherever it
// happens, and the receiver names the sender.
func TestCorruptionIsFoundAndNamed(t *testing.T) {
	for i, order := range orders {
		security := []mesh.Security{mesh.SecurityMAC, mesh.SecurityNone}[i%2]
		for _, fault := range []allreducetest.Fault{allreducetest.Corrupt, allreducetest.Drop} {
			for _, after := range []int{0, 3, 30, 63, 64, 1000, 50_001} {
				t.Run(fmt.Sprintf("%v/%v/%v/%d", order, security, fault, after), func(t *testing.T) {
					groups, proxies := faultyOf(t, 3, order, 20*time.Second, security)
					// Rank 2 dialled rank 1, and sends to it in either order...
					from, to, d := 1, 2, allreducetest.ToDialer // ... as rank 1 does to 2
					proxies[to-1][to].Arm(d, fault, after)
					errs := allreducetest.Each(t, groups, reduceUntilError(allreducetest.Plan(t, 8, 3), 20_000))
					for rank, err := range errs {
						e := allreducetest.Failed(t, err, rank)
						require.Equal(t, from, e.Peer, "%v", err)
						if rank == to {
							require.ErrorIs(t, err, allreduce.ErrFrame)
						} else {
							require.ErrorIs(t, err, allreduce.ErrAborted)
							require.ErrorContains(t, err, "bad frame")
						}
					}
				})
			}
		}
	}
}

// Bytes stop flowing and nothing closes: the deadline passes and names one of
// the connection's ends.
func TestStallHitsTheDeadline(t *testing.T) {
	for _, order := range orders {
		for _, world := range []int{2, 4} {
			t.Run(fmt.Sprintf("%v/%d", order, world), func(t *testing.T) {
				t.Parallel()
				groups, proxies := faulty(t, world, order, time.Second)
				proxies[0][1].Arm(allreducetest.ToListener, allreducetest.Stall, 30_000)
				proxies[0][1].Arm(allreducetest.ToDialer, allreducetest.Stall, 30_000)
				errs := allreducetest.Each(t, groups, reduceUntilError(allreducetest.Plan(t, 8, world), 20_000))
				timeouts := 0
				for rank, err := range errs {
					e := allreducetest.Failed(t, err, rank)
					require.Contains(t, []int{0, 1}, e.Peer, "%v", err)
					if errors.Is(err, allreduce.ErrTimeout) {
						timeouts++
					}
				}
				require.Positive(t, timeouts)
			})
		}
	}
}

// A slow connection is no fault.
func TestSlowConnectionIsNoFailure(t *testing.T) {
	groups, proxies := faulty(t, 3, allreduce.OrderTree, 20*time.Second)
	proxies[0][2].Arm(allreducetest.ToListener, allreducetest.Slow, 0)
	plan := allreducetest.Plan(t, 8, 3)
	grads := allreducetest.Gradients(5, 8, 30_000)
	want := allreducetest.Sum(t, grads)
	allreducetest.AllOK(t, groups, func(g allreduce.Group) error {
		acc := allreduce.NewAccumulator(plan, g.Rank(), 30_000)
		lo, hi := plan.Block(g.Rank())
		for c := lo; c < hi; c++ {
			acc.Add(c, 0, 30_000, grads[c])
		}
		dst := make([]float32, 30_000)
		if err := g.AllReduce(context.Background(), 1, acc.Parts(nil, 0, 30_000), dst); err != nil {
			return err
		}
		require.Equal(t, want, dst)
		return nil
	})
}

// A rank that comes late to an operation is named by all others, in every
// operation, even by those that wait for it only through a third.
func TestLateRankIsNamed(t *testing.T) {
	const world, late = 5, 3
	plan := allreducetest.Plan(t, 8, world)
	for name, op := range map[string]func(context.Context, allreduce.Group) error{
		"all_reduce": func(ctx context.Context, g allreduce.Group) error {
			parts := make([][]float32, len(plan.Nodes(g.Rank())))
			for i := range parts {
				parts[i] = make([]float32, 60_000)
			}
			return g.AllReduce(ctx, 1, parts, make([]float32, 60_000))
		},
		"broadcast": func(ctx context.Context, g allreduce.Group) error {
			// To the ranks before the late one the broadcast is complete.
			return errors.Join(g.Broadcast(ctx, 0, make([]float32, 60_000)), g.Barrier(ctx))
		},
		"barrier": func(ctx context.Context, g allreduce.Group) error { return g.Barrier(ctx) },
	} {
		for _, order := range orders {
			t.Run(fmt.Sprintf("%s/%v", name, order), func(t *testing.T) {
				t.Parallel()
				groups := newCluster(t, world, mesh.TransportTCP).connect(t, allreduce.GroupConfig{
					Generation: 3, Plan: plan, Order: order, OpTimeout: time.Second, SegmentElems: 1024,
				}, nil)
				var others sync.WaitGroup
				others.Add(world - 1)
				errs := allreducetest.Each(t, groups, func(g allreduce.Group) error {
					if g.Rank() == late {
						others.Wait() // until they have all given up
						return op(context.Background(), g)
					}
					defer others.Done()
					return op(context.Background(), g)
				})
				for rank, err := range errs {
					e := allreducetest.Failed(t, err, rank)
					require.Equal(t, late, e.Peer, "rank %d: %v", rank, err)
				}
				allreducetest.AllOK(t, groups, func(g allreduce.Group) error { return g.Close() })
			})
		}
	}
}
