package status

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// Interval is how often a page that is open gets news.
const Interval = 500 * time.Millisecond

// backlog is how many messages a slow browser may be behind before it is dropped. It
// connects again by itself and gets everything again.
const backlog = 16

// hub makes one message for all browsers that watch a run. A run that nobody watches
// costs nothing; a browser that does not read is dropped and never waited for.
type hub struct {
	mu     sync.Mutex
	topics map[string]*topic
	closed bool
	wg     sync.WaitGroup
}

type topic struct {
	listeners map[chan []byte]struct{}
	cancel    context.CancelFunc
}

func newHub() *hub { return &hub{topics: map[string]*topic{}} }

// message is what a browser gets: the view, and how many step events there are, so
// that it knows when to fetch the series again.
type message struct {
	View   View `json:"view"`
	Events int  `json:"events"`
	Epoch  int  `json:"epoch"`
}

// join adds a listener of a run; the first starts the topic. It returns nil when the
// server is closing.
func (h *hub) join(r *Run) chan []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	t := h.topics[r.Name]
	if t == nil {
		ctx, cancel := context.WithCancel(context.Background())
		t = &topic{listeners: map[chan []byte]struct{}{}, cancel: cancel}
		h.topics[r.Name] = t
		h.wg.Go(func() { h.run(ctx, r, t) })
	}
	c := make(chan []byte, backlog)
	t.listeners[c] = struct{}{}
	return c
}

// leave removes a listener; the last ends the topic.
func (h *hub) leave(r *Run, c chan []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.topics[r.Name]
	if t == nil {
		return
	}
	delete(t.listeners, c)
	if len(t.listeners) == 0 {
		t.cancel()
		delete(h.topics, r.Name)
	}
}

// run makes the messages of a topic.
func (h *hub) run(ctx context.Context, r *Run, t *topic) {
	ticker := time.NewTicker(Interval)
	defer ticker.Stop()
	for {
		if m, err := compose(ctx, r); err == nil {
			h.send(t, m)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func compose(ctx context.Context, r *Run) ([]byte, error) {
	g, err := r.look(ctx)
	if err != nil {
		return nil, err
	}
	return json.Marshal(message{View: g.View, Events: g.events, Epoch: g.epoch})
}

func (h *hub) send(t *topic, m []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range t.listeners {
		select {
		case c <- m:
		default:
			close(c) // too slow: dropped
			delete(t.listeners, c)
		}
	}
}

// close ends all topics and their listeners.
func (h *hub) close() {
	h.mu.Lock()
	h.closed = true
	for name, t := range h.topics {
		t.cancel()
		for c := range t.listeners {
			close(c)
			delete(t.listeners, c)
		}
		delete(h.topics, name)
	}
	h.mu.Unlock()
	h.wg.Wait()
}

// stream sends server-sent events until the browser goes away or falls behind.
func (s *Server) stream(w http.ResponseWriter, q *http.Request, r *Run) error {
	out := http.NewResponseController(w)
	c := s.hub.join(r)
	if c == nil {
		return errNotFound
	}
	defer s.hub.leave(r, c)
	w.Header().Set("Content-Type", "text/event-stream")
	for {
		select {
		case m, ok := <-c:
			if !ok {
				return nil
			}
			// An error means that the browser is gone; there is nobody to tell.
			if err := out.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
				return nil
			}
			if _, err := w.Write(append(append([]byte("data: "), m...), '\n', '\n')); err != nil {
				return nil
			}
			if err := out.Flush(); err != nil {
				return nil
			}
		case <-q.Context().Done():
			return nil
		}
	}
}
