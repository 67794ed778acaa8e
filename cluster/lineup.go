package cluster

// lineup is who would be in a generation, by rank; the last of them are spares.
type lineup struct {
	members []*worker
	spares  int
}

func (l lineup) world() int { return len(l.members) - l.spares }

// candidates returns who would be in a generation that is formed now. Where somebody has
// the run's state, those who do not begin as spares: they copy it while the others train,
// and compute from the generation after that.
func (m *Machine) candidates() lineup {
	all := m.lineUp(m.cfg.MaxWorkers+m.cfg.MaxSpares, m.live)
	newest, known := int64(0), false
	for _, w := range all {
		if w.report.HasState {
			newest, known = max(newest, w.report.Step), true
		}
	}
	if !known {
		return lineup{all, max(0, len(all)-m.cfg.MaxWorkers)}
	}
	var have, learn []*worker
	for _, w := range all {
		// Members of one generation are at one step, whatever they reported last. Others
		// may have been away for long.
		if w.report.HasState && (w.rank >= 0 || w.report.Step >= newest-1) {
			have = append(have, w)
		} else {
			learn = append(learn, w)
		}
	}
	return lineup{append(have, learn...), len(all) - min(len(have), m.cfg.MaxWorkers)}
}

// promotable tells whether a spare could compute.
func (m *Machine) promotable() bool {
	if m.state != StateRunning || m.last.World() >= m.cfg.MaxWorkers {
		return false
	}
	for _, w := range m.byRank[m.last.World():] {
		if w != nil && w.connected && w.marks&isSurvivor != 0 && w.report.HasState && w.report.Generation == m.last.Number {
			return true
		}
	}
	return false
}

// after returns the generation whose members first commit their step in flight; 0: none,
// for something is wrong with it.
func (m *Machine) after() uint64 {
	if !m.calm() || m.last.Number == 0 {
		return 0
	}
	for _, w := range m.byRank {
		if w != nil && m.last.After != 0 && w.report.Generation == m.last.After {
			return m.last.After // nobody has moved yet, or all are about to
		}
	}
	return m.last.Number
}
