package agent

import (
	"os"
	"time"

	"github.com/agrdist/agrdist/worker/spec"
)

// rotate has this node and its workers use and accept other secrets from now on. It is of
// Run's goroutine, which starts workers too: each of them has the secrets of before and
// gets these by its wire, or starts with these.
func (a *Agent) rotate(secrets [][]byte) {
	if a.keys == nil {
		return // a run without a secret gets none
	}
	if err := a.keys.Replace(secrets); err != nil {
		a.log.Error("the run's secret stays as it was", "err", err)
		return
	}
	a.secrets = secrets
	if err := a.gossip.SetKeys(a.keys.GossipKeys()); err != nil {
		a.log.Warn("the gossip keeps its keys", "err", err)
	}
	for slot, w := range a.wires {
		if err := w.tell(secrets); err != nil { // it has ended: its replacement starts with these
			a.log.Info("a worker was not told the run's secret", "slot", slot, "err", err)
		}
	}
	names := a.keys.Fingerprints()
	if err := a.control.AnnounceSecrets(names); err != nil {
		a.log.Warn("other nodes are not told which secrets this one accepts", "err", err)
	}
	a.log.Info("the run's secret", "in_use_and_accepted", names)
	if a.cfg.Rotated != nil {
		a.cfg.Rotated(secrets, names)
	}
}

// wire makes the pipe by which a worker that is about to start is told of other secrets,
// and returns the worker's end; nil where they do not change.
func (a *Agent) wire(slot int) *os.File {
	if a.cfg.Rotation == nil || a.keys == nil {
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		a.log.Warn("a worker will not hear of another secret before it is started again", "slot", slot, "err", err)
		return nil
	}
	if a.wires == nil {
		a.wires = wires{}
	}
	a.wires[slot].close()
	a.wires[slot] = &wire{theirs: r, ours: w}
	return r
}

// wires are the pipes to the newest worker of each slot.
type wires map[int]*wire

type wire struct {
	theirs *os.File // nil once the worker has it
	ours   *os.File
}

// wireTime is more than a pipe takes that is not full, and none of these is: a worker reads
// at once, and all secrets that a run ever has would fit.
const wireTime = 100 * time.Millisecond

func (w *wire) tell(secrets [][]byte) error {
	_ = w.ours.SetWriteDeadline(time.Now().Add(wireTime)) // pipes have deadlines
	return spec.WriteSecrets(w.ours, secrets)
}

// started closes this process's copy of the worker's end: who else has it keeps the pipe
// open when the worker has ended.
func (w wires) started(slot int) {
	if wire := w[slot]; wire != nil && wire.theirs != nil {
		_ = wire.theirs.Close()
		wire.theirs = nil
	}
}

func (w wires) close() {
	for slot, wire := range w {
		w.started(slot)
		wire.close()
	}
}

func (w *wire) close() {
	if w != nil {
		_ = w.ours.Close()
	}
}
