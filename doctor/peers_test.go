//go:build unix

package doctor

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPeers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	open := l.Addr().String()
	require.Nil(t, Peers(t.Context(), nil))
	all := Peers(t.Context(), []string{open})
	require.Len(t, all, 1)
	require.Equal(t, OK, all[0].Status)

	require.NoError(t, l.Close())
	all = Peers(t.Context(), []string{open, "nonsense"})
	require.True(t, Failed(all))
	require.Len(t, all, 2)
	for i, peer := range []string{open, "nonsense"} {
		require.Contains(t, all[i].Name+all[i].Text, peer)
		require.NotEmpty(t, all[i].Fix)
	}
}
