package coordinator

import (
	"slices"
	"sync"

	pb "github.com/agrdist/agrdist/cluster/clusterpb"
)

// outbox holds what is to be sent down one stream. Putting never blocks; the
// stream's handler takes. It stays small: a newer message replaces the older
// ones that it makes pointless.
type outbox[M any] struct {
	mu     sync.Mutex
	queue  []M
	closed bool
	ready  chan struct{} // has room for one: something to take, or closed
	stale  func(old, next M) bool
}

func newOutbox[M any](stale func(old, next M) bool) *outbox[M] {
	return &outbox[M]{ready: make(chan struct{}, 1), stale: stale}
}

// put queues a message and drops those that it makes stale.
func (o *outbox[M]) put(m M) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.queue = append(slices.DeleteFunc(o.queue, func(old M) bool { return o.stale(old, m) }), m)
	o.wake()
}

// close ends the stream once the queue is sent.
func (o *outbox[M]) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.wake()
}

func (o *outbox[M]) wake() {
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

// take empties the queue.
func (o *outbox[M]) take() (queue []M, closed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	queue, o.queue = o.queue, nil
	return queue, o.closed
}

// staleWork: a generation replaces all earlier ones and their aborts.
func staleWork(old, next *pb.WorkResponse) bool {
	if next.GetGeneration() == nil {
		return false
	}
	return old.GetGeneration() != nil || old.GetAbort() != nil
}

// staleSupervise: a generation replaces an earlier one.
func staleSupervise(old, next *pb.SuperviseResponse) bool {
	return old.GetGeneration() != nil && next.GetGeneration() != nil
}
