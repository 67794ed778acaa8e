package security

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKeepSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	a, err := KeepSecret(path)
	require.NoError(t, err)
	require.Len(t, a, 43)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	b, err := KeepSecret(path)
	require.NoError(t, err)
	require.Equal(t, a, b, "the same run, started again")

	require.NoError(t, os.Chmod(path, 0o644))
	_, err = KeepSecret(path)
	require.ErrorIs(t, err, ErrSecretFile, "others may have read it")
	require.NoError(t, os.Chmod(path, 0o600))
	for _, damaged := range []string{"", "short", strings.Repeat("\x00", 45)} {
		require.NoError(t, os.WriteFile(path, []byte(damaged), 0o600))
		_, err = KeepSecret(path)
		require.ErrorIs(t, err, ErrSecretFile)
		require.ErrorContains(t, err, path)
		require.ErrorContains(t, err, "remove the file, and the run makes another one")
	}
	_, err = KeepSecret(filepath.Join(path, "x"))
	require.Error(t, err)
}

func TestLocalSecret(t *testing.T) {
	const addr = "127.0.0.1:1" // nothing of ours ever listens there
	_, err := LocalSecret(addr)
	require.ErrorIs(t, err, ErrNoLocalSecret)
	want := GenerateSecret()
	remove, err := PublishLocal(addr, want)
	require.NoError(t, err)
	for _, same := range []string{addr, "localhost:1"} {
		got, err := LocalSecret(same)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err = LocalSecret("127.0.0.1:2")
	require.ErrorIs(t, err, ErrNoLocalSecret)
	remove()
	remove()
	_, err = LocalSecret(addr)
	require.ErrorIs(t, err, ErrNoLocalSecret)
}

// A directory that another user has made, or can look into, is not used.
func TestOwned(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	require.Error(t, owned(dir))
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, owned(dir))
	link := dir + ".link"
	require.NoError(t, os.Symlink(dir, link))
	require.Error(t, owned(link))
	require.NoError(t, os.Chmod(dir, 0o750))
	require.Error(t, owned(dir))
	if os.Getuid() == 0 {
		require.NoError(t, os.Chmod(dir, 0o700))
		require.NoError(t, os.Chown(dir, 65534, 65534))
		require.Error(t, owned(dir), "another user's")
	}
}

// Computed apart from this package with argon2-cffi: a promise to other builds.
func TestStretchGolden(t *testing.T) {
	require.Equal(t, goldenStretched, string(Stretch(secret, "run")))
	require.NotEqual(t, goldenStretched, string(Stretch(secret, "run2")))
}
