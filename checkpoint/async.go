package checkpoint

import (
	"context"
	"fmt"
)

// acquire takes the slot, waiting for a save in flight.
func (s *Store) acquire(ctx context.Context) error {
	select { // a free slot goes before a cancelled context
	case s.slot <- struct{}{}:
	default:
		select {
		case s.slot <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("checkpoint: wait for the save in flight: %w", context.Cause(ctx))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.release()
		return ErrClosed
	}
	return nil
}

func (s *Store) release() { <-s.slot }

// collect returns the error of the last background save, once.
func (s *Store) collect() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.pending
	s.pending = nil
	return err
}

// Save writes a checkpoint and returns when it is durable and verified; saving
// what is there already, and good, writes nothing. It waits for a background
// save first, and leaves its error to SaveAsyncFunc, Wait or Close. Cancelling ctx
// gives up and leaves nothing behind.
func (s *Store) Save(ctx context.Context, snap *Snapshot) (Info, error) {
	if err := s.acquire(ctx); err != nil {
		return Info{}, err
	}
	defer s.release()
	return s.save(ctx, snap)
}

// SaveAsyncFunc saves a state behind the caller's back; the caller may change its
// tensors as soon as SaveAsyncFunc returns. It waits, no longer than ctx, for the save
// before: at most one is in flight. ctx does not reach into the save itself. take fills
// the buffers of the staging and returns a snapshot of them. It is called before
// SaveAsyncFunc returns and only when no save reads the buffers, which the store sees
// to.
//
// The error is either about this call (that of take, an inconsistent snapshot, ctx,
// ErrClosed) or, a *SaveError, that of the background save before. In that case this
// save has begun all the same.
func (s *Store) SaveAsyncFunc(ctx context.Context, take func(*Staging) (*Snapshot, error)) error {
	if err := s.acquire(ctx); err != nil {
		return err
	}
	snap, err := take(&s.staging)
	if err == nil {
		err = s.check(snap)
	}
	if err != nil {
		s.release()
		return fmt.Errorf("checkpoint: take snapshot: %w", err)
	}
	before := s.collect()
	background := context.WithoutCancel(ctx)
	go func() {
		defer s.release()
		if _, err := s.save(background, snap); err != nil {
			s.mu.Lock()
			s.pending = err
			s.mu.Unlock()
		}
	}()
	return before
}

// Wait waits for the save in flight, if any, and returns the error of the last
// background save if nobody has seen it yet.
func (s *Store) Wait(ctx context.Context) error {
	if err := s.acquire(ctx); err != nil {
		return err
	}
	s.release()
	return s.collect()
}

// Close waits for the save in flight, however long, and returns its error if
// nobody has seen it yet. Later saves fail with ErrClosed; reading keeps
// working. The second call does nothing.
func (s *Store) Close() error {
	if err := s.acquire(context.Background()); err != nil { //nolint:contextcheck // a save in flight must not be cut
		return nil //nolint:nilerr // ErrClosed: the second call
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.release()
	return s.collect()
}
