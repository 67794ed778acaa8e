package membership

import (
	"fmt"
	"sync"
)

// Node is one live process of the run as gossip knows it.
type Node struct {
	// Name is unique among all incarnations: Meta.Node plus a random suffix.
	Name string
	// Addr is the gossip address, IP:PORT.
	Addr string
	Meta Meta
	// Self marks this process.
	Self bool
}

// EventKind says what happened to a node.
type EventKind uint8

// The kinds of events. Left is best effort: a node that said good-bye to others
// only is reported as Failed.
const (
	Joined EventKind = iota + 1
	Updated
	Left
	Failed
)

// String returns the kind as it stands in logs.
func (k EventKind) String() string {
	switch k {
	case Joined:
		return "joined"
	case Updated:
		return "updated"
	case Left:
		return "left"
	case Failed:
		return "failed"
	default:
		return fmt.Sprintf("EventKind(%d)", uint8(k))
	}
}

// Event is the latest that is known about a node.
type Event struct {
	Kind EventKind
	Node Node
}

// eventQueue hands events from callbacks that must not block to a consumer that
// may be slow. It keeps one pending event a node, the latest, in the order in
// which the nodes first became pending: its size is bounded by the number of
// nodes, and a consumer always converges on the present.
type eventQueue struct {
	out chan Event

	mu      sync.Mutex
	pending map[string]Event
	order   []string
	wake    chan struct{} // capacity 1
}

func newEventQueue() *eventQueue {
	return &eventQueue{out: make(chan Event), pending: map[string]Event{}, wake: make(chan struct{}, 1)}
}

// push never blocks.
func (q *eventQueue) push(e Event) {
	q.mu.Lock()
	old, ok := q.pending[e.Node.Name]
	if !ok {
		q.order = append(q.order, e.Node.Name)
	} else if e.Kind == Updated && old.Kind == Joined {
		e.Kind = Joined // the consumer has not heard of the node yet
	}
	q.pending[e.Node.Name] = e
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *eventQueue) pop() (Event, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.order) == 0 {
		return Event{}, false
	}
	name := q.order[0]
	q.order = q.order[1:]
	e := q.pending[name]
	delete(q.pending, name)
	return e, true
}

// run delivers events until done is closed, then closes the channel.
func (q *eventQueue) run(done <-chan struct{}) {
	defer close(q.out)
	for {
		e, ok := q.pop()
		if !ok {
			select {
			case <-q.wake:
				continue
			case <-done:
				return
			}
		}
		select {
		case q.out <- e:
		case <-done:
			return
		}
	}
}
