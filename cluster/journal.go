package cluster

import (
	"slices"
	"time"
)

// Journal is the little that a restarted coordinator needs beside what the
// workers themselves report. Write it before the actions of the Step that
// changed Revision are carried out: generation numbers then never repeat.
type Journal struct {
	RunID      string
	ConfigHash string
	Build      string
	Floor      uint64       // numbers used by earlier runs under this journal
	Last       Generation   // newest generation formed
	Ended      bool         // its members were told to abort
	First      Generation   // the first generation; it counts while Base is none
	Issued     []Generation // formed after Base; may commit, or may have, unheard
	Base       Generation   // newest generation known to have committed a step
	Step       int64        // newest step that it committed, as far as known; -1 none
	Nodes      []string     // in join order
	Dead       []MemberID   // certified deaths among the members of Base, Issued and Last
	Saved      int64        // newest step that was saved for a stop; -1 none
	SavedOn    string       // node that has it
	Stop       string       // a stop was requested, and why
	Failing    string       // the stop is for a failure, and this is it
	Finish     Finish       // a rank finished, if Member is set
	End        End          // the run ended, if Outcome is set
}

// NewJournal returns that of a run of which nothing is known.
func NewJournal() Journal { return Journal{Step: -1, Saved: -1} }

// Revision changes with every change of the journal but that of Step.
func (m *Machine) Revision() uint64 { return m.rev }

// Journal returns what Restore needs.
func (m *Machine) Journal() Journal {
	j := Journal{
		RunID: m.cfg.RunID, ConfigHash: m.cfg.ConfigHash, Build: m.cfg.Build,
		Floor: m.floor, Last: m.last.Generation, Ended: m.ended, First: m.first.Generation, Base: m.base.Generation, Step: m.step, Saved: m.saved, SavedOn: m.savedOn,
		Stop: m.stop, Failing: m.failing, Finish: m.finish, End: m.end,
	}
	for _, n := range m.nodes {
		j.Nodes = append(j.Nodes, n.name)
	}
	noted := map[MemberID]bool{}
	for _, g := range append([]*group{m.electorate(), m.last}, m.issued...) {
		for _, member := range g.Members {
			if m.dead[member.ID] && !noted[member.ID] {
				noted[member.ID] = true
				j.Dead = append(j.Dead, member.ID)
			}
		}
	}
	for _, g := range m.issued {
		j.Issued = append(j.Issued, g.Generation)
	}
	return j
}

// Restore returns a machine that continues where the journal ends: it waits for
// the members of the last generation to report back, and adopts that generation
// if all do. A run that had ended, or had another id, configuration or build (whose
// workers are refused), starts from scratch with higher numbers: words of its
// stragglers stay fenced.
func Restore(cfg Config, j Journal, now time.Time) (*Machine, error) {
	other := func(of, have string) bool { return of != "" && have != "" && of != have }
	m, err := New(cfg, now)
	if err != nil {
		return nil, err
	}
	m.floor = j.Floor
	if j.End.Outcome != OutcomeNone || other(j.RunID, cfg.RunID) || other(j.ConfigHash, cfg.ConfigHash) || other(j.Build, cfg.Build) {
		m.floor = j.used()
		return m, nil
	}
	m.adoptIdentity(Member{RunID: j.RunID, ConfigHash: j.ConfigHash, Build: j.Build})
	m.ended, m.step, m.saved, m.savedOn = j.Ended, j.Step, j.Saved, j.SavedOn
	m.base, m.first = newGroup(j.Base), newGroup(j.First)
	for _, g := range j.Issued {
		m.issued = append(m.issued, newGroup(g))
	}
	if m.first.Number == 0 && len(m.issued) > 0 { // of what a node saw
		m.first = m.issued[0]
	}
	for _, name := range j.Nodes {
		m.node(name)
	}
	for _, id := range j.Dead {
		m.dead[id] = true
	}
	m.setLast(newGroup(j.Last), make([]*worker, len(j.Last.Members)))
	switch {
	case j.Finish.Member != "":
		m.state, m.finish, m.endBy = StateFinishing, j.Finish, now.Add(cfg.FinishTimeout)
	case j.Stop != "":
		m.failing = j.Failing
		m.state, m.stop, m.stopBy = StateStopping, j.Stop, now.Add(cfg.StopTimeout)
	}
	if m.last.Number > 0 {
		m.recover()
	}
	return m, nil
}

// Newest returns what a coordinator continues from: what its node kept on disk or what it
// saw of the run since it started, whichever knows more generations. A run that has ended
// knows none.
func Newest(kept, seen Journal) Journal {
	if seen.Last.Number > 0 && (kept.End.Outcome != OutcomeNone || seen.newer(kept)) {
		return seen
	}
	return kept
}

// Supersedes tells whether a node that has kept one journal should keep this one instead,
// which it saw later: it knows a newer generation, or that the run has ended.
func (j Journal) Supersedes(kept Journal) bool {
	return j.newer(kept) || j.Last.Number >= kept.used() && j.End.Outcome != OutcomeNone && kept.End.Outcome == OutcomeNone
}

// newer compares what was seen with what was kept before. Two coordinators may give one
// number to different groups; the one that was seen later is the one that a node is in.
func (j Journal) newer(kept Journal) bool {
	return j.Last.Number > kept.used() || j.Last.Number > 0 && j.Last.Number == kept.Last.Number && !j.Last.Same(kept.Last)
}

// used is the highest number that a generation had.
func (j Journal) used() uint64 { return max(j.Floor, j.Last.Number) }

// Begins tells whether there is the run's first generation among the actions of a Step
// after which the journal is j. It must not be carried out before that journal is
// written: nobody else remembers that the run has begun.
func Begins(actions []Action, j Journal) bool {
	return slices.ContainsFunc(actions, func(a Action) bool {
		f, forms := a.(Form)
		return forms && f.Generation.Number == j.First.Number
	})
}
