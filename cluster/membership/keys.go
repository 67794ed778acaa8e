package membership

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/memberlist"
)

// SetKeys changes the keys of a membership that has some: what this node says is under the
// first from now on, and what others say is accepted under any of them.
func (m *Membership) SetKeys(keys [][]byte) error {
	m.life.Lock()
	defer m.life.Unlock()
	if m.keys == nil {
		return errors.New("membership: a gossip without a key gets none while it runs")
	}
	if m.stopped {
		return ErrStopped
	}
	if err := setKeys(m.keys, keys); err != nil {
		return fmt.Errorf("membership: change the keys: %w", err)
	}
	return nil
}

// setKeys makes a ring have these keys in this order. The library reads its keys while they
// change, and removes one by moving those behind it in the memory that it reads: so only
// the last one is ever removed.
func setKeys(ring *memberlist.Keyring, keys [][]byte) error {
	if len(keys) == 0 {
		return errors.New("there are none")
	}
	if err := ring.AddKey(keys[0]); err != nil {
		return err //nolint:wrapcheck // SetKeys says what it was about
	}
	if err := ring.UseKey(keys[0]); err != nil {
		return err //nolint:wrapcheck // SetKeys says what it was about
	}
	for {
		have := ring.GetKeys()
		if n := len(have); n <= len(keys) && slices.EqualFunc(have, keys[:n], bytes.Equal) {
			break
		}
		if err := ring.RemoveKey(have[len(have)-1]); err != nil {
			return err //nolint:wrapcheck // SetKeys says what it was about
		}
	}
	for _, key := range keys {
		if err := ring.AddKey(key); err != nil {
			return err //nolint:wrapcheck // SetKeys says what it was about
		}
	}
	return nil
}
