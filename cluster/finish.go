package cluster

import (
	"fmt"
	"slices"
)

// finished takes in a rank's word that the last step is reached.
func (m *Machine) finished(event Finished) {
	f := event.Finish
	w := m.workers[f.Member]
	answer := func(err error) { m.do(Acknowledge{f.Member, err, event.Request}) }
	switch {
	case m.state == StateOver && m.end.Outcome == OutcomeFinished:
	case m.state == StateOver:
		answer(fmt.Errorf("%w: %s", ErrOver, m.end.Reason))
		return
	case w == nil || f.Generation != m.last.Number || m.last.Rank(f.Member) < 0 || m.ended:
		answer(fmt.Errorf("%w: %q finished step %d in generation %d, the newest is %d",
			ErrFenced, f.Member, f.Step, f.Generation, m.last.Number))
		return
	case m.state == StateFinishing:
		if f.Step != m.finish.Step || f.Digest != m.finish.Digest {
			answer(nil)
			m.fail(ExitFailed, "the ranks disagree at the end of the run: %s has digest %s at step %d, %s has %s at step %d",
				m.finish.Member, m.finish.Digest, m.finish.Step, f.Member, f.Digest, f.Step)
			return
		}
		m.hasFinished(w)
	default:
		m.hasFinished(w)
		m.state, m.finish, m.endBy = StateFinishing, f, m.now.Add(m.cfg.FinishTimeout)
		m.step = max(m.step, f.Step)
		m.rev++
	}
	answer(nil)
}

// hasFinished notes that a worker is done: its silence is no fault any more.
func (m *Machine) hasFinished(w *worker) {
	m.unlistHeard(w)
	w.finished = true
}

// settleFinish ends the run when every rank has finished or gone, or time is up. A rank
// that is still behind the last step after a while joined too late: those that finished
// have left the group, so it never gets there.
func (m *Machine) settleFinish() {
	late := m.cfg.FinishTimeout-m.endBy.Sub(m.now) >= m.cfg.SilentAfter
	for rank, member := range m.last.Members {
		w := m.byRank[rank]
		there := w != nil && (w.finished || late && w.report.Step < m.finish.Step) || w == nil && m.dead[member.ID]
		if !there && m.now.Before(m.endBy) {
			return
		}
	}
	m.over(End{Outcome: OutcomeFinished, Reason: fmt.Sprintf("step %d, the last, is done", m.finish.Step), Digest: m.finish.Digest})
}

func (m *Machine) stopRequested(reason string) {
	switch m.state {
	case StateOver, StateFinishing, StateStopping:
		return
	case StateForming, StateRecovering, StateRunning, StateWaiting:
	}
	m.beginStop(reason)
}

func (m *Machine) beginStop(reason string) {
	m.state, m.stop, m.stopBy = StateStopping, reason, m.now.Add(m.cfg.StopTimeout)
	m.drains = nil // everybody saves and leaves
	m.rev++
	m.do(Stop{reason})
}

// settleStop follows the workers as they leave, by request or because the ranks
// agreed among themselves.
func (m *Machine) settleStop() {
	ranks, agreed := m.number(isRanked), m.number(isStopping)
	if m.state == StateRunning && (ranks > 0 && agreed == ranks || len(m.workers) == 0 && m.drained) {
		m.beginStop("all ranks agreed to stop")
	}
	if m.state != StateStopping {
		return
	}
	switch {
	case len(m.workers) == 0 && (m.gone() || !m.now.Before(m.recoverBy)):
		m.stopped(m.stop)
	case !m.now.Before(m.stopBy):
		m.stopped(fmt.Sprintf("%s; not gone after %s: %s", m.stop, round(m.cfg.StopTimeout), m.namesAll()))
	}
}

// namesAll names the registered workers.
func (m *Machine) namesAll() string {
	var members []Member
	for _, w := range m.sorted() {
		members = append(members, w.member)
	}
	return names(members)
}

// stopped ends a run whose workers have left: as asked, or because it failed and
// was only to save first.
func (m *Machine) stopped(reason string) {
	if m.failing != "" {
		m.fail(ExitFailed, "%s", reason)
		return
	}
	if m.saved < m.step { // those who held it died on the way
		m.fail(ExitFailed, "%s; but step %d, the last that was committed, was not saved: the workers were lost before one of them could; "+
			"the same command continues from the newest checkpoint", reason, m.step)
		return
	}
	m.step = max(m.step, m.saved)
	m.over(End{Outcome: OutcomeStopped, ExitCode: ExitStopped, Reason: reason, SavedOn: m.savedOn})
}

// gone tells whether all members of the last generation are certainly dead.
func (m *Machine) gone() bool {
	return !slices.ContainsFunc(m.last.Members, func(w Member) bool { return !m.dead[w.ID] })
}
