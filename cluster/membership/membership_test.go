package membership

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestJoinAndMeta(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sim simNet
		ms := group(t, &sim, 4)
		for i, m := range ms {
			for j, n := range m.Members() {
				require.Equal(t, fmt.Sprintf("node%d", j), n.Meta.Node)
				require.Equal(t, fmt.Sprintf("host%d", j), n.Meta.Host)
				require.Equal(t, j+1, n.Meta.Devices)
				require.Equal(t, simAddr(j), n.Addr)
				require.Equal(t, i == j, n.Self)
				require.Regexp(t, fmt.Sprintf(`^node%d-[0-9a-f]{8}$`, j), n.Name)
			}
		}
		e := await(t, ms[0], Joined, "node3")
		require.Equal(t, ms[3].Name(), e.Node.Name)

		require.NoError(t, ms[3].UpdateMeta(Meta{Phase: "train", Devices: 7}))
		e = await(t, ms[0], Updated, "node3")
		require.Equal(t, Meta{Node: "node3", Phase: "train", Devices: 7}, e.Node.Meta)
		require.Equal(t, "train", ms[3].Members()[3].Meta.Phase, "own view")
	})
}

func TestCrashIsDetected(t *testing.T) {
	for _, nodes := range []int{2, 3, 8} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var sim simNet
				ms := group(t, &sim, nodes)
				victim := ms[nodes-1]
				sim.partition(func(from, to string) bool { return from == victim.Addr() || to == victim.Addr() })
				victim.Stop()
				begin := time.Now()
				e := await(t, ms[0], Failed, fmt.Sprintf("node%d", nodes-1))
				require.Equal(t, victim.Name(), e.Node.Name)
				t.Log("detected after virtual", time.Since(begin))
				// (1..2) probe intervals, the suspicion, and its spread; 8 nodes
				// may be probed last of a round.
				require.Less(t, time.Since(begin), time.Duration(nodes+8)*500*time.Millisecond)
				awaitMembers(t, ms[:nodes-1], nodes-1)
			})
		})
	}
}

func TestLeaveIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sim simNet
		ms := group(t, &sim, 3)
		require.NoError(t, ms[2].Leave(5*time.Second))
		require.NoError(t, ms[2].Leave(5*time.Second), "a second time")
		require.ErrorIs(t, ms[2].UpdateMeta(Meta{}), ErrStopped)
		ms[2].Stop()
		for _, m := range ms[:2] {
			for {
				e := <-m.Events()
				require.NotEqual(t, Failed, e.Kind)
				if e.Kind == Left {
					require.Equal(t, ms[2].Name(), e.Node.Name)
					break
				}
			}
			require.Len(t, m.Members(), 2)
		}
	})
}

// Longer than GossipToTheDeadTime (30 s) both sides forget each other; only the
// renewed joins of seeds (nodes 1 to 3) or lost nodes (the seed itself) heal it.
func TestLongPartitionHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sim simNet
		ms := group(t, &sim, 4)
		left := func(addr string) bool { return addr == simAddr(0) || addr == simAddr(1) }
		sim.partition(func(from, to string) bool { return left(from) != left(to) })
		awaitMembers(t, ms, 2)
		time.Sleep(10 * time.Minute)
		awaitMembers(t, ms, 2)
		sim.partition(nil)
		took := within(t, time.Minute, func() bool { return len(ms[0].Members()) == 4 && len(ms[3].Members()) == 4 })
		t.Log("healed after virtual", took)
		awaitMembers(t, ms, 4)
	})
}

// With no seed to ask, a healed partition is found by the addresses of lost nodes.
func TestSeedlessNodeLooksForLostNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sim simNet
		var names simResolver
		names.set("boot.example", "10.0.0.1")
		a := begin(t, &sim, 0, func(c *Config) { c.Seeds = nil })
		b := begin(t, &sim, 1, func(c *Config) { c.Seeds, c.Resolver = []string{"boot.example"}, &names })
		ms := []*Membership{a, b}
		awaitMembers(t, ms, 2)
		names.set("boot.example") // the name has gone
		sim.partition(func(string, string) bool { return true })
		awaitMembers(t, ms, 1)
		time.Sleep(2 * time.Minute)
		sim.partition(nil)
		awaitMembers(t, ms, 2)
	})
}

func TestLostNodesAreGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &Membership{
			lost: map[string]lost{
				"a-1": {"a", "10.0.0.1:1", time.Now()},
				"b-1": {"b", "10.0.0.2:1", time.Now()},
				"b-2": {"b", "10.0.0.2:1", time.Now()},
				"c-1": {"c", "10.0.0.3:1", time.Now()},
			},
			members: map[string]Node{"c-2": {Addr: "10.0.0.3:1"}}, // its successor took the address
		}
		require.Equal(t, []string{"10.0.0.1:1", "10.0.0.2:1"}, m.lostAddrs())
		require.Equal(t, []string{"a", "b"}, m.Lost())
		time.Sleep(lostFor)
		require.Len(t, m.lostAddrs(), 2)
		time.Sleep(time.Nanosecond)
		require.Empty(t, m.lostAddrs())
		require.Empty(t, m.lost)
	})
}

func TestRunsDoNotMerge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sim simNet
		a := begin(t, &sim, 0, nil)
		b := begin(t, &sim, 1, nil)
		other := begin(t, &sim, 2, func(c *Config) { c.RunID = "another run" })
		awaitMembers(t, []*Membership{a, b}, 2)
		time.Sleep(time.Minute)
		require.Len(t, a.Members(), 2)
		require.Len(t, b.Members(), 2)
		require.Len(t, other.Members(), 1)
	})
}

func TestRestartedNodeIsBackAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sim simNet
		ms := group(t, &sim, 3)
		ms[2].Stop()                                                                            // a crash: nobody is told
		again := begin(t, &sim, 2, func(c *Config) { c.Transport = sim.host("10.0.0.9:1234") }) // at another port
		took := within(t, time.Minute, func() bool {
			return strings.Contains(fmt.Sprint(ms[0].Members()), again.Name())
		})
		require.Less(t, took, time.Second, "must not wait for the old one to be declared dead")
		require.Equal(t, Failed, await(t, ms[0], Failed, "node2").Kind)
		require.Len(t, ms[0].Members(), 3)
	})
}

func TestFindCoordinator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sim simNet
		var names simResolver
		var logged lockedBuffer
		worker := begin(t, &sim, 1, func(c *Config) {
			c.Seeds, c.Resolver = []string{"pods.example"}, &names
			c.Logger = slog.New(slog.NewTextHandler(&logged, nil))
		})
		found := make(chan string, 1)
		go func() {
			addr, err := worker.FindCoordinator(t.Context())
			if err != nil {
				addr = err.Error()
			}
			found <- addr
		}()
		time.Sleep(30 * time.Second) // no such name
		names.set("pods.example")
		time.Sleep(30 * time.Second) // no address yet
		names.set("pods.example", "10.0.0.1")
		time.Sleep(30 * time.Second) // nobody there yet
		require.Empty(t, found)
		boss := begin(t, &sim, 0, nil)
		awaitMembers(t, []*Membership{worker, boss}, 2)
		time.Sleep(30 * time.Second) // there, but holding no coordinator
		require.Empty(t, found)
		require.NoError(t, boss.UpdateMeta(Meta{CoordinatorAddr: "10.0.0.1:5000", CoordinatorTerm: 1}))
		require.Equal(t, "10.0.0.1:5000", <-found)

		// The successor of a dead coordinator is believed while both are members.
		next := begin(t, &sim, 2, func(c *Config) {
			c.Meta = Meta{CoordinatorAddr: "10.0.0.3:6000", CoordinatorTerm: 2}
		})
		awaitMembers(t, []*Membership{worker, boss, next}, 3)
		addr, err := worker.FindCoordinator(t.Context())
		require.NoError(t, err)
		require.Equal(t, "10.0.0.3:6000", addr)

		text := logged.String()
		for _, once := range []string{
			`msg="waiting for a coordinator" node=` + worker.Name() + ` waiting_for="seed pods.example (look up pods.example: no such host)"`,
			"no address yet",
			"one of 2 members to start a coordinator",
			`msg="seed reached"`,
		} {
			require.Contains(t, text, once)
		}
		require.Less(t, strings.Count(text, "\n"), 20, "logs on change, not on every try:\n%s", text)
	})
}

// The name servers answer SERVFAIL for a while, and then 12 s late, as with two dead ones
// in resolv.conf: the node says what it waits for, and joins. A seed beside it that needs no
// name is joined at once.
func TestSeedOfSlowNameServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sim simNet
		var names simResolver
		a := begin(t, &sim, 0, nil)
		names.set("boot.example", "10.0.0.1")
		names.fault(0, &net.DNSError{Err: "server misbehaving", Name: "boot.example", IsTemporary: true})
		b := begin(t, &sim, 1, func(c *Config) { c.Seeds, c.Resolver = []string{"boot.example"}, &names })
		time.Sleep(time.Minute)
		require.Contains(t, b.WaitingFor(), "server misbehaving")
		require.Len(t, b.Members(), 1)
		names.fault(12*time.Second, nil)
		took := within(t, time.Minute, func() bool { return len(b.Members()) == 2 })
		require.Less(t, took, 20*time.Second)

		c := begin(t, &sim, 2, func(c *Config) { c.Seeds, c.Resolver = []string{"boot.example", "10.0.0.1"}, &names })
		took = within(t, time.Minute, func() bool { return len(c.Members()) == 3 })
		require.Less(t, took, 2*time.Second)

		// Neither does it delay the return of a lost node.
		names.fault(time.Hour, nil)
		sim.partition(func(string, string) bool { return true })
		awaitMembers(t, []*Membership{a, c}, 1)
		sim.partition(nil)
		took = within(t, time.Minute, func() bool { return len(c.Members()) == 3 })
		require.Less(t, took, 12*time.Second)
	})
}

// A node that waits for days for its seed must not end up trying without pause.
func TestSeedRetriesBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sim simNet
		var names simResolver
		begin(t, &sim, 1, func(c *Config) { c.Seeds, c.Resolver = []string{"boot.example"}, &names })
		time.Sleep(time.Minute)
		require.LessOrEqual(t, names.count(), 5+60/5) // 0.2+0.4+..+3.2 s, then each 5 s
		require.GreaterOrEqual(t, names.count(), 60/5)
		before := names.count()
		time.Sleep(5 * time.Minute)
		require.InDelta(t, before+300/5, names.count(), 1)
	})
}

func TestFindCoordinatorEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sim simNet
		m := begin(t, &sim, 1, nil) // the seed does not exist
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := m.FindCoordinator(ctx)
		require.ErrorIs(t, err, ErrNoCoordinator)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "seed "+seedAddr)

		done := make(chan error, 1)
		go func() {
			_, err := m.FindCoordinator(t.Context())
			done <- err
		}()
		synctest.Wait()
		m.Stop()
		require.ErrorIs(t, <-done, ErrStopped)
		m.Stop()
		require.NoError(t, m.Leave(time.Second), "after Stop there is nobody to leave")
		require.ErrorIs(t, m.UpdateMeta(Meta{}), ErrStopped)
		_, open := <-m.Events()
		require.False(t, open)
	})
}

// Nobody reads the events over many changes; the gossip goes on, and what
// is read at last is the present.
func TestSlowConsumerGetsThePresent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sim simNet
		ms := group(t, &sim, 2)
		for i := range 100 {
			require.NoError(t, ms[1].UpdateMeta(Meta{Devices: 1000 + i}))
			time.Sleep(2 * time.Second)
		}
		require.Equal(t, 1099, ms[0].Members()[1].Meta.Devices)
		var seen []Event
		for range 3 { // self joined (handed to the channel first), peer joined, at most
			select {
			case e := <-ms[0].Events():
				seen = append(seen, e)
			case <-time.After(time.Second):
			}
		}
		require.Len(t, seen, 2)
		require.Equal(t, Joined, seen[1].Kind)
		require.Equal(t, 1099, seen[1].Node.Meta.Devices)
	})
}
