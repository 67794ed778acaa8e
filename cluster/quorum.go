package cluster

import (
	"cmp"
	"slices"
)

// quorum tells whether a generation of the members for which present is true
// may follow base, the last generation that committed a step, and who of base
// is unheard. dead holds the members whose death is certified: they cannot
// commit, so they are not counted. Exactly half of the others is enough if the
// lowest rank of them is among it (dynamic-linear voting: Jajodia and Mutchler,
// ACM TODS 15(2), 1990).
func quorum(base Generation, dead map[MemberID]bool, present func(MemberID) bool) (ok bool, unheard []Member) {
	counted, have, lowest := 0, 0, false
	for _, m := range base.Members {
		if dead[m.ID] {
			continue
		}
		here := present(m.ID)
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

// order ranks a generation of at most most workers: survivors of the last one
// keep their relative order, newcomers follow in (node join order, slot) order.
// If there are too many newcomers, those for which bound is true come before
// the others: without them there may be no quorum.
func order(last Generation, live map[MemberID]*worker, nodeOrder func(string) int, most int, bound func(MemberID) bool) []Member {
	var members []Member
	for _, m := range last.Members {
		if w := live[m.ID]; w != nil {
			members = append(members, w.member)
		}
	}
	var fresh []Member
	for id, w := range live {
		if last.Rank(id) < 0 {
			fresh = append(fresh, w.member)
		}
	}
	bySeat := func(a, b Member) int {
		return cmp.Or(nodeOrder(a.Node)-nodeOrder(b.Node), a.Slot-b.Slot) // one live worker a seat: never equal
	}
	slices.SortFunc(fresh, bySeat)
	slices.SortStableFunc(fresh, func(a, b Member) int {
		switch {
		case bound(a.ID) == bound(b.ID):
			return 0
		case bound(a.ID):
			return -1
		}
		return 1
	})
	fresh = fresh[:max(0, min(len(fresh), most-len(members)))]
	slices.SortFunc(fresh, bySeat)
	return append(members[:min(len(members), most)], fresh...)
}
