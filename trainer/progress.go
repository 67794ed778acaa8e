package trainer

import (
	"errors"
	"io"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/internal/flight"
)

// progress keeps the worker's report up to date: where a hang is seen, a peer
// that stops is named and a progress bar is drawn from.
type progress struct {
	session Session
	usage   func() cluster.Usage // nil: not known
	flight  *flight.Recorder     // nil: nothing is recorded
	rank    int                  // in the generation

	mu     sync.Mutex
	report cluster.Report
}

// enter notes a new generation.
func (p *progress) enter(gen cluster.Generation, rank int) {
	p.rank = rank
	p.flight.Add(flight.Record{Kind: flight.Joined, Generation: gen.Number, Rank: rank, Peer: len(gen.Members)})
	p.change(func(r *cluster.Report) {
		r.Generation, r.Left, r.Broken, r.Blame, r.Reset = gen.Number, false, "", "", false
		r.Phase, r.Bucket = cluster.PhaseConnect, 0
	})
}

// missing notes a peer to which there is no connection yet.
func (p *progress) missing(peer cluster.MemberID) {
	p.change(func(r *cluster.Report) { r.Blame = peer })
}

// set notes what the worker does now.
func (p *progress) set(phase string, bucket int) {
	p.change(func(r *cluster.Report) {
		if r.Phase == cluster.PhaseConnect {
			r.Blame = ""
		}
		r.Phase, r.Bucket = phase, bucket
		p.flight.Add(flight.Record{Kind: flight.Phase, Generation: r.Generation, Rank: p.rank, Step: r.Step, Bucket: bucket, Name: phase})
	})
}

// left notes how the generation ended for this rank. Without an error it ended for all:
// with the run, or because all moved on.
func (p *progress) left(err error, moved bool) {
	why := "failed"
	switch {
	case err == nil:
		why = flight.Done
	case errors.Is(err, errSuperseded):
		why = "superseded"
	case errors.Is(err, errCollective):
		why = "broken"
	}
	p.change(func(r *cluster.Report) {
		r.Left = err != nil || moved
		p.flight.Add(flight.Record{Kind: flight.Left, Generation: r.Generation, Rank: p.rank, Step: r.Step, Name: why})
	})
}

// tick says that long work continues: silence would look like a hang.
func (p *progress) tick() { p.change(func(r *cluster.Report) { r.Bucket++ }) }

// state notes what the replica holds.
func (p *progress) state(s *State, has bool) {
	p.change(func(r *cluster.Report) {
		r.HasState, r.Step, r.CommitGeneration = has, -1, 0
		if has {
			r.Step, r.CommitGeneration = s.Step, s.Generation
		}
		settle(r)
	})
}

// pledge notes that this rank is about to give its part of the commit word of a step.
// Only the first step matters: who has committed one knows that the generation commits.
func (p *progress) pledge(s *State, gen uint64) {
	if s.Generation == gen {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.report.Pledged); n == 0 || p.report.Pledged[n-1] != gen {
		p.report.Pledged = append(slices.Clip(p.report.Pledged), gen)
	}
}

// settle forgets what was pledged before the worker committed a step itself.
func settle(r *cluster.Report) {
	if r.CommitGeneration == r.Generation {
		r.Pledged = nil
	}
}

// smoothing is the weight of the past in the means of a rank's own times: about the
// last ten steps count.
const smoothing = 0.9

// committed notes a step. It travels with the next report.
func (p *progress) committed(s *State, has bool, info StepInfo, spent timing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &p.report
	r.HasState, r.Step, r.CommitGeneration = has, -1, 0
	if has {
		r.Step, r.CommitGeneration = s.Step, s.Generation
	}
	settle(r)
	r.Loss, r.GradNorm, r.LR, r.ImagesPerSecond = info.Loss, info.GradNorm, info.LR, info.ImagesPerSecond
	r.Chunks = spent.chunks
	if p.usage != nil {
		r.Usage = p.usage()
	}
	average(&r.DataMillis, spent.data)
	average(&r.ComputeMillis, spent.compute)
	average(&r.WaitMillis, spent.wait)
}

// average moves an exponential mean; the first value begins it.
func average(mean *float64, d time.Duration) {
	ms := inMillis(d)
	if *mean == 0 {
		*mean = ms
	}
	*mean = smoothing**mean + (1-smoothing)*ms
}

// broken notes that the group of a generation failed, and because of whom.
func (p *progress) broken(err error, gen cluster.Generation) {
	p.change(func(r *cluster.Report) {
		r.Broken = err.Error()
		var op *allreduce.Error
		if errors.As(err, &op) && op.Peer >= 0 && op.Peer < len(gen.Members) {
			r.Blame, r.Reset = gen.Members[op.Peer].ID, reset(err)
		}
	})
}

// reset tells whether the peer's end closed the connection.
func reset(err error) bool {
	return errors.Is(err, allreduce.ErrPeerLost) &&
		(errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE))
}

// stopping notes that the worker is about to leave for good, and where the state was saved.
func (p *progress) stopping(saved *Saved) {
	p.change(func(r *cluster.Report) {
		r.Stopping = true
		if saved != nil {
			r.SavedOn = saved.Node
		}
	})
}

func (p *progress) change(f func(*cluster.Report)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.report)
	p.session.Report(p.report)
}
