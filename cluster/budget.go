package cluster

import (
	"fmt"
	"slices"
	"time"
)

// budget limits restarts over the whole run. It counts crashes of the program:
// those that a machine is to blame for (a kill from outside, an eviction, a node
// that went away) say nothing about whether another restart will help.
type budget struct {
	restarts []time.Time          // when each is to happen, within the window
	failures map[string]int       // by seat: deaths since its last commit
	verdicts map[MemberID]Verdict // so that a repeated certificate counts once
}

func newBudget() budget {
	return budget{failures: map[string]int{}, verdicts: map[MemberID]Verdict{}}
}

func (b *budget) proven(seat string) { delete(b.failures, seat) }

// within counts the restarts since now-window, those to come included.
func (b *budget) within(now time.Time, window time.Duration) int {
	b.restarts = slices.DeleteFunc(b.restarts, func(t time.Time) bool { return now.Sub(t) >= window })
	return len(b.restarts)
}

// exited takes in a supervisor's certificate and answers with a verdict.
func (m *Machine) exited(event WorkerExited) {
	e := event.Exit
	if v, known := m.budget.verdicts[e.Member]; known && e.Member != "" && !e.Again {
		m.do(Judge{e, v, event.Request})
		return
	}
	w := m.workers[e.Member]
	if w != nil {
		why := e.String()
		if m.leaving(e.Node) {
			why = "its node leaves the run"
		}
		m.lose(w, true, why)
	} else if e.Member != "" {
		m.certifyAbsent(e.Member, e.Code == ExitStopped && e.Signal == "", e.String())
	}
	// A worker that was never let in speaks for its own node: what does not fit there
	// does not end the run of the others. Before the run has begun, the node that came
	// first speaks for it.
	stranger := w == nil && m.last.Rank(e.Member) < 0 && (m.last.Number > 0 || m.nodeOrder(e.Node) > 0)
	v := m.judge(e, stranger)
	if e.Member != "" {
		m.budget.verdicts[e.Member] = v
	}
	m.do(Judge{e, v, event.Request})
}

func (m *Machine) judge(e Exit, stranger bool) Verdict {
	at := seat(e.Node, e.Slot)
	switch {
	case m.state == StateOver || m.state == StateFinishing || m.state == StateStopping:
		return Verdict{Reason: "the run is ending"}
	case m.leaving(e.Node):
		return Verdict{Reason: "its node leaves the run"}
	case e.Again && (m.agreed[e.Member] || e.Code == ExitStopped && e.Signal == ""):
		return restart(0) // the end that it left for was lost with the coordinator that knew of it
	case m.agreed[e.Member] || e.Code == ExitStopped && e.Signal == "":
		// The last is a worker that left with the others while it had no session: they may
		// be about to end the run. If it continues, the node asks again.
		return Verdict{Reason: "it left by agreement"}
	case stranger && e.Signal == "" && (e.Code == ExitBadConfig || e.Code == ExitFatal):
		return Verdict{Reason: "it cannot take part in this run"}
	case e.Signal == "" && e.Code == ExitBadConfig:
		m.fail(ExitBadConfig, "%s: the configuration is bad, which no restart fixes", e)
		return Verdict{Reason: "the configuration is bad"}
	case e.Signal == "" && e.Code == ExitFatal:
		m.fail(ExitFailed, "%s", e)
		return Verdict{Reason: "no restart fixes it"}
	}
	m.budget.failures[at]++
	n := m.budget.failures[at]
	if m.base.Number == 0 && n >= m.cfg.MaxEarlyDeaths {
		m.fail(ExitFailed, "the worker of %s died %d times in a row before the first committed step; the last time: %s", at, n, e)
		return Verdict{Reason: "it never got to a step"}
	}
	var after time.Duration
	if n > 1 {
		after = min(m.cfg.RestartBackoff<<min(n-2, 30), m.cfg.RestartBackoffMax)
	}
	if _, evicted := m.evicted[e.Member]; evicted || !crashed(e) {
		return restart(after)
	}
	return m.grant(e, after)
}

// crashed tells a fault of the program from an end that came from outside: an
// operator's or a job controller's kill, the kernel's for lack of memory.
func crashed(e Exit) bool {
	switch e.Signal {
	case "SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGPWR", "SIGXCPU":
		return false
	}
	return true
}

func restart(after time.Duration) Verdict {
	v := Verdict{Restart: true, After: after, Reason: "restart at once"}
	if after > 0 {
		v.Reason = fmt.Sprintf("restart in %s", round(after))
	}
	return v
}

// grant fits the restart of a crashed worker into the budget. When that is spent,
// the run ends; if somebody is left who holds the state, they save it first.
func (m *Machine) grant(e Exit, after time.Duration) Verdict {
	used := m.budget.within(m.now, m.cfg.RestartWindow)
	if most := m.cfg.MaxRestarts; most >= 0 && used >= most {
		text := fmt.Sprintf("%s after crashes within %s, the most that cluster.max_restarts allows", count(used, "restart"), round(m.cfg.RestartWindow))
		if len(m.workers) == 0 {
			m.fail(ExitFailed, "%s; then %s", text, e)
		} else {
			m.failing = fmt.Sprintf("%s; then %s", text, e)
			m.beginStop(m.failing)
		}
		return Verdict{Reason: text}
	}
	m.budget.restarts = append(m.budget.restarts, m.now.Add(after))
	return restart(after)
}
