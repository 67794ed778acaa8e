package mesh_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/allreduce/allreducetest"
	"github.com/agrdist/agrdist/allreduce/mesh"
)

var secret = []byte("sixteen bytes or more")

// cluster is the endpoints of a run's ranks.
type cluster struct {
	endpoints []*mesh.Endpoint
	addrs     []string
}

func newCluster(tb testing.TB, world int, transport mesh.Transport) *cluster {
	tb.Helper()
	return newClusterOf(tb, world, mesh.EndpointConfig{Transport: transport})
}

func newClusterOf(tb testing.TB, world int, cfg mesh.EndpointConfig) *cluster {
	tb.Helper()
	c := &cluster{}
	cfg.RunID, cfg.Secret = "test", secret
	for range world {
		e, err := mesh.Listen(cfg)
		require.NoError(tb, err)
		tb.Cleanup(func() { require.NoError(tb, e.Close()) })
		c.endpoints = append(c.endpoints, e)
		c.addrs = append(c.addrs, e.Addr())
	}
	return c
}

// connect makes the groups of a generation. A change of a rank's configuration
// is optional.
func (c *cluster) connect(tb testing.TB, cfg allreduce.GroupConfig, change func(*allreduce.GroupConfig)) []allreduce.Group {
	tb.Helper()
	groups := make([]allreduce.Group, len(c.endpoints))
	errs := make([]error, len(c.endpoints))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for rank, e := range c.endpoints {
		cfg := cfg
		cfg.Rank, cfg.Peers = rank, c.addrs
		if change != nil {
			change(&cfg)
		}
		wg.Go(func() { groups[rank], errs[rank] = e.Connect(ctx, cfg) })
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(tb, err)
	}
	return groups
}

// tcp returns a factory of groups over TCP.
func tcp(order allreduce.Order, transport mesh.Transport) allreducetest.Factory {
	return func(tb testing.TB, plan *allreduce.Plan) []allreduce.Group {
		tb.Helper()
		return newCluster(tb, plan.World(), transport).connect(tb, allreduce.GroupConfig{
			Generation: 7, Plan: plan, Order: order, SegmentElems: 512,
		}, nil)
	}
}

func TestTCPConformance(t *testing.T) {
	for _, order := range []allreduce.Order{allreduce.OrderTree, allreduce.OrderRing} {
		t.Run(order.String(), func(t *testing.T) {
			o := allreducetest.Options{AnyWorld: order == allreduce.OrderTree}
			allreducetest.Run(t, o, tcp(order, mesh.TransportTCP))
		})
	}
}

// The bits do not depend on how the frames are protected.
func TestSecurityConformance(t *testing.T) {
	for _, security := range []mesh.Security{mesh.SecurityNone, mesh.SecurityAEAD} { // MAC is what TestTCPConformance has
		t.Run(security.String(), func(t *testing.T) {
			o := allreducetest.Options{AnyWorld: true, Sizes: []int{0, 1, 17, 15_000}}
			allreducetest.Run(t, o, func(tb testing.TB, plan *allreduce.Plan) []allreduce.Group {
				tb.Helper()
				c := newClusterOf(tb, plan.World(), mesh.EndpointConfig{Transport: mesh.TransportTCP, Security: security})
				return c.connect(tb, allreduce.GroupConfig{Generation: 7, Plan: plan, SegmentElems: 512}, nil)
			})
		})
	}
}

func TestSharedMemoryConformance(t *testing.T) {
	for _, order := range []allreduce.Order{allreduce.OrderTree, allreduce.OrderRing} {
		t.Run(order.String(), func(t *testing.T) {
			o := allreducetest.Options{AnyWorld: order == allreduce.OrderTree}
			allreducetest.Run(t, o, tcp(order, mesh.TransportAuto))
		})
	}
}

var benchSizes = []struct {
	name  string
	elems int
}{{"4.4MB", 1_110_000}, {"143MB", 35_746_307}}

// BenchmarkAllReduce reports algbw = bytes / time and busbw = algbw * 2(w-1)/w,
// as nccl-tests do.
func BenchmarkAllReduce(b *testing.B) {
	for _, order := range []allreduce.Order{allreduce.OrderTree, allreduce.OrderRing} {
		for _, size := range benchSizes {
			for _, transport := range []mesh.Transport{mesh.TransportTCP, mesh.TransportAuto} {
				b.Run(fmt.Sprintf("%v/%v/%s", transport, order, size.name), func(b *testing.B) {
					benchAllReduce(b, order, transport, 2, size.elems)
				})
			}
		}
	}
}

func benchAllReduce(b *testing.B, order allreduce.Order, transport mesh.Transport, world, elems int) {
	b.Helper()
	plan, err := allreduce.NewPlan(world, world)
	require.NoError(b, err)
	c := newCluster(b, world, transport)
	groups := c.connect(b, allreduce.GroupConfig{Generation: 1, Plan: plan, Order: order}, nil)
	grads := make([][]float32, world)
	for i := range grads {
		grads[i] = make([]float32, elems)
		for j := range grads[i] {
			grads[i][j] = float32(j % 1000)
		}
	}
	step := func() {
		allreducetest.AllOK(b, groups, func(g allreduce.Group) error {
			v := grads[g.Rank()]
			return g.AllReduce(context.Background(), 0, [][]float32{v}, v)
		})
	}
	step() // buffers grow once
	b.ReportAllocs()
	for b.Loop() {
		step()
	}
	algbw := float64(elems) * 4 * float64(b.N) / b.Elapsed().Seconds() / 1e9
	b.ReportMetric(algbw, "algbw-GB/s")
	b.ReportMetric(algbw*2*float64(world-1)/float64(world), "busbw-GB/s")
	allreducetest.AllOK(b, groups, func(g allreduce.Group) error { return g.Close() })
}
