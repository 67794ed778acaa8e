package cluster

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// stepTimes keeps the last step times as worker-seconds (step time x world
// size): the work of a step is fixed, so they hold for any world size.
type stepTimes struct {
	ring        [128]float64
	n           int
	at          time.Time // of the last commit in this generation; zero before the first
	step        int64
	interrupted bool // a long phase lay in between
}

func (s *stepTimes) restart() { s.at, s.interrupted = time.Time{}, false }

func (s *stepTimes) advance(now time.Time, step int64, world int) {
	if !s.at.IsZero() && !s.interrupted && step > s.step {
		s.ring[s.n%len(s.ring)] = now.Sub(s.at).Seconds() / float64(step-s.step) * float64(world)
		s.n++
	}
	s.at, s.step, s.interrupted = now, step, false
}

// p99 returns the 99th percentile of the step time at a world size; false if no
// step was timed yet.
func (s *stepTimes) p99(world int) (time.Duration, bool) {
	n := min(s.n, len(s.ring))
	if n == 0 {
		return 0, false
	}
	v := slices.Clone(s.ring[:n])
	slices.Sort(v)
	q := v[int(math.Ceil(0.99*float64(n)))-1]
	return time.Duration(q / float64(world) * float64(time.Second)), true
}

// breakage follows generations that end without a culprit.
type breakage struct {
	at    time.Time // when the first member of this generation reported it
	text  string
	inRow int // generations in a row that broke or hung without a commit
	blame map[MemberID]int
}

func (b *breakage) reset() {
	b.inRow = 0
	clear(b.blame)
}

// deadline is how long a generation may go without any progress.
func (m *Machine) deadline() time.Duration {
	if m.number(isLate) == 0 && m.number(isLoading) > 0 { // with one late, the others load only because they wait for it
		return m.cfg.LongPhaseDeadline
	}
	p99, known := m.steps.p99(m.last.World())
	if !known {
		return max(m.cfg.FirstStepDeadline, m.cfg.MinStepDeadline)
	}
	floor := m.cfg.MinStepDeadline
	if m.allWait() {
		floor = min(floor, m.cfg.MinWaitDeadline<<m.breaks.inRow) // at most MaxBroken times
	}
	return max(floor, time.Duration(m.cfg.HangFactor*float64(p99)))
}

// allWait tells whether every member waits for others in a step: then no word has come
// through between two of them, and to blame whoever is behind would be a guess.
func (m *Machine) allWait() bool { return m.number(isWaiting) == len(m.last.Members) }

// checkHang evicts the worker that all the others wait for.
func (m *Machine) checkHang() {
	if m.state != StateRunning || m.ended || len(m.causes) > 0 || !m.breaks.at.IsZero() {
		return
	}
	if m.number(isUnsteady) > 0 || m.number(isRanked) == 0 {
		return // the loss or the departure will be noticed first
	}
	stalled, deadline := m.now.Sub(m.progress), m.deadline()
	if stalled < deadline {
		return
	}
	ranks := m.ranks()
	culprit, others := laggard(ranks)
	text := fmt.Sprintf("no progress for %s (deadline %s)", round(stalled), round(deadline))
	if culprit == nil || m.allWait() && len(ranks) > 1 {
		m.noCulprit(text + ": all ranks wait, " + where(ranks[0].report))
		return
	}
	why := fmt.Sprintf("it hung, %s: %s", where(culprit.report), text)
	if others != nil {
		why += fmt.Sprintf(", while %s is %s", others.member, where(others.report))
	}
	m.lose(culprit, false, why)
	m.kill(culprit.member, why)
}

func where(r Report) string {
	phase := r.Phase
	if phase == "" {
		phase = "an unnamed phase"
	}
	return fmt.Sprintf("in %s after step %d, bucket %d, generation %d", phase, r.Step, r.Bucket, r.Generation)
}

// laggard returns the worker with the least progress, and the one with the
// most. A worker that has not taken up the newest generation is behind all; one
// that computes is behind those that wait at the same step; of several that
// compute, the one that has been at it for longest. If all wait at the same
// place, nobody can be named.
func laggard(ranks []*worker) (culprit, ahead *worker) {
	byProgress := slices.Clone(ranks)
	slices.SortStableFunc(byProgress, func(a, b *worker) int {
		if c := cmp.Or(cmp.Compare(a.report.Generation, b.report.Generation), cmp.Compare(a.report.Step, b.report.Step)); c != 0 {
			return c
		}
		wa, wb := waiting(a.report.Phase), waiting(b.report.Phase)
		switch {
		case wa != wb:
			if wb {
				return -1
			}
			return 1
		case wa:
			return cmp.Compare(a.report.Bucket, b.report.Bucket)
		}
		return a.progressAt.Compare(b.progressAt)
	})
	first, last := byProgress[0], byProgress[len(byProgress)-1]
	if len(byProgress) == 1 {
		return first, nil
	}
	same := first.report.Generation == last.report.Generation && first.report.Step == last.report.Step &&
		first.report.Bucket == last.report.Bucket
	if same && waiting(first.report.Phase) && waiting(last.report.Phase) {
		return nil, nil
	}
	return first, last
}

// checkBroken replaces a generation whose group broke when no loss has
// explained it within BrokenGrace.
func (m *Machine) checkBroken() {
	if m.state != StateRunning && m.state != StateStopping || m.breaks.at.IsZero() || m.ended || len(m.causes) > 0 {
		return
	}
	if m.now.Sub(m.breaks.at) >= m.cfg.BrokenGrace {
		m.noCulprit("the group broke at " + m.breaks.text)
	}
}

// noCulprit ends a generation for a fault that names nobody: the same members
// try again, and after MaxBroken times without a commit the most blamed one is
// evicted.
func (m *Machine) noCulprit(text string) {
	m.breaks.inRow++
	if m.breaks.inRow < m.cfg.MaxBroken {
		m.cause("%s; forming it again", text)
		return
	}
	var worst *worker
	for _, w := range m.ranks() { // of equals the highest rank
		if n := m.breaks.blame[w.member.ID]; n > 0 && (worst == nil || n >= m.breaks.blame[worst.member.ID]) {
			worst = w
		}
	}
	if worst == nil {
		m.fail(ExitFailed, "%d generations in a row made no step and no rank is to blame; the last: %s; "+
			"check that every worker can reach every other one's data port", m.breaks.inRow, text)
		return
	}
	why := fmt.Sprintf("%s; %d generations in a row made no step and %d reports blame it", text, m.breaks.inRow, m.breaks.blame[worst.member.ID])
	m.breaks.reset()
	m.lose(worst, false, why)
	m.kill(worst.member, why)
}
