package setup

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/agrdist/agrdist/config"
)

func TestPin(t *testing.T) {
	c := config.Default()
	c.Device, c.Train.Threads, c.Cluster.Workers = "cpu", 1, 1
	d, err := Open(DeviceOf(&c, 0))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })

	release, err := d.Pin(&c, 0)
	require.NoError(t, err)
	release()

	c.Train.PinThreads = true
	release, err = d.Pin(&c, 0)
	require.NoError(t, err)
	var now unix.CPUSet // of the thread that Pin has tied this goroutine to
	require.NoError(t, unix.SchedGetaffinity(0, &now))
	require.Equal(t, 1, now.Count())
	release()

	c.Cluster.Workers = 1 << 12
	_, err = d.Pin(&c, 0)
	var refused *config.Error
	require.ErrorAs(t, err, &refused)
	require.ErrorContains(t, err, "train.pin_threads")
}
