package mesh_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/allreduce/allreducetest"
	"github.com/agrdist/agrdist/allreduce/mesh"
	"github.com/agrdist/agrdist/internal/leaktest"
	"github.com/agrdist/agrdist/internal/sharedmem"
)

// childEnv holds a child's orders: the test binary runs itself as a rank of its
// own process, to be killed and stopped for real.
const childEnv = "AGRDIST_ALLREDUCE_TEST_CHILD"

type childOrders struct {
	World     int
	Order     allreduce.Order
	Transport mesh.Transport
	Timeout   time.Duration
	Elems     int
	Lend      bool // the vectors lie where the peers can read them
}

// vectors are what an operation reads and writes, until free.
func (o *childOrders) vectors() (part, dst []float32, free func(), err error) {
	if !o.Lend {
		return make([]float32, o.Elems), make([]float32, o.Elems), func() {}, nil
	}
	a, err := sharedmem.Alloc(4 * o.Elems)
	if err != nil {
		return nil, nil, nil, err
	}
	b, err := sharedmem.Alloc(4 * o.Elems)
	if err != nil {
		a.Free()
		return nil, nil, nil, err
	}
	return a.Float32s(), b.Float32s(), func() { a.Free(); b.Free() }, nil
}

func TestMain(m *testing.M) {
	if orders := os.Getenv(childEnv); orders != "" {
		if err := runChild(orders); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	leaktest.Main(m)
}

// runChild is the highest rank: it prints its address, reads the peers', and
// reduces until something ends it.
func runChild(text string) error {
	var o childOrders
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	e, err := mesh.Listen(mesh.EndpointConfig{RunID: "test", Secret: secret, Transport: o.Transport})
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, e.Addr())
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return err
	}
	plan, err := allreduce.NewPlan(o.World, o.World)
	if err != nil {
		return err
	}
	g, err := e.Connect(context.Background(), allreduce.GroupConfig{
		Generation: 1, Rank: o.World - 1, Peers: strings.Fields(line), Plan: plan,
		Order: o.Order, OpTimeout: o.Timeout, SegmentElems: 4096,
	})
	if err != nil {
		return err
	}
	part, dst, _, err := o.vectors() // until the process ends
	if err != nil {
		return err
	}
	for bucket := uint32(0); ; bucket++ {
		if err := g.AllReduce(context.Background(), bucket, [][]float32{part}, dst); err != nil {
			return err
		}
	}
}

// withChild connects a group whose last rank is a child process.
func withChild(t *testing.T, o childOrders) ([]allreduce.Group, *exec.Cmd) {
	t.Helper()
	text, err := json.Marshal(o)
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	addr, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)

	c := newCluster(t, o.World-1, o.Transport)
	c.addrs = append(c.addrs, strings.TrimSpace(addr))
	fmt.Fprintln(stdin, strings.Join(c.addrs, " "))
	groups := c.connect(t, allreduce.GroupConfig{
		Generation: 1, Plan: allreducetest.Plan(t, o.World, o.World), Order: o.Order, OpTimeout: o.Timeout, SegmentElems: 4096,
	}, nil)
	t.Cleanup(func() { allreducetest.AllOK(t, groups, func(g allreduce.Group) error { return g.Close() }) })
	return groups, cmd
}

// strike runs AllReduce on the parent's ranks and does something to the child
// after a while; it returns the ranks' errors.
func strike(t *testing.T, groups []allreduce.Group, o childOrders, blow func()) []error {
	t.Helper()
	return allreducetest.Each(t, groups, func(g allreduce.Group) error {
		part, dst, free, err := o.vectors()
		if err != nil {
			return err
		}
		t.Cleanup(free) // when all ranks are done: they read it
		for bucket := range uint32(3) {
			if err := g.AllReduce(context.Background(), bucket, [][]float32{part}, dst); err != nil {
				return err
			}
		}
		if g.Rank() == 0 {
			blow() // the other ranks are in the next operation, or enter it
		}
		for bucket := uint32(3); ; bucket++ {
			if err := g.AllReduce(context.Background(), bucket, [][]float32{part}, dst); err != nil {
				return err
			}
		}
	})
}

// A killed process is named by every other rank, long before the deadline.
func TestKilledProcessIsNamed(t *testing.T) {
	for _, o := range childCases(time.Minute) {
		t.Run(o.name(), func(t *testing.T) {
			groups, cmd := withChild(t, o)
			errs := strike(t, groups, o, func() { _ = cmd.Process.Kill() })
			for rank, err := range errs {
				require.Equal(t, o.World-1, allreducetest.Failed(t, err, rank).Peer, "%v", err)
			}
		})
	}
}

// A stopped process holds its connections open: the deadline finds it.
func TestHungProcessIsNamed(t *testing.T) {
	for _, o := range childCases(time.Second) {
		t.Run(o.name(), func(t *testing.T) {
			t.Parallel()
			groups, cmd := withChild(t, o)
			errs := strike(t, groups, o, func() { _ = cmd.Process.Signal(syscall.SIGSTOP) })
			for rank, err := range errs {
				require.Equal(t, o.World-1, allreducetest.Failed(t, err, rank).Peer, "%v", err)
			}
		})
	}
}

func childCases(timeout time.Duration) []childOrders {
	var cases []childOrders
	for _, transport := range []mesh.Transport{mesh.TransportTCP, mesh.TransportAuto} {
		for _, order := range orders {
			for _, world := range []int{2, 4} {
				cases = append(cases, childOrders{
					World: world, Order: order, Transport: transport, Timeout: timeout, Elems: 200_000,
				})
			}
		}
	}
	if runtime.GOOS == "linux" {
		for _, world := range []int{2, 4} {
			cases = append(cases, childOrders{World: world, Timeout: timeout, Elems: 200_000, Lend: true})
		}
	}
	return cases
}

func (o childOrders) name() string {
	name := fmt.Sprintf("%v/%v/%d", o.Transport, o.Order, o.World)
	if o.Lend {
		name += "/lent"
	}
	return name
}
