package checkpoint

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/vfs"
)

// mountTmpfs mounts a tiny file system, if this process may.
func mountTmpfs(t *testing.T, options string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a tmpfs takes root")
	}
	dir := t.TempDir()
	err := syscall.Mount("agrdist-test", dir, "tmpfs", 0, options)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ENODEV) {
		t.Skipf("no tmpfs can be mounted here: %v", err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) })
	return dir
}

// A volume that really is full: the save fails with one clear line, the
// checkpoint before stands, and when room has been made the next save succeeds.
func TestFullVolume(t *testing.T) {
	vol := mountTmpfs(t, "size=128k")
	dir := filepath.Join(vol, "checkpoints")
	s := Open(dir, testOptions(1))
	mustSave(t, s, 1)
	filler := fillUp(t, vol, 3) // room for the first files only

	_, err := s.Save(t.Context(), state(2))
	require.ErrorIs(t, err, syscall.ENOSPC)
	oneLine(t, err)
	require.Regexp(t, `^checkpoint: save step 2: write `+dir+`/\.tmp-step-2-\d+-\d+/\S+: no space left on device; free 5904 bytes on the volume of `+dir+
		`, or write to another one; the checkpoint of step 1 is untouched$`, err.Error())
	requireNewest(t, s, 1)
	require.Equal(t, []string{"step-1"}, names(t, vfs.OS{}, dir))

	require.NoError(t, os.Remove(filler))
	mustSave(t, s, 2)
	requireNewest(t, s, 2)
}

// fillUp leaves so many blocks free on a volume and returns the file that takes
// the rest.
func fillUp(t *testing.T, vol string, blocks uint64) string {
	t.Helper()
	path := filepath.Join(vol, "filler")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	for {
		var st syscall.Statfs_t
		require.NoError(t, syscall.Statfs(vol, &st))
		if st.Bfree <= blocks {
			return path
		}
		_, err := f.Write(make([]byte, st.Bsize))
		require.NoError(t, err)
	}
}

// A volume with room but without inodes is not blamed for its size.
func TestNoInodes(t *testing.T) {
	vol := mountTmpfs(t, "size=4m,nr_inodes=16")
	dir := filepath.Join(vol, "checkpoints")
	s := Open(dir, testOptions(1))
	mustSave(t, s, 1)
	for i := 0; ; i++ {
		f, err := os.Create(filepath.Join(vol, string(rune('a'+i))))
		if errors.Is(err, syscall.ENOSPC) {
			break
		}
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	_, err := s.Save(t.Context(), state(2))
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.ErrorContains(t, err, "no inodes")
	require.NotContains(t, err.Error(), "free ")
	requireNewest(t, s, 1)
}

func TestReadOnlyVolume(t *testing.T) {
	vol := mountTmpfs(t, "size=1m")
	dir := filepath.Join(vol, "checkpoints")
	s := Open(dir, testOptions(1))
	mustSave(t, s, 1)
	require.NoError(t, syscall.Mount("", vol, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	_, err := s.Save(t.Context(), state(2))
	require.ErrorIs(t, err, syscall.EROFS)
	oneLine(t, err)
	require.ErrorContains(t, err, "the volume of "+dir+" is read-only: remount it for writing or choose another run directory; the checkpoint of step 1 is untouched")
	requireNewest(t, s, 1)
	_, err = LockRun(vol)
	require.ErrorContains(t, err, "is read-only")
	oneLine(t, err)
}
