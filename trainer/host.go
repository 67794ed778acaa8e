package trainer

import (
	"context"

	"github.com/agrdist/agrdist/allreduce"
)

// hostResidence is memory that the host addresses. A goroutine of its own calls the
// group, bucket after bucket, while backward continues.
type hostResidence struct {
	*lossBoard

	grads []float32 // of the chunk in flight; the reduced gradient in the end

	// Of the generation.
	group  allreduce.Group
	acc    *allreduce.Accumulator
	last   int // the block's last chunk, -1: the rank has no chunks
	parts  [][]float32
	passed []float32 // a block of a lesson, and whether another follows in the step
	jobs   chan hostJob
	done   chan error    // an answer to each job that asks for one
	served chan struct{} // closed when the goroutine has ended
}

// hostJob is a bucket to sum, blocks of a lesson to send, or the question how those before
// went.
type hostJob struct {
	number uint32
	at     bucket
	lesson *lesson
	all    bool // blocks that are left
	ask    bool
}

// hostJobs is how many buckets may wait for the group before backward does.
const hostJobs = 1024

func (h *hostResidence) join(ctx context.Context, g allreduce.Group, p *allreduce.Plan) error {
	h.group, h.acc, h.last = g, allreduce.NewAccumulator(p, g.Rank(), len(h.grads)), blockLast(p, g.Rank())
	h.jobs, h.done, h.served = make(chan hostJob, hostJobs), make(chan error, 1), make(chan struct{})
	go func() {
		defer close(h.served)
		h.serve(ctx)
	}()
	return nil
}

// serve is the only caller of AllReduce, until leave. After a failure it drops what
// comes, up to the question.
func (h *hostResidence) serve(ctx context.Context) {
	var err error
	for job := range h.jobs {
		switch {
		case job.ask:
			h.done <- err
			err = nil
		case err != nil:
		case job.lesson != nil:
			err = h.send(ctx, job.lesson, job.all)
		default:
			err = h.allReduce(ctx, job)
		}
	}
}

func (h *hostResidence) allReduce(ctx context.Context, job hostJob) error {
	at := job.at
	if h.last >= 0 {
		h.acc.Add(h.last, at.lo, at.hi, h.grads)
	}
	h.parts = h.acc.Parts(h.parts[:0], at.lo, at.hi)
	return h.group.AllReduce(ctx, job.number, h.parts, h.grads[at.lo:at.hi])
}

// leave expects that the group was aborted, or has nothing to do.
func (h *hostResidence) leave() {
	close(h.jobs)
	<-h.served
	h.acc.Free()
}

func (h *hostResidence) overlaps() bool { return true }

func (h *hostResidence) settle(lo, hi int) error { return h.bring(lo, hi, true) }

func (h *hostResidence) transport() string { return "host" }

func (h *hostResidence) add(chunk int) { h.acc.Add(chunk, 0, len(h.grads), h.grads) }

func (h *hostResidence) reduce(_ context.Context, number uint32, at bucket) {
	h.jobs <- hostJob{number: number, at: at}
}

func (h *hostResidence) wait(context.Context) error {
	h.jobs <- hostJob{ask: true}
	return <-h.done
}

func (h *hostResidence) teach(_ context.Context, l *lesson, all bool) {
	h.jobs <- hostJob{lesson: l, all: all}
}

// send moves blocks until the teacher says that the rest has time.
func (h *hostResidence) send(ctx context.Context, l *lesson, all bool) error {
	if h.passed == nil {
		h.passed = make([]float32, transferBlock+1)
	}
	rank := h.group.Rank()
	for sent := 1; !l.done(); sent++ {
		b := l.blocks[l.next]
		values := b.of.host[b.at.lo:b.at.hi]
		word := h.passed[:len(values)+1]
		more := &word[len(values)]
		if rank == l.from {
			copy(word, values)
			if *more = 0; all || sent < l.least() || sent%l.group != 0 || len(h.jobs) == 0 {
				*more = 1
			}
		}
		if err := h.group.Broadcast(ctx, l.from, word); err != nil {
			return err
		}
		if l.learns[rank] {
			copy(values, word)
		}
		if l.next++; *more == 0 {
			break
		}
	}
	return nil
}

func (h *hostResidence) broadcast(ctx context.Context, from int, m *mirror, at bucket) error {
	return h.group.Broadcast(ctx, from, m.host[at.lo:at.hi])
}
