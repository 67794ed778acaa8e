package node

import (
	"errors"
	"fmt"
	"time"

	"github.com/agrdist/agrdist/cluster"
)

// Machine decides what a node's agent does. It is a pure state machine and not
// safe for concurrent use; one goroutine owns it.
type Machine struct {
	cfg     Config
	now     time.Time
	started time.Time
	out     []Action

	slots    []slot
	admitted bool
	proven   bool // a worker ran on this node
	returned bool
	step     int64 // last committed step heard of; -1 none
	holder   holder

	signals   int          // asked to stop
	draining  time.Time    // since when it waits to be let go; zero: it does not
	stop      string       // why this node asked for the end of the whole run; "": it did not
	stopAsked time.Time    // when it asked last
	leaves    bool         // the first signal was to leave
	left      bool         // it was let go
	reports   int          // certificates that were not answered yet
	end       *cluster.End // how the run ended
	endAt     time.Time
	waited    string    // what it waits for, as told last
	keptOut   string    // why its workers are kept out of the run, as told last
	killBy    time.Time // workers that are still here then are killed
	agreed    time.Time // the last time a worker left by agreement
	refused   error     // a worker cannot take part
	giveUp    time.Time // when that ends this node's part
	orphaned  time.Time // since when it leaves for want of a coordinator
}

// SignalError says that a signal ended the node's part before the run began.
type SignalError struct{ Signal string }

func (e *SignalError) Error() string { return "stopped by " + e.Signal + " before the run began" }

// LeftError says that this node has left a run that continues without it.
type LeftError struct{ Step int64 }

func (e *LeftError) Error() string {
	if e.Step < 0 {
		return "this node has left the run; the others continue"
	}
	return fmt.Sprintf("this node has left the run after step %d; the others continue", e.Step)
}

// RefusedError says that this node's workers do not fit the run, which continues
// without it.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "this node: " + e.Reason }

// ErrNoCoordinator is wrapped when nobody admitted this node in time.
var ErrNoCoordinator = errors.New("node: no coordinator")

// New returns a machine that looks for its run.
func New(cfg Config, now time.Time) (*Machine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m := &Machine{cfg: cfg, now: now, started: now, slots: make([]slot, cfg.Slots), step: -1}
	m.holder.maxTerm, m.holder.seen = cfg.Term, cluster.NewJournal()
	return m, nil
}

// Step tells the machine what happened by now and returns what is to be done, in
// order. It wants a Tick about every 100 ms.
func (m *Machine) Step(now time.Time, events ...Event) []Action {
	if now.After(m.now) {
		m.now = now
	}
	for _, e := range events {
		if !m.returned {
			m.apply(e)
		}
	}
	if !m.returned {
		m.settle()
	}
	out := m.out
	m.out = nil
	return out
}

func (m *Machine) apply(e Event) {
	switch e := e.(type) {
	case Gossip:
		m.gossiped(e)
	case Admitted:
		if !m.admitted {
			m.admitted, m.holder.heard = true, m.now
			for i := range m.slots {
				m.slots[i].startAt = m.now
			}
		}
	case Ended:
		m.ended(e.End)
	case SessionLost:
		m.sessionLost(e.Err)
	case Exited:
		m.exited(e)
	case StartFailed:
		m.startFailed(e)
	case Judged:
		m.judged(e)
	case KillOrdered:
		m.killOrdered(e.Kill)
	case Signalled:
		m.signalled(e.Signal)
	case Seen:
		m.looked(e.Status)
	case Formed:
		m.formed(e.Generation)
	case Waiting:
		if !m.admitted && e.For != m.waited && m.now.Sub(m.started) >= m.cfg.SayAfter {
			m.waited = e.For
			m.notice("waiting for %s", e.For)
		}
	case Probed:
		m.probed(e.Err)
	case ServerStopped:
		m.serverStopped(e.Err)
	case Drained:
		m.drained()
	case Tick:
	}
}

// settle makes the decisions that follow from the state and the time.
func (m *Machine) settle() {
	if m.end != nil {
		m.settleEnd()
		return
	}
	m.settleOrphan()
	m.settleDrain()
	if m.orphaned.IsZero() {
		m.settleHolder()
	}
	switch {
	case m.returned || !m.orphaned.IsZero():
	case m.refused != nil && !m.now.Before(m.giveUp):
		m.fail(m.refused)
	case !m.agreed.IsZero() && m.running() == 0 && m.unheard(m.agreed) >= m.cfg.EndPatience:
		m.finish(cluster.End{
			Outcome: cluster.OutcomeStopped, ExitCode: cluster.ExitStopped, Step: m.step, Reason: "all workers agreed to stop",
		})
	case !m.admitted && m.now.Sub(m.started) >= m.cfg.StartTimeout:
		m.fail(fmt.Errorf("%w was found within %s (cluster.start_timeout); is the first node up, with the same cluster.run_id and secret?",
			ErrNoCoordinator, m.cfg.StartTimeout))
	case m.signals == 0:
		m.startDue()
	}
}

func (m *Machine) sessionLost(err error) {
	switch {
	case m.end != nil:
	case m.admitted:
		m.fail(fmt.Errorf("lost the coordinator for good: %w", err))
	default:
		m.fail(err)
	}
}

// signalled takes in that this node is asked to stop. In an elastic run SIGTERM takes
// the node out and the others continue; otherwise, and the second time, the whole
// run is asked to save and end; after that nothing is waited for.
func (m *Machine) signalled(name string) {
	m.signals++
	switch {
	case !m.admitted:
		m.fail(&SignalError{name})
	case m.signals == 1 && m.cfg.Elastic && name == "SIGTERM":
		m.draining, m.leaves = m.now, true
		m.do(Drain{})
	case m.signals == 1 || m.signals == 2 && m.leaves:
		m.draining = time.Time{}
		m.stopRun(name)
	default:
		m.fail(fmt.Errorf("killed by a second signal (%s); what was saved is kept", name))
	}
}

// stopRun asks the coordinator, and this node's workers too, who agree with the
// others in their next step even where the coordinator is away.
func (m *Machine) stopRun(why string) {
	if m.end == nil {
		m.stop, m.stopAsked = why+" on "+m.cfg.Node, m.now
		m.do(RequestStop{m.stop})
		m.do(Terminate{})
	}
}

// stopAgain is how long the coordinator may take to hear of a stop.
const stopAgain = 2 * time.Second

// repeatStop asks again where the run continues: the coordinator that heard of the stop was
// lost, and the next one does not know of it.
func (m *Machine) repeatStop(state cluster.State) {
	switch state {
	case cluster.StateStopping, cluster.StateFinishing, cluster.StateOver:
		return
	case cluster.StateForming, cluster.StateRecovering, cluster.StateRunning, cluster.StateWaiting:
	}
	if m.stop != "" && m.end == nil && m.now.Sub(m.stopAsked) >= stopAgain {
		m.stopAsked = m.now
		m.do(RequestStop{m.stop})
	}
}

// drained ends this node's workers: the others hold the state.
func (m *Machine) drained() {
	if m.draining.IsZero() || m.end != nil {
		return
	}
	m.left = true
	m.do(KillAll{})
}

// settleDrain waits for the answer, and then for the workers to be gone and their
// deaths certified.
func (m *Machine) settleDrain() {
	switch {
	case m.draining.IsZero():
	case m.left && m.running() == 0 && m.reports == 0:
		m.fail(&LeftError{m.step})
	case !m.left && m.unheard(m.draining) >= m.cfg.DrainPatience:
		m.draining = time.Time{}
		m.stopRun("SIGTERM, and nobody to take over from this node,")
	}
}

// unheard is how long no coordinator was heard, counted from a moment at the earliest: one
// that is heard will say what this node waits for.
func (m *Machine) unheard(since time.Time) time.Duration {
	if m.holder.heard.After(since) {
		since = m.holder.heard
	}
	return m.now.Sub(since)
}

func (m *Machine) do(a Action) { m.out = append(m.out, a) }

func (m *Machine) notice(format string, args ...any) { m.do(Notice{fmt.Sprintf(format, args...)}) }

// noticeOnce tells what this node waits for, when that changes.
func (m *Machine) noticeOnce(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); text != m.waited {
		m.waited = text
		m.notice("%s", text)
	}
}

func (m *Machine) fail(err error) {
	m.returned = true
	m.do(Return{Err: err})
}

func (m *Machine) finish(e cluster.End) {
	m.returned = true
	m.do(Return{End: e})
}
