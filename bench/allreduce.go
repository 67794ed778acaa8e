package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/allreduce/mesh"
	"github.com/agrdist/agrdist/internal/sharedmem"
)

// AllReduceConfig is one sweep of the collective over sizes.
type AllReduceConfig struct {
	World      int
	From, To   int64 // bytes of a vector
	Factor     int64 // from one size to the next
	Iterations int   // measured calls a size, after some to warm up
	Order      allreduce.Order
	// Private keeps the vectors in memory of each rank alone, so that all of
	// them are copied through the transport. Otherwise they lie as a trainer's
	// gradients do, where the other ranks of the host can read them.
	Private bool
	// TCP has the ranks talk as they would over a network; otherwise ranks of one
	// host, which these are, share memory.
	TCP bool
	// Security is what protects the frames of TCP connections.
	Security mesh.Security
	// Secret is what the ranks share, 16 bytes or more. AllReduce makes one.
	Secret []byte
	// Command starts this program as another rank: a process that calls
	// AllReduceRank with its standard input and output. Without one, all ranks
	// are goroutines of this process.
	Command []string `json:"-"`
}

func (c *AllReduceConfig) validate() error {
	if c.World < 1 || c.From < 4 || c.To < c.From || c.Factor < 2 || c.Iterations < 1 {
		return fmt.Errorf("world %d, sizes %d to %d by %d, %d iterations: sizes are 4 bytes or more and grow, the rest is positive", c.World, c.From, c.To, c.Factor, c.Iterations)
	}
	return nil
}

// transport says how the ranks talk.
func (c *AllReduceConfig) transport() string {
	if !c.TCP {
		return "memory"
	}
	if c.Security == mesh.SecurityAuto {
		return "tcp, " + mesh.SecurityMAC.String()
	}
	return "tcp, " + c.Security.String()
}

// AllReduceResult is one size. The columns are those of nccl-tests: algbw is
// bytes / time, busbw is algbw x 2(n-1)/n, which a perfect network would reach
// whatever n is.
type AllReduceResult struct {
	Bytes  int64   `json:"bytes"`
	World  int     `json:"world"`
	Order  string  `json:"order"`
	Ranks  string  `json:"ranks"`      // "processes" or "goroutines"
	Memory string  `json:"memory"`     // of the vectors: "shared" or "private"
	Via    string  `json:"via"`        // "memory", or "tcp, mac"
	Millis float64 `json:"time_ms"`    // median, of rank 0, from a barrier on
	AlgBW  float64 `json:"algbw_gb_s"` // 10^9 bytes/s
	BusBW  float64 `json:"busbw_gb_s"` // 10^9 bytes/s
}

// AllReduce measures the collective among ranks of this host, each with
// endpoint, connections and goroutines of its own.
func AllReduce(ctx context.Context, c AllReduceConfig, each func(AllReduceResult)) error {
	if err := c.validate(); err != nil {
		return err
	}
	c.Secret = make([]byte, 32)
	_, _ = rand.Read(c.Secret) // never fails
	if len(c.Command) > 0 {
		return amongProcesses(ctx, c, each)
	}
	return amongGoroutines(ctx, c, each)
}

// amongGoroutines runs all ranks in this process.
func amongGoroutines(ctx context.Context, c AllReduceConfig, each func(AllReduceResult)) error {
	ends, peers := make([]*mesh.Endpoint, c.World), make([]string, c.World)
	for rank := range ends {
		e, err := mesh.Listen(c.endpoint())
		if err != nil {
			return err
		}
		defer func() { _ = e.Close() }() // measured already
		ends[rank], peers[rank] = e, e.Addr()
	}
	errs := make([]error, c.World)
	var wg sync.WaitGroup
	for rank, e := range ends {
		wg.Go(func() { errs[rank] = c.run(ctx, e, rank, peers, each) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

const (
	benchRun = "bench"
	// warmUps lets buffers grow and the ranks map each other's memory.
	warmUps = 3
)

// run is a rank's part. Rank 0 reports.
func (c *AllReduceConfig) run(ctx context.Context, e *mesh.Endpoint, rank int, peers []string, each func(AllReduceResult)) error {
	plan, err := allreduce.NewPlan(c.World, c.World)
	if err != nil {
		return err
	}
	g, err := e.Connect(ctx, allreduce.GroupConfig{
		Generation: 1, Rank: rank, Peers: peers, Plan: plan, Order: c.Order, OpTimeout: time.Minute,
	})
	if err != nil {
		return err
	}
	defer func() { _ = g.Close() }()
	bucket := uint32(0)
	for bytes := c.From; bytes <= c.To; bytes *= c.Factor {
		times, memory, err := c.measure(ctx, g, int(bytes/4), &bucket)
		if err != nil {
			return err
		}
		if rank == 0 {
			ms := median(times)
			alg := float64(bytes) / ms / 1e6
			each(AllReduceResult{
				Bytes: bytes, World: c.World, Order: c.Order.String(), Ranks: c.ranks(), Memory: memory, Via: c.transport(), Millis: ms,
				AlgBW: alg, BusBW: alg * 2 * float64(c.World-1) / float64(c.World),
			})
		}
	}
	return g.Barrier(ctx)
}

func (c *AllReduceConfig) endpoint() mesh.EndpointConfig {
	e := mesh.EndpointConfig{RunID: benchRun, Secret: c.Secret, Security: c.Security}
	if c.TCP {
		e.Transport = mesh.TransportTCP
	}
	return e
}

func (c *AllReduceConfig) ranks() string {
	if len(c.Command) > 0 {
		return "processes"
	}
	return "goroutines"
}

// measure times the collective on vectors of n elements, from a barrier to its
// return on this rank.
func (c *AllReduceConfig) measure(ctx context.Context, g allreduce.Group, n int, bucket *uint32) (times []float64, memory string, err error) {
	in, out, memory, free := c.vectors(n)
	defer free()
	for i := range in {
		in[i] = float32(g.Rank() + 1)
	}
	parts := [][]float32{in}
	for i := range c.Iterations + warmUps {
		if err := g.Barrier(ctx); err != nil {
			return nil, memory, err
		}
		start := time.Now()
		if err := g.AllReduce(ctx, *bucket, parts, out); err != nil {
			return nil, memory, err
		}
		if i >= warmUps {
			times = append(times, millis(time.Since(start)))
		}
		*bucket++
	}
	if want := float32(c.World * (c.World + 1) / 2); out[0] != want || out[n/2] != want || out[n-1] != want {
		return nil, memory, fmt.Errorf("bench: rank %d has %g and %g, expected the sum %g", g.Rank(), out[0], out[n-1], want)
	}
	return times, memory, nil
}

// vectors returns two vectors of n elements, and what they lie in.
func (c *AllReduceConfig) vectors(n int) (in, out []float32, memory string, free func()) {
	if !c.Private {
		a, err := sharedmem.Alloc(4 * n)
		if err == nil {
			b, err := sharedmem.Alloc(4 * n)
			if err == nil {
				return a.Float32s(), b.Float32s(), "shared", func() { a.Free(); b.Free() }
			}
			a.Free()
		}
	}
	return make([]float32, n), make([]float32, n), "private", func() {}
}
