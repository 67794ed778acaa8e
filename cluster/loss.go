package cluster

// unhear loses a worker without a certificate. If its node's agent spoke well
// after the worker did, the process is at fault and not the network: it is
// killed, so that its supervisor can certify its death.
func (m *Machine) unhear(w *worker, why string) {
	n := m.node(w.member.Node)
	if w.connected {
		m.do(Drop{w.member.ID})
	}
	m.lose(w, false, why)
	if n.connected && n.seen.Sub(w.seen) > m.cfg.LostAfter/2 {
		m.kill(w.member, why)
	}
}

func (m *Machine) kill(member Member, why string) {
	m.forgetAbsence(member.ID)
	m.evicted[member.ID] = why
	m.do(Kill{Member: member, Reason: why})
}

// lose removes a worker.
func (m *Machine) lose(w *worker, certified bool, why string) {
	id := w.member.ID
	m.unregister(w)
	if certified {
		m.certify(id)
	} else {
		m.unhearMember(w.member)
	}
	agreed := w.report.Stopping || w.finished || m.agreed[id]
	m.agreed[id] = agreed
	if m.last.Rank(id) < 0 {
		return
	}
	m.drained = agreed
	// Who leaves together with the others leaves nobody behind.
	together := w.report.Generation == m.last.Number && !w.report.Left
	if !agreed || m.state != StateStopping || !together {
		m.cause("lost %s: %s", w.member, why)
	}
}

func (m *Machine) certify(id MemberID) {
	if !m.dead[id] {
		m.dead[id] = true
		m.rev++
		if r := m.last.Rank(id); r >= 0 {
			m.weighAway(r)
		}
	}
	m.forgetAbsence(id)
}

func (m *Machine) workerLost(e WorkerLost) {
	w := m.workers[e.ID]
	switch {
	case w != nil:
		m.agreed[e.ID] = e.Certified
		m.lose(w, e.Certified, e.Why)
	case e.Certified:
		m.certifyAbsent(e.ID, true, e.Why)
	}
}

// certifyAbsent takes in the death of a member that is not registered: the others may
// not have noticed while they had no coordinator.
func (m *Machine) certifyAbsent(id MemberID, agreed bool, why string) {
	missed := m.state == StateRecovering || m.state == StateStopping && !agreed
	if r := m.last.Rank(id); r >= 0 && !m.dead[id] && missed {
		m.cause("lost %s: %s", m.last.Members[r], why)
	}
	m.certify(id)
}
