package checkpoint

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDirectoryWithoutPermission(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere; see TestEveryCallCanFail for the injected error")
	}
	dir := filepath.Join(t.TempDir(), "checkpoints")
	s := Open(dir, testOptions(1))
	mustSave(t, s, 1)
	require.NoError(t, os.Chmod(dir, 0o500))
	t.Cleanup(func() { require.NoError(t, os.Chmod(dir, 0o700)) })
	_, err := s.Save(t.Context(), state(2))
	require.ErrorIs(t, err, fs.ErrPermission)
	oneLine(t, err)
	require.ErrorContains(t, err, "give this user the right to write in "+dir)
	requireNewest(t, s, 1)
}

func TestSomethingInTheWay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "checkpoints")
	require.NoError(t, os.WriteFile(dir, nil, 0o600))
	_, err := Open(dir, Options{}).Save(t.Context(), state(1))
	oneLine(t, err)
	require.ErrorContains(t, err, "move it away")
	_, _, _, err = Open(dir, Options{}).Newest(t.Context())
	oneLine(t, err)
	require.NotErrorIs(t, err, ErrNoCheckpoint)
}
