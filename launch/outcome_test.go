package launch

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
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
