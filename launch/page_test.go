package launch_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/launch"
	"github.com/agrdist/agrdist/status"
)

// A run that serves its page can be looked at and stopped by it; the address is gone
// when the run is.
func TestPageLooksAndStops(t *testing.T) {
	c := tiny(t, "cluster.workers=1", "train.steps=1000000", "checkpoint.every=0")
	links := make(chan string, 1)
	type end struct {
		out launch.Outcome
		err error
	}
	ended := make(chan end, 1)
	go func() {
		out, err := launch.Run(t.Context(), launch.Options{Config: c, Page: func(link string) { links <- link }})
		ended <- end{out, err}
	}()
	require.Contains(t, <-links, "http://127.0.0.1:")
	all := status.Endpoints(c.Out)
	require.Len(t, all, 1)
	client := status.Client{URL: all[0].URL, Token: all[0].Token}
	require.Eventually(t, func() bool {
		v, err := client.View(t.Context(), all[0].Run)
		return err == nil && v.Live && v.Step > 0 && v.Health == status.Healthy
	}, time.Minute, 20*time.Millisecond)
	require.NoError(t, client.Stop(t.Context(), all[0].Run))
	e := <-ended
	require.NoError(t, e.err)
	require.Equal(t, launch.Stopped, e.out.Ending)
	require.Positive(t, e.out.Step)
	require.Empty(t, status.Endpoints(c.Out))
	tb, err := filepath.Glob(filepath.Join(c.Out, "tb", "events.out.tfevents.*"))
	require.NoError(t, err)
	require.NotEmpty(t, tb)
}

func TestPageIsRefusedBeforeTheRun(t *testing.T) {
	c := tiny(t, "dashboard.bind=nonsense")
	_, err := launch.Run(t.Context(), launch.Options{Config: c, Page: func(string) {}})
	var refused *config.Error
	require.ErrorAs(t, err, &refused)
	require.ErrorContains(t, err, "HOST:PORT")
	require.ErrorContains(t, err, "dashboard.bind")
}
