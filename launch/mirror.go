package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/checkpoint/mirror"
	"github.com/agrdist/agrdist/checkpoint/mirror/s3"
	"github.com/agrdist/agrdist/config"
)

// mirrored is the node's part in copying checkpoints to an object store: the node whose
// worker wrote a checkpoint copies it, in the agent's process, so that a worker that dies
// cuts no upload off and a step waits for none.
type mirrored struct {
	mu sync.Mutex
	up *mirror.Uploader // nil: nothing was copied from here yet
	to *mirror.Mirror
}

// Mirror is what an object store has of a run's last checkpoint.
type Mirror struct {
	Place string // s3://BUCKET/PREFIX
	Step  int64  // of the newest checkpoint that was copied from here; -1: none
	Err   error  // why it does not have the last one; nil: it does
}

// stopWait is how long a stop waits for the last checkpoint to be copied: what the run
// itself may take to save, so that both fit in the time that a process manager gives.
const stopWait = 2 * time.Minute

// openBucket is replaced in tests.
var openBucket = func(c *config.Mirror) (mirror.Bucket, error) {
	return s3.Open(s3.Config{Bucket: c.Bucket, Prefix: c.Prefix, Endpoint: c.Endpoint, Region: c.Region, PathStyle: c.PathStyle})
}

// mirrorOf is the mirror of the run; nil: it has none.
func (r *run) mirrorOf() (*mirror.Mirror, error) {
	place, err := config.ParseMirror(r.cfg.Checkpoint.Mirror)
	if place == nil || err != nil {
		return nil, err
	}
	bucket, err := openBucket(place)
	if err != nil {
		return nil, &config.Error{Source: "checkpoint.mirror", Err: err}
	}
	c := r.cfg.Checkpoint
	return mirror.New(bucket, mirror.Options{Keep: c.Keep, Pinned: func(step int64) bool {
		return slices.Contains(c.KeepAt, step) || c.KeepEvery > 0 && step%c.KeepEvery == 0
	}}), nil
}

// openMirror brings the run's directory up to what the mirror has, before anything looks
// at it. Nodes that join take the run's state from the others.
func (r *run) openMirror(ctx context.Context) error {
	m, err := r.mirrorOf()
	if m == nil || err != nil || len(r.cfg.Cluster.Join) > 0 {
		return err
	}
	local := r.newestGood(ctx)
	var (
		steps   []int64
		fetched checkpoint.Info
		ok      bool
	)
	err = r.persist(ctx, func() (err error) {
		if steps, err = m.Steps(ctx); err != nil || r.cfg.Checkpoint.Resume == "never" || len(steps) == 0 || steps[0] <= local {
			return err
		}
		var skipped []checkpoint.Skipped
		fetched, ok, skipped, err = m.Restore(ctx, r.dir.Store(checkpoint.Options{}), local)
		for _, k := range skipped {
			r.notice(fmt.Sprintf("passed over %s: %v", k.Path, k.Reason))
		}
		return err
	}, local < 0)
	if remote, is := errors.AsType[*mirror.Error](err); is && local >= 0 {
		// The run has its own: an object store that is away does not keep it from training.
		r.notice(fmt.Sprintf("%v. The run continues from step %d, which is here", remote, local))
		r.copyOut(local)
		return nil
	} else if is && remote.Permanent {
		return &config.Error{Source: "checkpoint.mirror", Err: err}
	}
	switch {
	case err != nil:
		return err
	case r.cfg.Checkpoint.Resume == "never" && len(steps) > 0:
		return &config.Error{Source: "checkpoint.mirror", Err: fmt.Errorf(
			"%s has checkpoints of an earlier run, the newest of step %d; start from scratch under another prefix, or remove them", m, steps[0])}
	case ok:
		r.notice(fmt.Sprintf("fetched the checkpoint of step %d from %s", fetched.Step, m))
	case local >= 0 && (len(steps) == 0 || steps[0] < local) && r.cfg.Checkpoint.Resume != "never":
		r.copyOut(local)
	}
	return nil
}

// newestGood is the newest step in the run's directory whose checkpoint verifies; -1:
// there is none.
func (r *run) newestGood(ctx context.Context) int64 {
	infos, _, err := r.dir.Store(checkpoint.Options{}).List()
	if err != nil {
		return -1 // whoever resumes says so
	}
	for _, i := range infos {
		if _, err := checkpoint.Verify(ctx, i.Path); err == nil {
			return i.Step
		}
	}
	return -1
}

// persist repeats what fails for reasons that pass, where there is nothing else to begin
// from, as long as nodes may wait for one another.
func (r *run) persist(ctx context.Context, f func() error, patient bool) error {
	until := time.Now().Add(config.Duration(r.cfg.Cluster.StartTimeout))
	said := false
	for pause := time.Second; ; pause = min(2*pause, 15*time.Second) {
		err := f()
		remote, is := errors.AsType[*mirror.Error](err)
		if !is || remote.Permanent || !patient || time.Now().Add(pause).After(until) {
			return err
		}
		if !said {
			said = true
			r.notice(fmt.Sprintf("%v. Waiting for it: there is no checkpoint in %s to begin from", err, r.cfg.Out))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// copyOut has the checkpoint of a step copied, where the run has a mirror.
func (r *run) copyOut(step int64) {
	m := &r.mirror
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.up == nil {
		to, err := r.mirrorOf()
		if to == nil || err != nil {
			return // openMirror has said so
		}
		m.to, m.up = to, mirror.Start(to, r.notice)
	}
	m.up.Add(step, r.dir.Checkpoint(step))
}

func (m *mirrored) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.up != nil {
		m.up.Close()
	}
}

// awaitMirror waits until the mirror has what was saved here. A stop that is asked for
// meanwhile shortens the wait, and a second one ends it.
func (r *run) awaitMirror(stop <-chan os.Signal, wait time.Duration) *Mirror {
	m := &r.mirror
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.up == nil {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), wait, fmt.Errorf("not within %s", wait))
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- m.up.Wait(ctx) }()
	asked := 0
	for {
		select {
		case err := <-ended:
			return &Mirror{Place: m.to.String(), Step: m.up.Pushed(), Err: err}
		case s := <-stop:
			if s == syscall.SIGUSR1 || s == syscall.SIGQUIT {
				continue
			}
			if asked++; asked == 1 && !r.stopped.Load() {
				time.AfterFunc(stopWait, cancel)
				continue
			}
			cancel()
		}
	}
}
