package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/cluster/coordinator"
	"github.com/agrdist/agrdist/cluster/security"
	"github.com/agrdist/agrdist/cluster/supervise"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/data"
	"github.com/agrdist/agrdist/internal/flight"
	"github.com/agrdist/agrdist/setup"
	"github.com/agrdist/agrdist/trainer"
	"github.com/agrdist/agrdist/worker/spec"
)

// worker holds what has to be closed.
type worker struct {
	spec   spec.Spec
	cfg    *config.Config
	log    *slog.Logger
	out    *recordWriter
	keys   *security.Keys
	device *setup.Device
	flight *flight.Recorder
	close  []func() error
}

// run trains as one worker until the run ends, and returns the process's exit code.
func run(ctx context.Context, asked requests, s spec.Spec, log *slog.Logger, out *recordWriter) (int, error) {
	w := &worker{spec: s, log: log, out: out, flight: flight.Open(supervise.KeptFD)}
	defer w.shut()
	err := w.run(ctx, asked)
	var (
		refused *config.Error
		ended   *coordinator.EndError
	)
	switch {
	case err == nil:
		return 0, nil
	case errors.Is(err, errStopped):
		return cluster.ExitStopped, nil
	case errors.As(err, &ended):
		return ended.End.ExitCode, nil // the run is over; whoever ended it has said why
	case errors.As(err, &refused), errors.Is(err, trainer.ErrDiverged), errors.Is(err, cluster.ErrMismatch), badData(err):
		return cluster.ExitBadConfig, err
	case fatal(err):
		return cluster.ExitFatal, err
	}
	return cluster.ExitFailed, err
}

// sourceOf is what an error refuses: a key, a file, a device.
func sourceOf(err error) string {
	if refused, ok := errors.AsType[*config.Error](err); ok {
		return refused.Source
	}
	return ""
}

// badData says whether an image has changed or gone since the run started. The
// same images would come again after a restart.
func badData(err error) bool {
	var (
		corrupt *data.CorruptError
		missing *data.MissingError
	)
	return errors.As(err, &corrupt) || errors.As(err, &missing)
}

// fatal says whether an error would only come again after a restart.
func fatal(err error) bool {
	var (
		save *checkpoint.SaveError
		none *checkpoint.NoneValidError
		left *trainer.UnsavedError
	)
	return errors.Is(err, trainer.ErrDigest) || errors.Is(err, trainer.ErrHistories) || errors.As(err, &left) || errors.As(err, &save) || errors.As(err, &none)
}

var errStopped = errors.New("worker: stopped")

func (w *worker) shut() {
	for _, f := range slices.Backward(w.close) {
		if err := f(); err != nil {
			w.log.Info("closing", "err", err) // what matters was reported by the work itself
		}
	}
}

func (w *worker) later(f func() error) { w.close = append(w.close, f) }

func (w *worker) run(ctx context.Context, asked requests) error {
	var err error
	if w.cfg, err = config.FromYAML([]byte(w.spec.Config)); err != nil {
		return &config.Error{Source: "worker spec", Err: err}
	}
	if len(w.spec.Secrets) > 0 {
		if w.keys, err = security.DeriveAll(w.spec.Secrets, security.Identity{RunID: w.spec.RunID, Node: w.spec.Node}); err != nil {
			return &config.Error{Source: "cluster.secret", Err: err}
		}
		c := w.cfg.Cluster
		if err := w.keys.UseFiles(security.Files{CA: c.CAFile, Cert: c.CertFile, Key: c.KeyFile, Log: w.log}); err != nil {
			return &config.Error{Source: "cluster.cert_file", Err: err}
		}
	}
	parts, err := w.parts()
	if err != nil {
		return err
	}
	endpoint, err := w.listen()
	if err != nil {
		return err
	}
	w.followSecrets(endpoint)
	session, err := w.join(ctx, asked.stop, endpoint)
	if err != nil {
		return err
	}
	parts.Flight = w.flight
	parts.Session, parts.Member, parts.Node = session, w.spec.Member, w.spec.Node
	parts.Connector = w.device.Connector(endpoint, w.log.With("part", "allreduce"))
	cfg, err := w.trainerConfig()
	if err != nil {
		return err
	}
	t, err := trainer.New(cfg, parts)
	if err != nil {
		return err
	}
	return w.train(ctx, asked, t, session)
}

// train runs the loop next to the signals and the session's end.
func (w *worker) train(ctx context.Context, asked requests, t *trainer.Trainer, session *coordinator.Session) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	stopping := session.Stopping()
	go func() {
		defer close(watched)
		for {
			select {
			case <-ctx.Done():
				return
			case <-asked.save:
				t.RequestSave()
			case <-asked.stop:
				t.RequestStop()
				asked.stop = nil
			case <-stopping:
				t.RequestStop()
				stopping = nil
			}
		}
	}()
	over := make(chan struct{})
	go func() {
		defer close(over)
		select {
		case <-ctx.Done():
		case <-session.Done():
			if err := session.Err(); err != nil {
				cancel(err)
			}
		}
	}()
	err := w.steps(ctx, t, session)
	cancel(nil)
	<-watched
	<-over
	return err
}

// steps trains on this goroutine to the end, and reports it.
func (w *worker) steps(ctx context.Context, t *trainer.Trainer, session *coordinator.Session) error {
	release, err := w.device.Pin(w.cfg, w.spec.Slot)
	if err != nil {
		return err
	}
	defer release()
	outcome, err := t.Run(ctx)
	if err != nil {
		return err
	}
	return w.farewell(ctx, t, session, outcome)
}

// The time for the last words to the coordinator. A stop does not wait long: the state
// is saved, and the agent sees the process end.
const (
	farewellTime = 10 * time.Second
	leaveTime    = 2 * time.Second
)

func (w *worker) farewell(ctx context.Context, t *trainer.Trainer, session *coordinator.Session, outcome trainer.Outcome) error {
	limit := farewellTime
	if outcome == trainer.Stopped {
		limit = leaveTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if outcome == trainer.Finished {
		// A finish that nobody heard is none: whoever is started in this
		// process's place reads the checkpoint and says it again.
		if err := finish(ctx, t.State(), session); err != nil {
			if end := session.Err(); end != nil {
				err = end
			}
			return fmt.Errorf("worker: cannot report the finish: %w", err)
		}
	}
	if err := session.Leave(ctx); err != nil {
		w.log.Info("the coordinator was not told that this worker leaves", "err", err)
	}
	if outcome == trainer.Stopped {
		return errStopped
	}
	return nil
}

// finish reports the end of the run for the newest generation, which may be
// newer than the one that committed the last step: somebody joined or was lost
// since. A generation that is formed just now fences the word off; the model is
// final all the same, so it is said again.
func finish(ctx context.Context, s *trainer.State, session *coordinator.Session) error {
	f := cluster.Finish{Step: s.Step, Digest: trainer.Digest(s)}
	for {
		err := session.Finish(ctx, f)
		if !errors.Is(err, cluster.ErrFenced) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}
