package security

import (
	"crypto/tls"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPage(t *testing.T) {
	secret := []byte("a secret of more than enough bytes")
	page, err := DerivePage(secret, "run")
	require.NoError(t, err)
	again, err := DerivePage(secret, "run")
	require.NoError(t, err)
	require.Equal(t, page.Token, again.Token)
	require.Len(t, page.Token, 32)
	other, err := DerivePage(secret, "another run")
	require.NoError(t, err)
	require.NotEqual(t, page.Token, other.Token)

	handshake := func(client Page) error {
		cfg, err := page.Server()
		require.NoError(t, err)
		l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
		require.NoError(t, err)
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				_ = c.(*tls.Conn).Handshake() // what the client says of it counts
				_ = c.Close()
			}
		}()
		c, err := (&tls.Dialer{Config: client.Client()}).DialContext(t.Context(), "tcp", l.Addr().String())
		if err == nil {
			require.NoError(t, c.Close())
		}
		return err
	}
	require.NoError(t, handshake(again), "derived from the same secret")
	require.ErrorIs(t, handshake(other), ErrPageKey)
}
