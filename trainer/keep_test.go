package trainer

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/cluster"
)

// Replicas are in other zones, then in other racks, then on other machines.
func TestSpread(t *testing.T) {
	for name, c := range map[string]struct {
		topologies []string
		n          int
		want       []int
	}{
		"nothing known":   {[]string{"", "", "", ""}, 2, []int{0, 1, 2, 3}},
		"racks":           {[]string{"r1", "r1", "r2", "r2"}, 2, []int{0, 2, 1, 3}},
		"three of two":    {[]string{"r1", "r1", "r2", "r2"}, 3, []int{0, 2, 1, 3}},
		"zones first":     {[]string{"z1/r1", "z1/r1", "z1/r2", "z2/r1"}, 3, []int{0, 3, 2, 1}},
		"one rack":        {[]string{"r1", "r1", "r1"}, 2, []int{0, 1, 2}},
		"who is nowhere":  {[]string{"r1", "r1", "", "r2"}, 2, []int{0, 2, 1, 3}},
		"one replica":     {[]string{"r1", "r1", "r2"}, 1, []int{0, 1, 2}},
		"as many as all":  {[]string{"r1", "r1", "r2"}, 3, []int{0, 2, 1}},
		"none":            {nil, 0, []int{}},
		"names, not text": {[]string{"rack-1", "rack-1", "rack-12"}, 2, []int{0, 2, 1}},
	} {
		members := make([]cluster.Member, len(c.topologies))
		ranks := make([]int, len(members))
		for i, at := range c.topologies {
			members[i].Topology, ranks[i] = at, i
		}
		spread(ranks, c.n, members)
		require.Equal(t, c.want, ranks, name)
	}
}
