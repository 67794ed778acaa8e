//go:build !cuda

package setup

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/config"
)

func TestNoCUDA(t *testing.T) {
	_, err := Load(config.Source{Set: []string{"device=cuda"}})
	require.ErrorIs(t, err, ErrNoCUDA)
	c, err := Load(config.Source{})
	require.NoError(t, err)
	require.Equal(t, 2, c.Cluster.Workers)
	require.Zero(t, GPUs("auto"))
	c.Device = "cuda"
	_, err = Open(DeviceOf(c, 0))
	require.ErrorIs(t, err, ErrNoCUDA)
}
