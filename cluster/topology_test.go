package cluster_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/cluster"
)

// datacenter is a run of nodes of 8 workers that come up in any order of their racks.
type datacenter struct {
	m       *cluster.Machine
	now     time.Time
	serial  int
	members []cluster.Member // by node and slot
	formed  cluster.Generation
	joined  []cluster.MemberID // as the order would be without places: survivors, then who came later
}

const perNode = 8

func newDatacenter(tb testing.TB, workers, racks, zones int) *datacenter {
	tb.Helper()
	cfg := cluster.DefaultConfig()
	cfg.MinWorkers, cfg.MaxWorkers, cfg.MaxRestarts = workers, workers, -1
	d := &datacenter{now: time.Unix(0, 0)}
	var err error
	d.m, err = cluster.New(cfg, d.now)
	require.NoError(tb, err)
	for i := range workers {
		node := i / perNode
		m := cluster.Member{Node: fmt.Sprintf("n%d", node), Slot: i % perNode, DataAddr: "addr", Topology: fmt.Sprintf("z%d/r%d", node%zones, node%racks)}
		d.members = append(d.members, m)
		d.step(cluster.AgentJoined{Node: m.Node, Slots: perNode})
	}
	for i := range workers {
		d.start(i)
	}
	require.Len(tb, d.formed.Members, workers)
	return d
}

func (d *datacenter) step(events ...cluster.Event) {
	for _, a := range d.m.Step(d.now, append(events, cluster.Tick{})...) {
		if f, is := a.(cluster.Form); is {
			d.formed = f.Generation
		}
	}
}

// start starts a worker, which says that it has the state if the run has one.
func (d *datacenter) start(i int) {
	d.serial++
	m := &d.members[i]
	m.ID = cluster.MemberID(fmt.Sprintf("%s/%d-%d", m.Node, m.Slot, d.serial))
	d.joined = append(d.joined, m.ID)
	d.step(cluster.WorkerJoined{Member: *m, Report: cluster.Report{Step: -1, Phase: cluster.PhaseInit}})
}

// train lets the newest generation commit a step.
func (d *datacenter) train(step int64) {
	for _, m := range d.formed.Members {
		d.step(cluster.Reported{Report: cluster.Report{
			Member: m.ID, Generation: d.formed.Number, Step: step, CommitGeneration: d.formed.Number, HasState: true, Phase: cluster.PhaseForward,
		}})
	}
}

// restart lets workers die, and come back to compute.
func (d *datacenter) restart(tb testing.TB, workers ...int) {
	tb.Helper()
	step := d.m.Status(d.now).Step
	for _, i := range workers {
		m := d.members[i]
		d.joined = slices.DeleteFunc(d.joined, func(id cluster.MemberID) bool { return id == m.ID })
		d.step(cluster.WorkerExited{Exit: cluster.Exit{Member: m.ID, Node: m.Node, Slot: m.Slot, Signal: "SIGKILL"}})
	}
	d.train(step + 1)
	for _, i := range workers {
		d.start(i)
	}
	for n := int64(2); d.formed.World() < len(d.members); n++ {
		require.Less(tb, n, int64(100), "the workers do not come back")
		d.now = d.now.Add(time.Second)
		d.train(step + n)
	}
}

// order is the members in another order.
func (d *datacenter) order(ids []cluster.MemberID) []cluster.Member {
	out := make([]cluster.Member, len(ids))
	for i, id := range ids {
		out[i] = d.formed.Members[d.formed.Rank(id)]
	}
	return out
}

// rack and node tell two members apart by where they are.
func rack(a, b cluster.Member) bool { return a.Topology != b.Topology }
func node(a, b cluster.Member) bool { return a.Node != b.Node }

// crossings counts, for ranks in an order, the operands of the canonical tree that come
// from elsewhere, where each addition is made at its left operand, and the hops of the
// ring that lead elsewhere.
func crossings(tb testing.TB, chunks int, ranks []cluster.Member, apart func(a, b cluster.Member) bool) (tree, ring int) {
	tb.Helper()
	plan, err := allreduce.NewPlan(chunks, len(ranks))
	require.NoError(tb, err)
	home := make([]cluster.Member, chunks)
	for rank, m := range ranks {
		lo, hi := plan.Block(rank)
		for c := lo; c < hi; c++ {
			home[c] = m
		}
		if apart(m, ranks[(rank+1)%len(ranks)]) {
			ring++
		}
	}
	for width := 1; width < chunks; width *= 2 {
		for left := 0; left+width < chunks; left += 2 * width {
			if apart(home[left], home[left+width]) {
				tree++
			}
		}
	}
	return tree, ring
}

// What the order by place saves, as docs/scaling.md has it.
func TestOrderByPlace(t *testing.T) {
	text, err := os.ReadFile("../docs/scaling.md")
	require.NoError(t, err)
	for _, c := range []struct{ workers, racks, chunks int }{{64, 4, 512}, {512, 8, 4096}, {96, 3, 512}, {480, 6, 4096}} {
		d := newDatacenter(t, c.workers, c.racks, 1)
		check := func(when string) {
			row := fmt.Sprintf("| %d (%d, %d), %s |", c.workers, c.workers/perNode, c.racks, when)
			for _, apart := range []func(a, b cluster.Member) bool{node, rack} {
				oldTree, oldRing := crossings(t, c.chunks, d.order(d.joined), apart)
				tree, ring := crossings(t, c.chunks, d.formed.Members, apart)
				require.LessOrEqual(t, tree, oldTree)
				require.LessOrEqual(t, ring, oldRing)
				row += fmt.Sprintf(" %d | %d | %d | %d |", oldTree, tree, oldRing, ring)
			}
			fmt.Fprintln(t.Output(), row)
			if !strings.Contains(string(text), row+"\n") {
				t.Errorf("docs/scaling.md does not have this line: %s", row)
			}
			_, ring := crossings(t, c.chunks, d.formed.Members, node)
			require.Equal(t, c.workers/perNode, ring, "workers of a node have ranks next to each other")
			_, ring = crossings(t, c.chunks, d.formed.Members, rack)
			require.Equal(t, c.racks, ring, "and so have nodes of a rack")
		}
		check("started")
		var one []int // of each node, another slot
		for n := range c.workers / perNode {
			one = append(one, n*perNode+n%perNode)
		}
		d.restart(t, one...)
		check("one worker of each node restarted")
	}
}

// The order is that of the narrowest common place, and among equals that of joining.
func TestOrderOfRanks(t *testing.T) {
	for name, c := range map[string]struct {
		joined, want string // NODE:TOPOLOGY of a worker each
	}{
		"nothing known":            {"a: b: c:", "a: b: c:"},
		"one node, three times":    {"a: b: a: b: a:", "a: a: a: b: b:"},
		"racks":                    {"a:r1 b:r2 c:r1 d:r2", "a:r1 c:r1 b:r2 d:r2"},
		"racks in zones":           {"a:z1/r1 b:z2/r1 c:z1/r2 d:z1/r1", "a:z1/r1 d:z1/r1 c:z1/r2 b:z2/r1"},
		"one name, two places":     {"a:z/r b:z c:z/r d:z", "a:z/r c:z/r b:z d:z"},
		"some know nothing":        {"a:r1 b: c:r1 d:", "a:r1 c:r1 b: d:"},
		"a node named like a rack": {"r: a:r b:q c:r", "r: a:r c:r b:q"},
		"a path, not its letters":  {"a:z1 b:z c:z1/r", "a:z1 c:z1/r b:z"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := cluster.DefaultConfig()
			joined := strings.Fields(c.joined)
			cfg.MinWorkers, cfg.MaxWorkers = len(joined), len(joined)
			m, err := cluster.New(cfg, time.Unix(0, 0))
			require.NoError(t, err)
			d := &datacenter{m: m, now: time.Unix(0, 0)}
			slots := map[string]int{}
			for i, w := range joined {
				node, topology, _ := strings.Cut(w, ":")
				// In join order: each comes after the one before is in.
				d.step(cluster.WorkerJoined{Member: cluster.Member{
					ID: cluster.MemberID(fmt.Sprintf("%d", i)), Node: node, Slot: slots[node], DataAddr: "addr", Topology: topology,
				}, Report: cluster.Report{Step: 7, HasState: true}})
				slots[node]++
			}
			var got []string
			for _, w := range d.formed.Members {
				got = append(got, w.Node+":"+w.Topology)
			}
			require.Equal(t, c.want, strings.Join(got, " "))
		})
	}
}
