package parallel

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// machine is nodes of cores of two hardware threads, numbered as Linux does: the
// second threads after all the first ones.
func machine(nodes, cores int) []processor {
	var all []processor
	for id := range 2 * nodes * cores {
		core := id % (nodes * cores)
		all = append(all, processor{id: id, node: core / cores, core: core})
	}
	return all
}

func TestShare(t *testing.T) {
	for name, c := range map[string]struct {
		all                  []processor
		slot, count, threads int
		want                 []int
	}{
		"alone":                    {machine(1, 4), 0, 1, 4, []int{0, 1, 2, 3}},
		"second threads come last": {machine(1, 4), 0, 1, 6, []int{0, 1, 2, 3, 4, 5}},
		"a node each, first":       {machine(2, 4), 0, 2, 4, []int{0, 1, 2, 3}},
		"a node each, second":      {machine(2, 4), 1, 2, 5, []int{4, 5, 6, 7, 12}},
		"of three":                 {machine(1, 4), 2, 3, 2, []int{2, 3}},
		"workers share a core":     {machine(1, 1), 1, 2, 1, []int{1}},
		"holes":                    {[]processor{{7, 1, 3}, {2, 0, 1}, {5, 0, 2}}, 1, 2, 2, []int{5, 7}},
	} {
		got, err := share(c.all, c.slot, c.count, c.threads)
		require.NoError(t, err, name)
		require.Equal(t, c.want, got, name)
	}
}

// Whatever the counts, workers have no processor in common.
func TestSharesAreApart(t *testing.T) {
	for count := 1; count <= 8; count++ {
		seen := map[int]bool{}
		for slot := range count {
			ids, err := share(machine(2, 4), slot, count, 16/count/2)
			require.NoError(t, err)
			for _, id := range ids {
				require.False(t, seen[id], "%d workers: processor %d", count, id)
				seen[id] = true
			}
		}
	}
}

func TestShareRefuses(t *testing.T) {
	_, err := share(machine(1, 2), 1, 2, 3)
	require.ErrorIs(t, err, ErrPin)
	require.ErrorContains(t, err, "worker 1 of 2 has 3 threads but 2 of the processors that this process may use (0-3)")
	for _, c := range [][3]int{{0, 0, 1}, {2, 2, 1}, {-1, 2, 1}, {0, 1, 0}} {
		_, err := share(machine(1, 2), c[0], c[1], c[2])
		require.ErrorIs(t, err, ErrPin)
	}
	_, err = share(machine(1, 2), 0, 9, 1)
	require.ErrorIs(t, err, ErrPin, "more workers than processors")
}

func TestList(t *testing.T) {
	require.Equal(t, "0-3,8,10-11", list([]processor{{id: 11}, {id: 0}, {id: 1}, {id: 2}, {id: 8}, {id: 3}, {id: 10}}))
}
