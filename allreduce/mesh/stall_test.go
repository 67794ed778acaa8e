package mesh

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
)

// debts is a collective of which only the debts matter.
type debts struct {
	collective

	by []debt
}

func (d debts) owes(peer int) debt { return d.by[peer] }

// Rank 0 of five, in operation 4, has received 10 frames and decides who is to blame.
func TestBlame(t *testing.T) {
	const op = 4
	relayed := []debt{owesNothing, owesRelayed, owesRelayed, owesRelayed, owesRelayed}
	for name, c := range map[string]struct {
		debts   []debt
		reports map[int]stallReport
		want    int
	}{
		"nobody has an excuse": {relayed, nil, 1},
		"a chain":              {relayed, map[int]stallReport{1: {op: op, rank: 2}, 2: {op: op, rank: 4}}, 4},
		"what it owes itself comes before what it waits for": {
			[]debt{owesNothing, owesRelayed, owesOwn, owesRelayed, owesRelayed},
			map[int]stallReport{2: {op: op, rank: 4}},
			2,
		},
		"the one that holds up its own part": {
			[]debt{owesNothing, owesRelayed, owesRelayed, owesOwn, owesRelayed}, nil, 3,
		},
		"stuck in the operation before": {
			[]debt{owesNothing, owesOwn, owesNothing, owesNothing, owesNothing},
			map[int]stallReport{1: {op: op - 1, rank: 3}},
			3,
		},
		"an old report is no excuse": {relayed, map[int]stallReport{1: {op: op - 2, rank: 3}}, 1},
		"a circle: the one with least waits at the break": {
			[]debt{owesNothing, owesNothing, owesNothing, owesNothing, owesRelayed},
			map[int]stallReport{
				4: {op: op, rank: 3, received: 8}, 3: {op: op, rank: 2, received: 6},
				2: {op: op, rank: 1, received: 9}, 1: {op: op, rank: 0, received: 12},
			},
			2,
		},
		"a circle, and this rank has least": {
			[]debt{owesNothing, owesNothing, owesNothing, owesNothing, owesRelayed},
			map[int]stallReport{4: {op: op, rank: 1, received: 20}, 1: {op: op, rank: 0, received: 30}},
			4,
		},
		"all there, but one does not read": {make([]debt, 5), nil, 3},
	} {
		t.Run(name, func(t *testing.T) {
			g := &group{rank: 0, world: 5, links: make([]*link, 5), op: opState{number: op}, frames: 10}
			for peer := 1; peer < 5; peer++ {
				g.links[peer] = &link{g: g, peer: peer, stall: c.reports[peer]}
			}
			g.links[3].pending = 1
			f := g.overdue(debts{by: c.debts}, allreduce.ErrTimeout)
			require.Equal(t, c.want, f.peer)
			require.ErrorIs(t, f.err, allreduce.ErrTimeout)
		})
	}
}
