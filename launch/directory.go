package launch

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/internal/sealed"
	"github.com/agrdist/agrdist/internal/version"
	"github.com/agrdist/agrdist/internal/vfs"
	"github.com/agrdist/agrdist/recipe"
	"github.com/agrdist/agrdist/rundir"
	"github.com/agrdist/agrdist/setup"
)

// checkResume looks at the directory that checkpoint.resume names, before anything is
// made.
func (r *run) checkResume() error {
	resume := r.cfg.Checkpoint.Resume
	if resume == "auto" || resume == "never" {
		return nil
	}
	kind, err := rundir.Find(resume)
	if errors.Is(err, rundir.ErrMissing) && len(r.cfg.Cluster.Join) > 0 {
		return nil // it is on the first node, which hands its state on
	}
	if err == nil && kind.Foreign() {
		err = fmt.Errorf("%s is a %v, which has no optimizer state that agrdist could use; agrdist checkpoint import makes a run of it", resume, kind)
	}
	if err != nil {
		return &config.Error{Source: "checkpoint.resume", Err: err}
	}
	return nil
}

// prepare makes the run's directory, takes its lock and finds out what there is to
// resume. An Outcome means that nothing is to be done.
func (r *run) prepare(ctx context.Context) (unlock func(), done *Outcome, err error) {
	if err := r.dir.Make(); err != nil {
		return nil, nil, fmt.Errorf("%w; choose another with --out", err)
	}
	unlock = func() {}
	if len(r.cfg.Cluster.Join) == 0 { // the nodes of a run may share its directory
		var lock *checkpoint.RunLock
		if err := r.patiently(ctx, checkpoint.ErrRunLocked, func() (err error) {
			lock, err = r.dir.Lock()
			return err
		}); err != nil {
			return nil, nil, err
		}
		unlock = func() {
			if err := lock.Unlock(); err != nil {
				r.notice(err.Error())
			}
		}
	}
	r.tidy(ctx)
	if _, err := r.dir.Place(); err != nil { // the workers compare it with other nodes'
		unlock()
		return nil, nil, err
	}
	if err = r.openMirror(ctx); err == nil {
		done, err = r.resumable(ctx)
	}
	if err == nil && done == nil {
		err = r.dir.Writable()
	}
	if err == nil && done == nil {
		err = r.writeIndex()
	}
	if err == nil && done == nil {
		// The file is read from other working directories, too.
		if d := r.cfg.Data.Dir; d != "" {
			if r.cfg.Data.Dir, err = filepath.Abs(d); err != nil {
				r.cfg.Data.Dir = d
			}
		}
		err = sealed.Replace(vfs.OS{}, r.dir.Config(), r.cfg.YAML(false))
	}
	if err != nil || done != nil {
		unlock()
	}
	return unlock, done, err
}

// patiently tries to get what the process before this one has, and may be about to give
// back: a pod that replaces another starts while that one saves. inUse is the error then;
// it is tried for cluster.lock_wait.
func (r *run) patiently(ctx context.Context, inUse error, try func() error) error {
	wait := config.Duration(r.cfg.Cluster.LockWait)
	by := time.Now().Add(wait)
	for said := false; ; said = true {
		err := try()
		if !errors.Is(err, inUse) || !time.Now().Before(by) {
			return err
		}
		if !said {
			r.notice(fmt.Sprintf("waiting up to %s: %v", wait, err))
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// tidy clears what killed processes left in the run's directory. Where several nodes share
// it, a worker of another one may be writing a checkpoint, and over a network file system
// no lock tells: then the next save clears up, as it is the only one.
func (r *run) tidy(ctx context.Context) {
	alone, err := r.dir.OneNode()
	if alone && len(r.cfg.Cluster.Join) > 0 {
		lock, lockErr := r.dir.Lock()
		alone = lockErr == nil
		if alone {
			defer func() { _ = lock.Unlock() }() // it ends with the process at the latest
		}
	}
	if err == nil {
		err = r.dir.Tidy(ctx, alone)
	}
	if err != nil {
		r.notice(fmt.Sprintf("what an earlier process left is not cleared: %v", err))
	}
}

// adopted takes the settings of the run that this node has joined: its data is looked
// at again, and the directory says what is trained on this node.
func (r *run) adopted(ctx context.Context, run *config.Config) error {
	r.cfg = run
	if err := r.scanData(ctx); err != nil {
		return err
	}
	if err := r.writeIndex(); err != nil {
		return err
	}
	if err := sealed.Replace(vfs.OS{}, r.dir.Config(), run.YAML(false)); err != nil {
		return fmt.Errorf("cannot write the configuration: %w", err)
	}
	return nil
}

// writeIndex leaves the list of images for the workers, and says what is not used.
func (r *run) writeIndex() error {
	skipped, err := setup.WriteIndex(string(r.dir), r.images)
	if err != nil {
		return fmt.Errorf("cannot write the list of images: %w", err)
	}
	if skipped != "" {
		r.notice(fmt.Sprintf("data: %d images; not used: %s (listed in %s)", len(r.images.Images), r.images.Summary(), skipped))
	}
	return nil
}

// resumable looks at the checkpoints that the run would begin with, before any
// process is started: whole, with every checksum, as a worker will.
func (r *run) resumable(ctx context.Context) (done *Outcome, err error) {
	if r.cfg.Checkpoint.Resume == "never" {
		// What is saved from now on is this run's own: its workers continue from
		// it when all of them were lost, and so does the next invocation.
		r.cfg.Checkpoint.Resume = "auto"
		r.fresh = len(r.cfg.Cluster.Join) == 0 // a node that joins says nothing about the run
		return nil, r.setAside()
	}
	if len(r.cfg.Cluster.Join) > 0 {
		return nil, nil // the run that it joins says what is trained, and how far
	}
	src, err := r.newest(ctx)
	if src == nil || err != nil {
		return nil, err
	}
	if err := recipe.Fits(r.cfg, src.State, src.Path); err != nil {
		return nil, err
	}
	if !src.own || src.State.Step < r.cfg.Train.Steps {
		if err := r.sameBits(src.Source); err != nil {
			return nil, err
		}
		from := r.cfg.Out
		if !src.own {
			from = src.Path
		}
		text := fmt.Sprintf("resuming %s at step %d of %d", from, src.State.Step, r.cfg.Train.Steps)
		if !r.cfg.Cluster.Lone() {
			text += ", or at a newer checkpoint of another node"
		}
		r.notice(text)
		return nil, nil
	}
	return &Outcome{
		Ending: Already, Dir: r.dir, Step: src.State.Step, Steps: r.cfg.Train.Steps, Digest: src.Manifest.ModelDigest,
	}, nil
}

// sameBits compares what computed a checkpoint with this machine. On a GPU the workers
// do: opening one takes seconds, and memory.
func (r *run) sameBits(src *rundir.Source) error {
	if written, own := src.Manifest.AgrdistVersion, version.Build(); written != own {
		r.notice(fmt.Sprintf("%s was written by agrdist %s, this is %s: the change log says under Bits whether they train alike", src.Path, written, own))
	}
	if setup.GPUs(r.cfg.Device) > 0 {
		return nil
	}
	dev, err := setup.Open(setup.DeviceOf(r.cfg, 0))
	if err != nil {
		return &config.Error{Source: "device", Err: err}
	}
	err = recipe.SameBits(src.State, src.Path, dev.Rounding)
	if r.AllowOtherBits && err != nil {
		r.notice(fmt.Sprintf("%s was computed on %s and is continued on %s: the model will not be the same as an undisturbed run's",
			src.Path, src.State.Meta[recipe.MetaRounding], dev.Rounding))
		err = nil
	}
	return errors.Join(err, dev.Close())
}

// start is the checkpoint that a run begins with.
type start struct {
	*rundir.Source
	own bool // of the run itself, not of the one that checkpoint.resume names
}

// newest finds the checkpoint that the run begins with: its own newest that verifies,
// or where it has none that of the directory named by checkpoint.resume. nil: it
// begins from scratch.
func (r *run) newest(ctx context.Context) (*start, error) {
	src, err := r.dir.Newest(ctx, checkpoint.Options{RequireEMA: r.cfg.Train.EMADecay > 0})
	if err == nil {
		for _, k := range src.Skipped {
			r.notice(fmt.Sprintf("passed over %s: %v", k.Path, k.Reason))
		}
		return &start{src, true}, nil
	}
	if !errors.Is(err, checkpoint.ErrNoCheckpoint) {
		return nil, err
	}
	resume := r.cfg.Checkpoint.Resume
	if resume == "auto" {
		return nil, nil
	}
	src, err = rundir.Open(ctx, resume, checkpoint.All)
	if errors.Is(err, rundir.ErrMissing) && len(r.cfg.Cluster.Join) > 0 {
		return nil, nil // see checkResume
	}
	if err != nil {
		return nil, &config.Error{Source: "checkpoint.resume", Err: err}
	}
	return &start{src, false}, nil
}

// setAside moves what an earlier run left, so that starting from scratch destroys
// nothing.
func (r *run) setAside() error {
	if len(r.cfg.Cluster.Join) > 0 { // the directory may be shared with a run that is under way
		lock, err := r.dir.Lock()
		if errors.Is(err, checkpoint.ErrRunLocked) {
			return nil
		}
		if err != nil {
			return err
		}
		defer func() { _ = lock.Unlock() }() // it ends with the process at the latest
	}
	aside, err := r.dir.SetAside(time.Now())
	if aside != "" {
		r.notice(fmt.Sprintf("the earlier run in %s was moved to %s", r.cfg.Out, aside))
	}
	return err
}
