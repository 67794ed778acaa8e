package vfstest_test

import (
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/vfs"
	"github.com/agrdist/agrdist/internal/vfs/vfstest"
)

func put(t *testing.T, fsys vfs.FS, path, text string, sync bool) {
	t.Helper()
	f, err := fsys.Create(path)
	require.NoError(t, err)
	_, err = f.Write([]byte(text))
	require.NoError(t, err)
	if sync {
		require.NoError(t, f.Sync())
	}
	require.NoError(t, f.Close())
}

// The two file systems answer alike.
func TestContract(t *testing.T) {
	for name, fsys := range map[string]vfs.FS{
		"os":  vfs.OS{},
		"mem": vfstest.NewMem(),
		"hooked": &vfstest.Hooked{FS: vfstest.NewMem(), Hook: func(vfstest.Call) error {
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "a", "b")
			_, err := fsys.ReadDir(root)
			require.ErrorIs(t, err, fs.ErrNotExist)
			require.NoError(t, fsys.MkdirAll(root))
			require.NoError(t, fsys.MkdirAll(root))
			d := filepath.Join(root, "d")
			require.NoError(t, fsys.Mkdir(d))
			require.ErrorIs(t, fsys.Mkdir(d), fs.ErrExist)
			require.ErrorIs(t, fsys.Mkdir(filepath.Join(root, "x", "y")), fs.ErrNotExist)

			f := filepath.Join(d, "f")
			put(t, fsys, f, "hello", true)
			_, err = fsys.Create(f)
			require.ErrorIs(t, err, fs.ErrExist)
			b, err := vfs.ReadFile(fsys, f, 5)
			require.NoError(t, err)
			require.Equal(t, "hello", string(b))
			_, err = vfs.ReadFile(fsys, f, 4)
			require.ErrorContains(t, err, "too large")
			_, err = fsys.Open(d)
			require.Error(t, err)
			_, err = fsys.Open(filepath.Join(d, "none"))
			require.ErrorIs(t, err, fs.ErrNotExist)

			lock, err := fsys.LockDir(d)
			require.NoError(t, err)
			_, err = fsys.LockDir(d)
			require.ErrorIs(t, err, vfs.ErrLocked)
			e := filepath.Join(root, "e")
			require.NoError(t, fsys.Rename(d, e))
			_, err = fsys.LockDir(e)
			require.ErrorIs(t, err, vfs.ErrLocked, "the lock goes with the directory")
			require.NoError(t, lock.Close())
			lock, err = fsys.LockDir(e)
			require.NoError(t, err)
			require.NoError(t, lock.Close())

			require.NoError(t, fsys.Mkdir(d))
			require.NoError(t, fsys.Rename(e, d), "onto an empty directory")
			require.NoError(t, fsys.Mkdir(e))
			require.Error(t, fsys.Rename(e, d), "onto one that is not empty")
			require.NoError(t, fsys.RemoveAll(e))
			require.NoError(t, fsys.Rename(d, e))

			put(t, fsys, filepath.Join(e, "g"), "new", true)
			require.NoError(t, fsys.Rename(filepath.Join(e, "g"), filepath.Join(e, "f")), "onto a file")
			b, err = vfs.ReadFile(fsys, filepath.Join(e, "f"), 5)
			require.NoError(t, err)
			require.Equal(t, "new", string(b))

			require.NoError(t, fsys.SyncDir(root))
			names, err := fsys.ReadDir(root)
			require.NoError(t, err)
			require.Equal(t, []string{"e"}, names)
			ok, err := fsys.Exists(d)
			require.NoError(t, err)
			require.False(t, ok)
			ok, err = fsys.Exists(filepath.Join(e, "f"))
			require.NoError(t, err)
			require.True(t, ok)
			require.NoError(t, fsys.RemoveAll(e))
			require.NoError(t, fsys.RemoveAll(e))
			names, err = fsys.ReadDir(root)
			require.NoError(t, err)
			require.Empty(t, names)
		})
	}
}

func TestMemForgetsWhatWasNotSynced(t *testing.T) {
	m := vfstest.NewMem()
	require.NoError(t, m.MkdirAll("/d"))
	require.NoError(t, m.SyncDir("/"))
	put(t, m, "/d/synced", "hello", true)
	put(t, m, "/d/loose", "hello", false)
	require.NoError(t, m.SyncDir("/d"))
	put(t, m, "/d/unnamed", "hello", true)
	require.NoError(t, m.Rename("/d/synced", "/d/renamed"))

	seen := map[string]int{}
	r := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		c := m.Crash(r)
		names, err := c.ReadDir("/d")
		require.NoError(t, err)
		for _, n := range names {
			b, err := vfs.ReadFile(c, "/d/"+n, 100)
			require.NoError(t, err)
			seen[n+"="+string(b)]++
		}
	}
	require.Positive(t, seen["synced=hello"])
	require.Positive(t, seen["renamed=hello"])
	require.Equal(t, 300, seen["synced=hello"]+seen["renamed=hello"], "a rename is all or nothing")
	require.Positive(t, seen["loose="])
	require.Positive(t, seen["loose=he"])
	require.Positive(t, seen["loose=he\x00\x00\x00"])
	require.Positive(t, seen["loose=hello"])
	require.Positive(t, seen["unnamed=hello"])
	require.Less(t, seen["unnamed=hello"], 300)
}

func TestMemCrashWith(t *testing.T) {
	m := vfstest.NewMem()
	require.NoError(t, m.MkdirAll("/d"))
	require.NoError(t, m.SyncDir("/"))
	put(t, m, "/d/synced", "hello", true)
	put(t, m, "/d/loose", "hello", false)
	require.NoError(t, m.SyncDir("/d"))
	require.NoError(t, m.Rename("/d/loose", "/d/renamed"))
	for loss, want := range map[vfstest.Loss]map[string]string{
		vfstest.Kept: {"synced": "hello", "renamed": "hello"},
		vfstest.Lost: {"synced": "hello", "loose": ""},
		vfstest.Torn: {"synced": "hello", "renamed": "he\x00\x00\x00"},
	} {
		c := m.CrashWith(loss)
		names, err := c.ReadDir("/d")
		require.NoError(t, err)
		got := map[string]string{}
		for _, n := range names {
			b, err := vfs.ReadFile(c, "/d/"+n, 100)
			require.NoError(t, err)
			got[n] = string(b)
		}
		require.Equal(t, want, got, loss)
	}
}
