package agent

import "github.com/agrdist/agrdist/worker/spec"

// record takes in a line of a worker's record pipe. It is called by the supervisor's
// goroutines.
func (a *Agent) record(slot int, line []byte) {
	r, err := spec.ParseRecord(line)
	if err != nil {
		a.log.Warn("a worker wrote a record that cannot be read", "slot", slot, "err", err)
		return
	}
	if a.cfg.Record != nil {
		a.cfg.Record(slot, r)
	}
	if r.Saved != nil {
		a.log.Info("saved", "slot", slot, "step", r.Saved.Step, "node", r.Saved.Node, "path", r.Saved.Path, "also_on", r.Saved.Also)
	}
}
