//go:build cuda

package nccl

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/allreduce/mesh"
	"github.com/agrdist/agrdist/internal/cuda/cudatest"
)

// childEnv holds a child's orders: the test binary runs itself as a rank of its own
// process, to be killed for real.
const childEnv = "AGRDIST_NCCL_TEST_CHILD"

type childOrders struct {
	Rank, World int
	Order       allreduce.Order
	Ops         int
}

// runChild is a rank: it prints its address, reads all of them, reduces, and prints
// how it ended: "done", or the rank at fault and the error.
func runChild(text string) error {
	var o childOrders
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	e, err := mesh.Listen(mesh.EndpointConfig{RunID: "test"})
	if err != nil {
		return err
	}
	fmt.Println(e.Addr())
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return err
	}
	lib, err := Open()
	if err != nil {
		return err
	}
	be, err := newRig(o.Rank)
	if err != nil {
		return err
	}
	plan, err := allreduce.NewPlan(o.World, o.World)
	if err != nil {
		return err
	}
	ctx := context.Background()
	g, err := (&Connector{Endpoint: e, Library: lib, Lane: be.lane}).Connect(ctx, allreduce.GroupConfig{
		Generation: 1, Rank: o.Rank, Peers: strings.Fields(line), Plan: plan, Order: o.Order,
	})
	if err != nil {
		return err
	}
	fmt.Println("connected")
	err = reduce(ctx, g, be, o.Ops)
	var of *allreduce.Error
	switch {
	case err == nil:
		fmt.Println("done")
	case errors.As(err, &of):
		fmt.Println(of.Peer, err)
	default:
		return err
	}
	return errors.Join(g.Close(), e.Close())
}

// child is a rank in a process of its own.
type child struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	addr string
}

func (c *child) line(t *testing.T) string {
	t.Helper()
	s, err := c.out.ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(s)
}

func startChildren(t *testing.T, o childOrders, env ...string) []*child {
	t.Helper()
	var all []*child
	var addrs []string
	for o.Rank = range o.World {
		orders, err := json.Marshal(o)
		require.NoError(t, err)
		c := &child{cmd: cudatest.Command(context.Background(), os.Args[0])}
		c.cmd.Env = append(append(os.Environ(), childEnv+"="+string(orders)), env...)
		c.cmd.Stderr = os.Stderr
		c.in, err = c.cmd.StdinPipe()
		require.NoError(t, err)
		out, err := c.cmd.StdoutPipe()
		require.NoError(t, err)
		c.out = bufio.NewReader(out)
		require.NoError(t, c.cmd.Start())
		t.Cleanup(func() {
			_ = c.cmd.Process.Kill() // it has ended, as a rule
			_ = c.cmd.Wait()
		})
		c.addr = c.line(t)
		addrs = append(addrs, c.addr)
		all = append(all, c)
	}
	for _, c := range all {
		_, err := io.WriteString(c.in, strings.Join(addrs, " ")+"\n")
		require.NoError(t, err)
	}
	for _, c := range all {
		require.Equal(t, "connected", c.line(t))
	}
	return all
}

func TestProcesses(t *testing.T) {
	cudatest.Devices(t, 3)
	for _, order := range []allreduce.Order{allreduce.OrderTree, allreduce.OrderRing} {
		for rank, c := range startChildren(t, childOrders{World: 3, Order: order, Ops: 5}) {
			require.Equal(t, "done", c.line(t), "rank %d", rank)
			require.NoError(t, c.cmd.Wait())
		}
	}
}

// A process that is killed in the middle of a collective, and would be waited for
// forever, frees the others as soon as its connections fall.
func TestKilledProcess(t *testing.T) {
	cudatest.Doubles(t, "it makes a kernel hang")
	cudatest.Devices(t, 3)
	for _, order := range []allreduce.Order{allreduce.OrderTree, allreduce.OrderRing} {
		all := startChildren(t, childOrders{World: 3, Order: order, Ops: 1 << 30}, "AGRDIST_FAKE_NCCL_HANG=2:7")
		tick := time.NewTicker(100 * time.Millisecond) // so that the others wait on the device
		<-tick.C
		tick.Stop()
		require.NoError(t, all[2].cmd.Process.Kill())
		killed := time.Now()
		for rank, c := range all[:2] {
			require.True(t, strings.HasPrefix(c.line(t), "2 "), "rank %d names the rank at fault", rank)
			require.NoError(t, c.cmd.Wait(), "rank %d ends in peace", rank)
		}
		require.Less(t, time.Since(killed), 20*time.Second, "far below the operation's deadline of %v", allreduce.DefaultOpTimeout)
		t.Logf("the others were gone %v after the death", time.Since(killed).Round(time.Millisecond))
	}
}
