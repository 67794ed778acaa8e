package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/cluster/coordinator"
	"github.com/agrdist/agrdist/cluster/supervise"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/worker/spec"
)

// start starts the next incarnation of a slot's worker.
func (a *Agent) start(slot int) error {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	a.ids[slot] = cluster.MemberID(fmt.Sprintf("%s/%d/%s", a.cfg.Node, slot, hex.EncodeToString(random[:])))
	return a.workers.Start(slot)
}

func (a *Agent) command(slot int) (supervise.Command, error) {
	return a.cfg.Command(slot, spec.Spec{
		Member: a.ids[slot], Node: a.cfg.Node, Slot: slot, RunDir: a.cfg.RunDir,
		RunID: a.cfg.Run.Cluster.RunID, Coordinator: a.signpost.path, Advertised: a.gossip.Addr(), Secret: a.cfg.Secret,
		Config: string(a.cfg.Run.YAML(false)),
	})
}

// restart is a slot whose replacement may start now or, with an error, one whose
// worker cannot take part.
type restart struct {
	slot int
	err  error
}

// loop reacts until the run is over and this node's workers are gone.
func (a *Agent) loop(ctx context.Context, stop <-chan os.Signal) (cluster.End, error) {
	var (
		restarts = make(chan restart, 2*a.cfg.Run.Cluster.Workers)
		watch    = time.NewTicker(400 * time.Millisecond)
		over     *cluster.End
		ended    <-chan time.Time // patience with workers after the end
		asked    int
		refused  error
		giveUp   <-chan time.Time // after refused
		stopped  <-chan time.Time // after a worker that left by agreement
	)
	defer watch.Stop()
	for {
		if over != nil && len(a.workers.Running()) == 0 {
			a.status(ctx)
			return *over, a.settle(ctx)
		}
		select {
		case <-ctx.Done():
			return cluster.End{}, context.Cause(ctx)
		case e := <-a.workers.Exits():
			a.certify(ctx, e, restarts, over != nil)
			if e.Code == cluster.ExitStopped {
				stopped = time.After(endPatience)
			}
		case <-stopped:
			// All ranks agreed to stop and saved; the coordinator may have gone
			// before its word of it arrived here.
			if over == nil && len(a.workers.Running()) == 0 {
				return cluster.End{Outcome: cluster.OutcomeStopped, ExitCode: cluster.ExitStopped, Step: a.step, Reason: "all workers agreed to stop"}, nil
			}
		case <-giveUp: // the run has not ended over it: it goes on without this node
			return cluster.End{}, refused
		case r := <-restarts:
			if r.err != nil {
				refused, giveUp = r.err, time.After(refusedPatience)
			} else if over == nil {
				if err := a.start(r.slot); err != nil {
					return cluster.End{}, err
				}
			}
		case k := <-a.session.Kills():
			a.kill(k)
		case s := <-stop:
			if asked++; asked > 1 {
				return cluster.End{}, fmt.Errorf("killed by a second signal (%s); what was saved is kept", signalName(s))
			}
			a.requestStop(ctx, s)
		case <-a.done(over):
			end, err := a.end()
			if err != nil {
				return cluster.End{}, err
			}
			over, ended = &end, time.After(endPatience)
			if end.Outcome == cluster.OutcomeFailed {
				a.signalWorkers(syscall.SIGTERM)
			}
		case <-ended:
			a.signalWorkers(syscall.SIGKILL)
		case <-watch.C:
			a.status(ctx)
		}
	}
}

// refusedPatience is how long the news that the run is over may take to follow the
// verdict on one of its workers.
const refusedPatience = 2 * time.Second

// endPatience is how long workers may take to leave after the run has ended.
const endPatience = 15 * time.Second

// done is the end of the run, as long as it has not been seen.
func (a *Agent) done(over *cluster.End) <-chan struct{} {
	if over != nil {
		return nil
	}
	return a.session.Done()
}

// end reads how the run ended from the session.
func (a *Agent) end() (cluster.End, error) {
	err := a.session.Err()
	if e, ok := errors.AsType[*coordinator.EndError](err); ok {
		return e.End, nil
	}
	if err == nil {
		err = errors.New("the session was closed")
	}
	return cluster.End{}, fmt.Errorf("lost the coordinator for good: %w", err)
}

// settle waits for this node's coordinator, which tells the others the end.
func (a *Agent) settle(ctx context.Context) error {
	if a.server == nil {
		return nil
	}
	select {
	case err := <-a.served:
		if _, ok := errors.AsType[*coordinator.EndError](err); ok {
			return nil // the End says so already
		}
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// certify reports a death and, in its own time, asks for the replacement.
func (a *Agent) certify(ctx context.Context, e supervise.Exit, restarts chan<- restart, over bool) {
	if over {
		return
	}
	if e.Failed() && e.Code != cluster.ExitStopped {
		a.notice(e.Reason())
	}
	exit := cluster.Exit{
		Member: a.ids[e.Slot], Node: a.cfg.Node, Slot: e.Slot, Code: e.Code, Signal: e.Signal,
	}
	// A process that ended by itself has said why in its last line; one that was
	// killed did not know.
	if n := len(e.LastWords); n > 0 && e.Code > 0 && e.Code != cluster.ExitStopped {
		exit.Message = strings.TrimPrefix(e.LastWords[n-1], "agrdist: ")
	}
	go func() {
		v, err := a.session.ReportExit(ctx, exit)
		if err != nil || !v.Restart {
			// The run is over, or the session is: the loop learns it from
			// there. Or this node does not fit a run that goes on.
			if err == nil && exit.Code == cluster.ExitBadConfig {
				restarts <- restart{e.Slot, &config.Error{Source: "this node", Err: errors.New(exit.Message)}}
			}
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(v.After):
			restarts <- restart{slot: e.Slot}
		}
	}()
}

func (a *Agent) kill(k cluster.Kill) {
	if a.ids[k.Member.Slot] != k.Member.ID {
		return // an incarnation that is gone
	}
	a.notice(fmt.Sprintf("killing %s: %s", k.Member, k.Reason))
	if err := a.workers.Kill(k.Member.Slot); err != nil && !errors.Is(err, supervise.ErrNotRunning) {
		a.log.Error("cannot kill a worker", "slot", k.Member.Slot, "err", err)
	}
}

// requestStop asks the whole run to save and end: the coordinator, and this
// node's workers too, who agree with the others in their next step even where
// the coordinator is away.
func (a *Agent) requestStop(ctx context.Context, s os.Signal) {
	a.log.Info("stopping", "signal", signalName(s))
	go func() {
		if err := a.client.RequestStop(ctx, signalName(s)+" on "+a.cfg.Node); err != nil && ctx.Err() == nil {
			a.log.Warn("cannot tell the coordinator to stop", "err", err)
		}
	}()
	a.signalWorkers(syscall.SIGTERM)
}

// signalName is SIGTERM where the signal itself says "terminated".
func signalName(s os.Signal) string {
	if n, ok := s.(syscall.Signal); ok && unix.SignalName(n) != "" {
		return unix.SignalName(n)
	}
	return s.String()
}

// notice tells the person who watches.
func (a *Agent) notice(text string) {
	a.log.Warn("notice", "text", text)
	if a.cfg.Notice != nil {
		a.cfg.Notice(text)
	}
}

func (a *Agent) status(ctx context.Context) {
	if a.cfg.Watch == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	var s cluster.Status
	var err error
	if a.server != nil {
		s, err = a.server.Status(ctx)
	} else {
		s, err = a.client.Status(ctx)
	}
	if err == nil {
		a.step = s.Step
		a.cfg.Watch(s)
	}
}
