package cluster

import "slices"

// quorum tells whether a generation of the members for which present is true
// may follow base, the last generation that committed a step, and who of base
// is unheard. dead holds the members whose death is certified: they cannot
// commit, so they are not counted. Exactly half of the others is enough if the
// lowest rank of them is among it (dynamic-linear voting: Jajodia and Mutchler,
// ACM TODS 15(2), 1990). If all are dead, those who sit in their places count for them:
// who has a place is one process, and on one side of a partition.
func quorum(base Generation, dead map[MemberID]bool, present func(MemberID) bool, seated func(place) bool) (ok bool, unheard []Member) {
	all := !slices.ContainsFunc(base.Members, func(m Member) bool { return !dead[m.ID] })
	counted, have, lowest := 0, 0, false
	for _, m := range base.Members {
		if dead[m.ID] && !all {
			continue
		}
		here := present(m.ID) || all && seated(place{m.Node, m.Slot})
		if here {
			have++
			lowest = lowest || counted == 0
		} else {
			unheard = append(unheard, m)
		}
		counted++
	}
	return 2*have > counted || 2*have == counted && (lowest || counted == 0), unheard
}
