package cluster

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/require"
)

// act makes one random thing happen.
func (w *model) act() {
	p := w.seats[w.rng.IntN(len(w.seats))]
	switch w.rng.IntN(20) {
	case 0:
		w.kill(p)
	case 1:
		if p.id != "" && p.connected {
			p.connected = false
			w.step(StreamBroken{ID: p.id, Closed: w.serial%2 == 0})
		}
	case 2:
		w.hear(p, w.rng.IntN(3) > 0)
	case 3:
		w.step(AgentJoined{Node: p.node, Slots: 2})
	case 4:
		w.step(AgentLost{p.node})
	case 5:
		if p.id != "" && p.connected && p.heard {
			r := w.say(p)
			r.Broken, r.Blame, r.Reset = "connection reset", w.seats[0].id, w.serial%2 == 0
			w.step(Reported{r})
		}
	case 6:
		if p.id != "" && w.rng.IntN(4) == 0 { // an old word, late
			r := w.report(p)
			r.Generation, r.Step, r.CommitGeneration = r.Generation/2, r.Step+5, r.CommitGeneration/2
			for g := uint64(1); g <= w.newest; g++ { // it tells nothing of what it left
				r.Pledged = append(r.Pledged, g)
			}
			w.step(Reported{r})
		}
	case 7:
		switch w.rng.IntN(16) {
		case 0, 1:
			w.restartCoordinator()
		case 2: // power failure: everything at once
			for _, p := range w.seats {
				w.vanish(p)
			}
			w.restartCoordinator()
		case 3, 4:
			w.vanish(p)
		}
	case 8, 9:
		w.supervise(p)
	case 10, 11:
		w.connect(p)
	default:
		w.train()
	}
}

// kill ends a process; its supervisor certifies it, sometimes twice.
func (w *model) kill(p *process) {
	if p.id == "" {
		return
	}
	e := Exit{Member: p.id, Node: p.node, Slot: p.slot, Signal: "SIGKILL"}
	w.dead[p.id] = true
	*p = process{node: p.node, slot: p.slot, heard: p.heard, before: p.before}
	w.step(WorkerExited{Exit: e})
	if w.rng.IntN(4) == 0 {
		w.step(WorkerExited{Exit: e})
	}
}

// vanish ends a process with its supervisor: nobody certifies its death, but a
// new supervisor will start a new process.
func (w *model) vanish(p *process) {
	if p.id == "" {
		return
	}
	broken := StreamBroken{ID: p.id, Closed: w.serial%2 == 0}
	*p = process{node: p.node, slot: p.slot, heard: p.heard, restartAt: w.now, before: append(p.before, p.id)}
	w.step(broken)
}

// hear cuts or mends the link of a process.
func (w *model) hear(p *process, heard bool) {
	p.heard = heard
	if heard {
		pending := p.pending
		p.pending = nil
		for _, a := range pending {
			w.deliver(p.id, a)
		}
	}
}

// supervise starts a process where the verdict allows one.
func (w *model) supervise(p *process) {
	switch {
	case p.id != "" && p.killed:
		w.kill(p)
	case p.id == "" && !p.restartAt.IsZero() && !w.now.Before(p.restartAt):
		w.serial++
		p.id, p.step, p.restartAt = MemberID(fmt.Sprintf("w%d", w.serial)), -1, time.Time{}
		w.connect(p)
	}
}

func (w *model) connect(p *process) {
	if p.id == "" || p.connected || !p.heard || p.killed {
		return
	}
	p.connected, p.pending = true, nil
	for _, id := range p.before { // the machine may conclude it from now on
		w.dead[id] = true
	}
	w.step(WorkerJoined{Member: w.member(p), Holds: p.holds, Report: w.say(p)})
	if !p.connected { // it was refused: nothing follows from it
		for _, id := range p.before {
			delete(w.dead, id)
		}
	}
}

// restartCoordinator loses the machine and all streams, and keeps the journal.
func (w *model) restartCoordinator() {
	w.restarts++
	var err error
	w.m, err = Restore(w.cfg, w.m.Journal(), w.now)
	require.NoError(w.t, err)
	for _, p := range w.seats {
		p.connected = false
	}
}
