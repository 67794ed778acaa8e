package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	"github.com/agrdist/agrdist/allreduce/mesh"
)

// orders are what a process gets to know on its standard input: which rank it
// is, and, when it has printed its own address, the addresses of all.
type orders struct {
	Rank   int
	Config AllReduceConfig
}

// child is a rank in a process of its own.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// amongProcesses runs rank 0 here and every other rank in a process of its own.
func amongProcesses(ctx context.Context, c AllReduceConfig, each func(AllReduceResult)) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e, err := mesh.Listen(c.endpoint())
	if err != nil {
		return err
	}
	defer func() { _ = e.Close() }() // measured already
	peers := []string{e.Addr()}
	var children []*child
	defer func() {
		if err != nil {
			cancel() // kills what still runs
		}
		for i, k := range children {
			_ = k.in.Close()
			if end := k.cmd.Wait(); end != nil && err == nil {
				err = fmt.Errorf("bench: process of rank %d: %w", i+1, end)
			}
		}
	}()
	for rank := 1; rank < c.World; rank++ {
		k, addr, err := start(ctx, c, rank)
		if k != nil {
			children = append(children, k)
		}
		if err != nil {
			return fmt.Errorf("bench: process of rank %d: %w", rank, err)
		}
		peers = append(peers, addr)
	}
	for _, k := range children {
		if _, err := fmt.Fprintln(k.in, strings.Join(peers, " ")); err != nil {
			return fmt.Errorf("bench: tell the ranks their peers: %w", err)
		}
	}
	return c.run(ctx, e, 0, peers, each)
}

// start starts a rank's process and returns its address.
func start(ctx context.Context, c AllReduceConfig, rank int) (*child, string, error) {
	cmd := exec.CommandContext(ctx, c.Command[0], c.Command[1:]...) //nolint:gosec // the caller's own program
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	k := &child{cmd: cmd, in: in, out: bufio.NewReader(out)}
	if err := json.NewEncoder(in).Encode(orders{Rank: rank, Config: c}); err != nil {
		return k, "", err
	}
	addr, err := k.out.ReadString('\n')
	if err != nil {
		return k, "", fmt.Errorf("it has ended without an address: %w", err)
	}
	addr = strings.TrimSpace(addr)
	_, err = netip.ParseAddrPort(addr)
	return k, addr, err
}

// AllReduceRank is what AllReduceConfig.Command runs: it takes its orders from
// in, writes its address to out, reads all ranks' addresses from in, and plays
// its part.
func AllReduceRank(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	text, err := lines.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("bench: orders: %w", err)
	}
	var o orders
	if err := json.Unmarshal(text, &o); err != nil {
		return fmt.Errorf("bench: orders: %w", err)
	}
	c := &o.Config
	if err := c.validate(); err != nil {
		return fmt.Errorf("bench: orders: %w", err)
	}
	e, err := mesh.Listen(c.endpoint())
	if err != nil {
		return err
	}
	defer func() { _ = e.Close() }()
	if _, err := fmt.Fprintln(out, e.Addr()); err != nil {
		return fmt.Errorf("bench: tell the own address: %w", err)
	}
	peers, err := lines.ReadString('\n')
	if err != nil {
		return fmt.Errorf("bench: addresses of the ranks: %w", err)
	}
	addrs := strings.Fields(peers)
	if len(addrs) != c.World || o.Rank < 1 || o.Rank >= c.World {
		return errors.New("bench: orders and addresses do not fit")
	}
	return c.run(ctx, e, o.Rank, addrs, nil)
}
