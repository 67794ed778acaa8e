package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/cluster/node"
	"github.com/agrdist/agrdist/cluster/supervise"
	"github.com/agrdist/agrdist/worker/spec"
)

// tickEvery is how often the machine looks at the time.
const tickEvery = 100 * time.Millisecond

// loop hands the machine what happens and carries out what it says, until it
// says that this node's part is over.
func (a *Agent) loop(ctx context.Context, stop <-chan os.Signal) (cluster.End, error) {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	a.step(ctx, node.Tick{})
	for a.result == nil {
		var e node.Event
		select {
		case <-ctx.Done():
			return cluster.End{}, context.Cause(ctx)
		case e = <-a.inbox:
		case in := <-a.admitted:
			a.session, e = in.session, node.Admitted{}
			if in.run != nil {
				a.cfg.Run = in.run
			}
		case secrets := <-a.cfg.Rotation:
			a.rotate(secrets)
			continue
		case exit := <-a.workers.Exits():
			a.recordExit(ctx, exit)
			e = exited(exit)
		case s := <-stop:
			if s == syscall.SIGUSR1 { // a checkpoint: the ranks agree on it by themselves
				a.signalWorkers(syscall.SIGUSR1)
				continue
			}
			if s == syscall.SIGQUIT {
				a.recordStacks()
				a.recordAll(ctx, 0, "SIGQUIT")
				continue
			}
			a.log.Info("stopping", "signal", signalName(s))
			e = node.Signalled{Signal: signalName(s)}
		case <-tick.C:
			e = node.Tick{}
		}
		a.step(ctx, e)
	}
	if errors.Is(a.result.Err, node.ErrNoCoordinator) {
		return cluster.End{}, fmt.Errorf("%w: waited for %s", a.result.Err, a.waitsFor())
	}
	return a.result.End, a.result.Err
}

func (a *Agent) step(ctx context.Context, e node.Event) {
	for _, action := range a.machine.Step(time.Now(), e) {
		a.carryOut(ctx, action)
	}
	a.note()
}

// note copies what the node has seen of the run for whoever registers it.
func (a *Agent) note() {
	a.known.Lock()
	defer a.known.Unlock()
	a.known.committed, a.known.since = a.machine.Seen()
}

// seen returns it.
func (a *Agent) seen() (committed cluster.Generation, since []cluster.Generation) {
	a.known.Lock()
	defer a.known.Unlock()
	return a.known.committed, a.known.since
}

// carryOut does what the machine asks for. It does not wait for anybody: an
// answer comes back as an event.
func (a *Agent) carryOut(ctx context.Context, action node.Action) {
	switch action := action.(type) {
	case node.Point:
		if err := a.signpost.point(action.Addr); err != nil {
			a.log.Warn("workers cannot be told where the coordinator is", "err", err)
		}
		a.log.Info("coordinator found", "addr", action.Addr)
	case node.Hold:
		a.tasks.Go(func() { a.post(ctx, node.ServerStopped{Err: a.control.Serve(ctx, action)}) })
	case node.Keep:
		a.tasks.Go(func() {
			if err := a.control.Keep(action.Seen); err != nil {
				a.log.Warn("this node would not know after a restart how far the run is", "err", err)
			}
		})
	case node.Release:
		a.control.Release()
	case node.Probe:
		a.tasks.Go(func() { a.post(ctx, node.Probed{Err: a.control.Probe(ctx, action.Addr)}) })
	case node.Announce:
		if err := a.control.Announce(action.End); err != nil {
			a.log.Warn("other nodes cannot be told the end", "err", err)
		}
	case node.Start:
		a.members[action.Slot] = action.Member
		err := a.workers.Start(action.Slot)
		a.wires.started(action.Slot)
		if err != nil {
			a.step(ctx, node.StartFailed{Slot: action.Slot, Err: err, Hopeless: hopeless(err)})
		}
	case node.Kill:
		a.recordAll(ctx, 0, "the coordinator has a worker killed")
		if err := a.workers.Kill(action.Slot); err != nil && !errors.Is(err, supervise.ErrNotRunning) {
			a.log.Error("cannot kill a worker", "slot", action.Slot, "err", err)
		}
	case node.Terminate:
		a.signalWorkers(syscall.SIGTERM)
	case node.KillAll:
		a.killAll()
	case node.Report:
		s := a.session
		a.tasks.Go(func() {
			v, err := s.ReportExit(ctx, action.Exit)
			a.post(ctx, node.Judged{Exit: action.Exit, Verdict: v, Err: err})
		})
	case node.Drain:
		a.session.Drain()
	case node.RequestStop:
		a.tasks.Go(func() {
			if err := a.control.RequestStop(ctx, action.Reason); err != nil && ctx.Err() == nil {
				a.log.Warn("cannot tell the coordinator to stop", "err", err)
			}
		})
	case node.Notice:
		a.log.Warn("notice", "text", action.Text)
		if a.cfg.Notice != nil {
			a.cfg.Notice(action.Text)
		}
	case node.Return:
		a.result = &action
	}
}

// hopeless tells whether a start failed for something that time does not bring.
func hopeless(err error) bool {
	return errors.Is(err, supervise.ErrConfig) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOEXEC)
}

// exited turns the end of a process into the machine's event. A process that
// ended by itself has said why in its last record; one that was killed did not
// know, and one that panicked said it in its last line.
func exited(e supervise.Exit) node.Exited {
	out := node.Exited{Slot: e.Slot, Code: e.Code, Signal: e.Signal, Failed: e.Failed(), Reason: e.Reason()}
	if e.Code <= 0 || e.Code == cluster.ExitStopped {
		return out
	}
	if r, err := spec.ParseRecord(e.Record); err == nil && r.End != nil {
		out.Message = r.End.Text
	} else if n := len(e.LastWords); n > 0 {
		out.Message = strings.TrimPrefix(e.LastWords[n-1], "agrdist: ")
	}
	return out
}

// signalName is SIGTERM where the signal itself says "terminated".
func signalName(s os.Signal) string {
	if n, ok := s.(syscall.Signal); ok && unix.SignalName(n) != "" {
		return unix.SignalName(n)
	}
	return s.String()
}

func (a *Agent) signalWorkers(sig syscall.Signal) {
	for _, w := range a.workers.Running() {
		if err := a.workers.Signal(w.Slot, sig); err != nil && !errors.Is(err, supervise.ErrNotRunning) {
			a.log.Warn("cannot signal a worker", "slot", w.Slot, "err", err)
		}
	}
}

func (a *Agent) killAll() {
	for _, w := range a.workers.Running() {
		if err := a.workers.Kill(w.Slot); err != nil && !errors.Is(err, supervise.ErrNotRunning) {
			a.log.Warn("cannot end a worker", "slot", w.Slot, "err", err)
		}
	}
}

func (a *Agent) command(slot int) (supervise.Command, error) {
	var kept []*os.File
	if ring := a.flights.begin(slot); ring != nil {
		kept = append(kept, ring) // the first: the worker looks there
	}
	memory := 0
	if f := a.heldState(); f != nil {
		memory = supervise.KeptFD + len(kept)
		kept = append(kept, f)
	}
	secrets := 0
	if f := a.wire(slot); f != nil {
		secrets = supervise.KeptFD + len(kept)
		kept = append(kept, f)
	}
	c, err := a.cfg.Command(slot, spec.Spec{
		Member: a.members[slot], Node: a.cfg.Node, Slot: slot, RunDir: a.cfg.RunDir,
		RunID: a.cfg.Run.Cluster.RunID, Coordinator: a.signpost.path, Advertised: a.gossip.Addr(), Secrets: a.secrets,
		Config: string(a.cfg.Run.YAML(false)), MemoryFD: memory, SecretsFD: secrets,
	})
	c.Keep = append(kept, c.Keep...)
	if id := a.cfg.Identity; id != nil {
		c.Keep = append(c.Keep, id.workers)
	}
	return c, err
}
