package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agrdist/agrdist/agent"
	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/cluster/supervise"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/data"
	"github.com/agrdist/agrdist/internal/version"
	"github.com/agrdist/agrdist/rundir"
	"github.com/agrdist/agrdist/setup"
	"github.com/agrdist/agrdist/status"
	"github.com/agrdist/agrdist/worker/spec"
)

// Options describe a node's part in a run.
type Options struct {
	// Config is the run's configuration, checked as setup.Load does. It is not
	// changed.
	Config *config.Config
	// Worker starts a worker process, which must call worker.Main. This process's
	// environment and the worker's spec, which holds the run's secret, are added. The
	// zero value is this program with the one argument "worker".
	Worker supervise.Command
	// AllowOtherBits continues a checkpoint that other kernels computed, which otherwise
	// is refused: the model will be nobody else's.
	AllowOtherBits bool
	// Signals asks for a stop, for example from signal.Notify; see Stopper for what
	// counts. nil: only the end of the context ends the run early.
	Signals <-chan os.Signal
	// Terminal says that an interrupt comes from a person's keyboard.
	Terminal bool
	// Notice is called with what a person should read now: one line, one call at a time.
	Notice func(text string)
	// Scanning is called while an image folder is looked at, and with an empty text
	// when that is over; total is 0 while it is not known.
	Scanning func(what string, done, total int)
	// Joinable is called once with the address that other nodes join by.
	Joinable func(addr string)
	// Watch is called about twice a second with where the run stands; leads: its rank 0,
	// which writes events and checkpoints, is on this node.
	Watch func(s cluster.Status, leads bool)
	// Page is called once the run has begun, with the address of the run's page on this node, its token
	// included, unless dashboard.bind is off; nil: no page is served.
	Page func(link string)
	// Output receives the lines of the workers, prefixed; nil: only the log files do.
	Output io.Writer
}

// run is one call of Run.
type run struct {
	Options
	cfg    *config.Config // a copy
	dir    rundir.Dir
	images *data.Index // of an image folder; nil: another data set
	fresh  bool        // the run was to start from scratch
	node   string
	peers  []string // where other nodes of the run were last
	page   page
	told   int64             // bytes of events.jsonl before this run
	slow   status.Stragglers // of Watch's goroutine

	notices sync.Mutex                     // one Notice at a time
	last    atomic.Pointer[cluster.Status] // the newest that was seen; nil: none yet
	saved   atomic.Pointer[spec.Saved]     // the word that this node's workers heard; nil: none
	stopped atomic.Bool                    // this node was asked to stop
	mirror  mirrored                       // of checkpoint.mirror

	// unpublish takes the run's own secret back from where other nodes find it.
	unpublish func()
}

// Run takes part in a run until it ends. The end of ctx kills this node's workers;
// what was saved is kept. An error means that the run could not begin or that this
// node failed: a *config.Error if the configuration cannot work. How a run that began
// has ended, a failure included, is in the Outcome.
func Run(ctx context.Context, o Options) (Outcome, error) {
	cfg := *o.Config
	r := &run{Options: o, cfg: &cfg, unpublish: func() {}}
	r.page.requests = make(chan os.Signal, 2)
	return r.run(ctx)
}

// notice tells the person who watches.
func (r *run) notice(text string) {
	if r.Notice == nil {
		return
	}
	r.notices.Lock()
	defer r.notices.Unlock()
	r.Notice(text)
}

func (r *run) run(ctx context.Context) (Outcome, error) {
	given, err := givenSecrets(r.cfg)
	if err != nil {
		return Outcome{}, err
	}
	host, _ := os.Hostname() // where there is none, nothing is dropped
	r.cfg.Cluster.Join = dropSelf(r.cfg.Cluster.Join, host, r.cfg.Cluster.Node)
	if r.dir, err = rundir.At(r.cfg.Out); err != nil {
		return Outcome{}, err
	}
	if err := r.checkResume(); err != nil {
		return Outcome{}, err
	}
	if !r.cfg.Cluster.Lone() {
		go func() { _, _ = version.Executable() }() // it is there when the workers start
	}
	stop, forwarded := r.forwardSignals()
	defer forwarded()
	var (
		unlock func()
		done   *Outcome
	)
	if err := untilSignal(ctx, stop, func(ctx context.Context) (err error) {
		if err = r.scanData(ctx); err == nil {
			unlock, done, err = r.prepare(ctx)
		}
		return err
	}); err != nil {
		if unlock != nil && done == nil {
			unlock()
		}
		return r.early(err)
	}
	if done != nil {
		defer r.mirror.close()
		done.Mirror = r.awaitMirror(stop, config.Duration(r.cfg.Checkpoint.MirrorWait))
		return *done, nil
	}
	defer unlock()
	defer r.mirror.close()
	if err := r.nameByCertificate(); err != nil {
		return Outcome{}, err
	}
	var id *agent.Identity
	if err := untilSignal(ctx, stop, func(ctx context.Context) error {
		return r.patiently(ctx, agent.ErrRuns, func() (err error) {
			id, err = agent.Identify(ctx, r.dir.Nodes(), r.cfg.Cluster.Node, hostName(), r.cfg.Cluster.Lone())
			return err
		})
	}); err != nil {
		if id != nil {
			_ = id.Close() // a signal came
		}
		return r.early(err)
	}
	defer func() { _ = id.Close() }() // it ends with the process at the latest
	r.node, r.peers = id.Node, id.Peers
	log, closeLog, err := r.openLog()
	if err != nil {
		return Outcome{}, err
	}
	defer closeLog()

	began := time.Now()
	if info, err := os.Stat(r.dir.Events()); err == nil {
		r.told = info.Size()
	}
	joinable := r.Joinable
	secrets := stretch(given, r.cfg)
	if secrets == nil {
		secret, err := r.ownSecret(ctx, stop)
		if err != nil {
			return r.early(err)
		}
		if secret != nil {
			secrets = [][]byte{secret}
		}
		if secret != nil && !r.cfg.Cluster.Lone() {
			defer func() { r.unpublish() }()
			joinable = func(addr string) {
				r.publish(addr, secret)
				if r.Joinable != nil {
					r.Joinable(addr)
				}
			}
		}
	}
	closePage, err := r.page.serve(r, secrets, log)
	if err != nil {
		return Outcome{}, err
	}
	defer closePage()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	end, err := agent.Run(ctx, stop, agent.Config{
		Run: r.cfg, RunDir: string(r.dir), Node: r.node, Identity: id, Version: version.Build(),
		Secrets: secrets, Rotation: r.watchSecret(ctx, given, log),
		Rotated: func(rotated [][]byte, fingerprints []string) {
			r.page.rekey(rotated, log)
			r.rotated(fingerprints)
		},
		Command: r.command, Logger: log, Output: r.Output, Notice: r.notice, Record: r.record, Joinable: joinable, Adopted: r.adopted,
		Watch: func(s cluster.Status) {
			r.last.Store(&s)
			r.page.watch(s)
			for _, line := range r.slow.See(status.FromCluster("", s, 0), time.Now()) {
				r.notice(line)
				log.Warn("straggler", "text", line)
			}
			if r.Watch != nil {
				r.Watch(s, len(s.Generation.Members) > 0 && s.Generation.Members[0].Node == r.node)
			}
		},
	})
	if err != nil {
		return r.early(err)
	}
	out := r.outcome(end, time.Since(began))
	wait := stopWait
	if out.Ending == Finished {
		wait = config.Duration(r.cfg.Checkpoint.MirrorWait)
	}
	out.Mirror = r.awaitMirror(stop, wait)
	return out, nil
}

// early is the outcome of a run that ended for this node before it began, or before it
// ended for the others.
func (r *run) early(err error) (Outcome, error) {
	if left, ok := errors.AsType[*agent.LeftError](err); ok {
		return Outcome{
			Ending: Left, Dir: r.dir, Step: left.Step, Steps: r.cfg.Train.Steps, Code: cluster.ExitStopped, Reason: left.Error(),
		}, nil
	}
	if early, ok := errors.AsType[*agent.SignalError](err); ok {
		return Outcome{
			Ending: Stopped, Dir: r.dir, Step: -1, Steps: r.cfg.Train.Steps, Code: cluster.ExitStopped, Reason: early.Error(),
		}, nil
	}
	return Outcome{}, err
}

// untilSignal does what comes before the run. A signal ends it.
func untilSignal(ctx context.Context, stop <-chan os.Signal, f func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case s := <-stop:
			cancel(&agent.SignalError{Signal: signalName(s)})
		case <-done:
		}
	}()
	err := f(ctx)
	close(done)
	<-watched
	if early, ok := errors.AsType[*agent.SignalError](context.Cause(ctx)); ok {
		return early
	}
	return err
}

// record takes in what a worker tells.
func (r *run) record(slot int, record spec.Record) {
	switch {
	case record.Notice != nil:
		r.notice(fmt.Sprintf("[%s] %s", r.logName(fmt.Sprintf("worker-%d", slot)), record.Notice.Text))
	case record.Written != nil:
		r.copyOut(record.Written.Step)
	case record.Saved != nil:
		r.saved.Store(record.Saved)
	}
}

// scanData looks at all images once, before any process is started.
func (r *run) scanData(ctx context.Context) (err error) {
	progress := r.Scanning
	if progress == nil {
		progress = func(string, int, int) {}
	}
	defer progress("", 0, 0)
	r.images, err = setup.ScanData(ctx, r.cfg, progress)
	return err
}

// openLog opens the agent's own log.
func (r *run) openLog() (*slog.Logger, func(), error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(r.cfg.Log.Level)); err != nil {
		return nil, nil, &config.Error{Source: "log.level", Err: err}
	}
	f, err := supervise.OpenLog(r.dir.Logs(), r.logName("agent"))
	if err != nil {
		return nil, nil, fmt.Errorf("cannot open the log: %w", err)
	}
	options := &slog.HandlerOptions{Level: level}
	var handler slog.Handler = slog.NewTextHandler(f, options)
	if r.cfg.Log.Format == config.JSON {
		handler = slog.NewJSONHandler(f, options)
	}
	return slog.New(handler), func() { _ = f.Close() }, nil // nothing depends on its last line
}

// logName is the name of a process of this node: its logs may lie beside those of
// other nodes.
func (r *run) logName(process string) string {
	if r.cfg.Cluster.Lone() && len(r.cfg.Cluster.Join) == 0 {
		return process
	}
	return r.node + "-" + process
}

// command is how the worker of a slot is started.
func (r *run) command(slot int, s spec.Spec) (supervise.Command, error) {
	c := r.Worker
	if c.Path == "" {
		self, err := self()
		if err != nil {
			return c, err
		}
		c.Path, c.Argv0, c.Args = self, os.Args[0], []string{"worker"}
	}
	s.AllowOtherBits, s.Fresh = r.AllowOtherBits, r.fresh
	var err error
	if !r.cfg.Cluster.Lone() {
		if s.Executable, err = version.Executable(); err != nil {
			return c, err
		}
	}
	if c.Input, err = s.Encode(); err != nil {
		return c, err
	}
	c.Name = r.logName(fmt.Sprintf("worker-%d", slot))
	c.Env = append(os.Environ(), c.Env...)
	return c, nil
}
