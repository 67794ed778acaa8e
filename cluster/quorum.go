package cluster

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
