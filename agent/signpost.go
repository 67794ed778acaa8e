package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/agrdist/agrdist/internal/sealed"
	"github.com/agrdist/agrdist/internal/vfs"
	"github.com/agrdist/agrdist/rundir"
)

// signpost tells this node's processes where the coordinator is. Workers take no
// part in the gossip; the address stands in a file that they read before every
// connection, so that they find a coordinator that has moved and need not be
// restarted themselves.
type signpost struct {
	path string

	mu      sync.Mutex
	addr    string        // empty: nobody knows yet
	changed chan struct{} // closed at the first address
}

func newSignpost(runDir, node string) *signpost {
	return &signpost{path: rundir.Dir(runDir).CoordinatorAddr(node), changed: make(chan struct{})}
}

// point notes where the coordinator is, for find, and writes it down for the
// workers.
func (s *signpost) point(addr string) error {
	s.mu.Lock()
	if s.addr == "" {
		close(s.changed)
	}
	s.addr = addr
	s.mu.Unlock()
	if err := sealed.Replace(vfs.OS{}, s.path, []byte(addr+"\n")); err != nil {
		return fmt.Errorf("agent: write the coordinator's address: %w", err)
	}
	return nil
}

// find returns where the coordinator is; it waits until somebody knows.
func (s *signpost) find(ctx context.Context) (string, error) {
	select {
	case <-s.changed:
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.addr, nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// takeDown removes the file.
func (s *signpost) takeDown() error {
	if err := os.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("agent: remove the coordinator's address: %w", err)
	}
	return nil
}
