package launch

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/rundir"
	"github.com/agrdist/agrdist/worker/spec"
)

// Which events are this run's is a matter of their place in the file: the clock may be set
// while it runs.
func TestLastStepIgnoresTheClock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.jsonl")
	require.EqualValues(t, -1, lastStep(path, 0), "no file")
	before := `{"event":"step","time":"2031-01-01T00:00:00.000Z","step":90}` + "\n"
	after := `{"event":"step","time":"1970-01-01T00:00:00.000Z","step":7}` + "\n" + `{"event":"generation","step":7}` + "\n" + `{"event":"st`
	require.NoError(t, os.WriteFile(path, []byte(before), 0o600))
	told := int64(len(before))
	require.EqualValues(t, -1, lastStep(path, told), "none of this run")
	require.NoError(t, os.WriteFile(path, []byte(before+after), 0o600))
	require.EqualValues(t, 7, lastStep(path, told))
	require.NoError(t, os.WriteFile(path, []byte(after[:20]), 0o600))
	require.EqualValues(t, -1, lastStep(path, told), "begun again, torn")
}

// A node whose workers had no part in the checkpoint of a stop repeats the coordinator's
// word, if there is one, and never says "saved" without.
func TestSavedElsewhere(t *testing.T) {
	t.Parallel()
	r := &run{cfg: &config.Config{}, dir: rundir.Dir(t.TempDir()), node: "n1"}
	end := cluster.End{Outcome: cluster.OutcomeStopped, ExitCode: cluster.ExitStopped, Step: 60, SavedOn: "n0"}
	o := r.outcome(end, 0)
	require.Equal(t, Stopped, o.Ending)
	require.Equal(t, cluster.ExitStopped, o.Code)
	require.Equal(t, &spec.Saved{Step: 60, Node: "n0"}, o.Saved)

	r.saved.Store(&spec.Saved{Step: 40, Node: "n1", Path: "old"}) // cut off, it had saved before
	require.Equal(t, "n0", r.outcome(end, 0).Saved.Node)
	r.saved.Store(&spec.Saved{Step: 60, Node: "n1", Path: "here"})
	require.Equal(t, "here", r.outcome(end, 0).Saved.Path)

	r.saved.Store(nil)
	end.SavedOn = ""
	o = r.outcome(end, 0)
	require.Nil(t, o.Saved)
	require.Equal(t, cluster.ExitFailed, o.Code)
}
