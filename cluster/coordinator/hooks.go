package coordinator

import (
	"sync"

	"github.com/agrdist/agrdist/cluster"
)

// hooks runs the callbacks on a goroutine of its own. Generations and the end
// are queued, progress keeps only the newest.
type hooks struct {
	onGeneration func(cluster.Generation)
	onProgress   func(cluster.Status)
	onEnd        func(cluster.End)

	mu       sync.Mutex
	queue    []func()
	progress *cluster.Status
	closed   bool
	ready    chan struct{}
	done     chan struct{}
}

func startHooks(cfg ServerConfig) *hooks {
	h := &hooks{
		onGeneration: cfg.OnGeneration, onProgress: cfg.OnProgress, onEnd: cfg.OnEnd,
		ready: make(chan struct{}, 1), done: make(chan struct{}),
	}
	go h.run()
	return h
}

func (h *hooks) run() {
	defer close(h.done)
	for range h.ready {
		h.mu.Lock()
		queue, progress, closed := h.queue, h.progress, h.closed
		h.queue, h.progress = nil, nil
		h.mu.Unlock()
		for _, f := range queue {
			f()
		}
		if progress != nil {
			h.onProgress(*progress)
		}
		if closed {
			return
		}
	}
}

func (h *hooks) update(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	select {
	case h.ready <- struct{}{}:
	default:
	}
}

func (h *hooks) generation(g cluster.Generation) {
	if h.onGeneration != nil {
		h.update(func() { h.queue = append(h.queue, func() { h.onGeneration(g) }) })
	}
}

func (h *hooks) end(e cluster.End) {
	if h.onEnd != nil {
		h.update(func() { h.queue = append(h.queue, func() { h.onEnd(e) }) })
	}
}

func (h *hooks) status(s cluster.Status) { h.update(func() { h.progress = &s }) }

// stop runs what is queued and waits for it.
func (h *hooks) stop() {
	h.update(func() { h.closed = true })
	<-h.done
}
