package membership

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/stretchr/testify/require"
)

func TestSetKeys(t *testing.T) {
	a, b, c := key(), key(), key()
	ring, err := memberlist.NewKeyring(nil, a)
	require.NoError(t, err)
	for _, want := range [][][]byte{{a, b}, {b, a}, {b}, {b, c}, {c, b}, {c, a}, {a, c}, {c}, {a, b}, {b, c}, {a}} {
		require.NoError(t, setKeys(ring, want))
		require.Equal(t, want, ring.GetKeys())
	}
	require.Error(t, setKeys(ring, nil))
	require.Error(t, setKeys(ring, [][]byte{{1}}))
	require.Equal(t, [][]byte{a}, ring.GetKeys())
}

// The key of a gossip is replaced in three phases, and in every one of them, with some
// nodes a phase ahead of others, whoever comes is let in. Who has the old key alone is not
// let in any more after the last one.
func TestKeysRotate(t *testing.T) {
	old, fresh := key(), key()
	phases := [][][]byte{{old}, {old, fresh}, {fresh, old}, {fresh}}
	a := loopback(t, "a", func(c *Config) { c.SecretKey = old })
	member := func(name string, keys [][]byte) *Membership {
		m := loopback(t, name, func(c *Config) {
			c.SecretKey, c.AlsoKeys, c.Seeds = keys[0], keys[1:], []string{a.Addr()}
		})
		require.Eventually(t, func() bool { return len(m.Members()) > 1 }, 20*time.Second, 5*time.Millisecond, "%s is not let in", name)
		return m
	}
	b := member("b", phases[0])
	heard := func(from, to *Membership, phase string) {
		require.NoError(t, from.UpdateMeta(Meta{Phase: phase}))
		require.Eventually(t, func() bool {
			for _, n := range to.Members() {
				if n.Name == from.Name() {
					return n.Meta.Phase == phase
				}
			}
			return false
		}, 20*time.Second, 5*time.Millisecond, phase)
	}
	for i, keys := range phases[1:] {
		require.NoError(t, a.SetKeys(keys))
		before, after := fmt.Sprintf("a is in phase %d, b before it", i+1), fmt.Sprintf("both are in phase %d", i+1)
		heard(a, b, before)
		heard(b, a, before)
		late := member("late", phases[i]) // it has not seen the change
		late.Stop()
		require.NoError(t, b.SetKeys(keys))
		heard(a, b, after)
		heard(b, a, after)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	stranger := loopback(t, "stranger", func(c *Config) { c.SecretKey, c.Seeds = old, []string{a.Addr()} })
	_, err := stranger.FindCoordinator(ctx)
	require.ErrorContains(t, err, "another secret")
	require.Len(t, stranger.Members(), 1)

	require.Error(t, a.SetKeys(nil))
	open := loopback(t, "open", func(*Config) {})
	require.Error(t, open.SetKeys([][]byte{fresh}), "it has none")
	open.Stop()
}
