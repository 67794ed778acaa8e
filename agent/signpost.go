package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"github.com/agrdist/agrdist/cluster/membership"
)

// signpost tells this node's workers where the coordinator is. Workers take no
// part in the gossip; the address stands in a file that they read before every
// connection, so that they find a coordinator that was restarted elsewhere and
// need not be restarted themselves.
type signpost struct {
	path   string
	cancel context.CancelFunc
	done   chan struct{}
}

// signpostEvery is the pause between two looks at the gossip.
const signpostEvery = 500 * time.Millisecond

// newSignpost writes the address that is known now and keeps it up to date until
// it is taken down.
func newSignpost(runDir, node, addr string, gossip *membership.Membership, log *slog.Logger) (*signpost, error) {
	s := &signpost{path: filepath.Join(runDir, "coordinator-"+node+".addr"), done: make(chan struct{})}
	if err := s.write(addr); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() {
		defer close(s.done)
		tick := time.NewTicker(signpostEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			now, err := gossip.FindCoordinator(ctx)
			if err != nil || now == addr {
				continue
			}
			if err := s.write(now); err != nil {
				log.Warn("workers cannot be told where the coordinator is", "err", err)
				continue
			}
			log.Info("the coordinator has moved", "addr", now)
			addr = now
		}
	}()
	return s, nil
}

func (s *signpost) write(addr string) error {
	if err := renameio.WriteFile(s.path, []byte(addr+"\n"), 0o644); err != nil {
		return fmt.Errorf("agent: write the coordinator's address: %w", err)
	}
	return nil
}

// takeDown ends it and removes the file.
func (s *signpost) takeDown() error {
	s.cancel()
	<-s.done
	if err := os.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("agent: remove the coordinator's address: %w", err)
	}
	return nil
}
