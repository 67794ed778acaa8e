package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/vfs"
	"github.com/agrdist/agrdist/internal/vfs/vfstest"
)

const memDir = "/run/checkpoints"

// scene is a store that holds step 1 and 2 and is about to save step 3.
func scene(t *testing.T, fsys vfs.FS, keep int) *Store {
	t.Helper()
	s := open(fsys, memDir, testOptions(keep))
	mustSave(t, s, 1)
	mustSave(t, s, 2)
	return s
}

// sceneFS returns a function that gives copies of the scene's file system, of
// which everything is synced.
func sceneFS(t *testing.T, keep int) func() *vfstest.Mem {
	t.Helper()
	mem := vfstest.NewMem()
	scene(t, mem, keep)
	require.NoError(t, mem.SyncDir(memDir))
	return func() *vfstest.Mem { return mem.Crash(rand.New(rand.NewPCG(0, 0))) }
}

// Each single call of a save fails in turn, with each error a disk knows: the
// error is one line that says what, where and how to mend it, the checkpoint
// before stands, and the next try succeeds and leaves nothing behind.
func TestEveryCallCanFail(t *testing.T) {
	n := len(calls(t, func(fsys vfs.FS) {
		mustSave(t, scene(t, fsys, 2), 3)
	})) - len(calls(t, func(fsys vfs.FS) { scene(t, fsys, 2) }))
	require.Greater(t, n, 50)
	causes := []error{syscall.ENOSPC, syscall.EROFS, syscall.EACCES, syscall.EIO, syscall.EDQUOT, syscall.EMFILE}
	seen := map[string]int{}
	base := sceneFS(t, 2)
	for i := range n {
		cause := causes[i%len(causes)]
		mem := base()
		var failed vfstest.Call
		h := &vfstest.Hooked{FS: mem, Hook: func(c vfstest.Call) error {
			if c.N != int64(i) {
				return nil
			}
			failed = c
			return &fs.PathError{Op: c.Op, Path: c.Path, Err: cause}
		}}
		s := open(h, memDir, testOptions(2))
		_, err := s.Save(t.Context(), state(3))
		where := fmt.Sprintf("call %d: %s %s", i, failed.Op, failed.Path)
		if err != nil {
			seen[failed.Op]++
			oneLine(t, err)
			require.ErrorIs(t, err, cause, where)
			require.Contains(t, err.Error(), "save step 3: "+failed.Op+" "+failed.Path+": "+cause.Error(), where)
			require.Contains(t, err.Error(), "the checkpoint of step 2 is untouched", where)
			if !errors.Is(cause, syscall.EMFILE) {
				require.Regexp(t, "; .*"+memDir+`[ ,:]`, err.Error(), where)
			}
		}
		snap, _, skipped, newestErr := open(mem, memDir, testOptions(2)).Newest(t.Context())
		require.NoError(t, newestErr, where)
		require.Empty(t, skipped, where)
		if err == nil {
			require.Equal(t, int64(3), snap.Step, where)
		}
		requireState(t, state(snap.Step), snap)

		mustSave(t, s, 3)
		requireNewest(t, s, 3)
		mustSave(t, s, 4)
		require.Equal(t, []string{"step-3", "step-4"}, names(t, mem, memDir), where)
	}
	for _, op := range []string{"mkdir", "create", "write", "sync", "close", "syncdir", "rename", "open", "read", "lockdir"} {
		require.Positive(t, seen[op], "no failing %s was seen", op)
	}
}

func TestAdvice(t *testing.T) {
	for cause, want := range map[error]string{
		syscall.ENOSPC:  "free 5904 bytes on the volume of /run/checkpoints, or write to another one, or keep fewer checkpoints (now 3)",
		syscall.EROFS:   "the volume of /run/checkpoints is read-only: remount it for writing or choose another run directory",
		syscall.EACCES:  "give this user the right to write in /run/checkpoints or choose another run directory",
		syscall.ENOTDIR: "something that is no checkpoint is in the way in /run/checkpoints: move it away",
	} {
		h := &vfstest.Hooked{FS: vfstest.NewMem(), Hook: func(c vfstest.Call) error {
			if c.Op == "create" {
				return &fs.PathError{Op: "open", Path: c.Path, Err: cause}
			}
			return nil
		}}
		_, err := open(h, memDir, testOptions(3)).Save(t.Context(), state(7))
		var se *SaveError
		require.ErrorAs(t, err, &se)
		require.Equal(t, want, se.Advice)
		require.Equal(t, int64(-1), se.Intact)
		require.Regexp(t, `^checkpoint: save step 7: open /run/checkpoints/\.tmp-step-7-\d+-1/config\.yaml: `, err.Error())
	}
}

func TestCancelledSaveLeavesNothing(t *testing.T) {
	mem := vfstest.NewMem()
	scene(t, mem, 0)
	ctx, cancel := context.WithCancel(t.Context())
	h := &vfstest.Hooked{FS: mem, Hook: func(c vfstest.Call) error {
		if c.Op == "create" && c.Path[len(c.Path)-len(EMAFile):] == EMAFile {
			cancel()
		}
		return nil
	}}
	_, err := open(h, memDir, testOptions(0)).Save(ctx, state(3))
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, []string{"step-1", "step-2"}, names(t, mem, memDir))
}

// What the disk gives back is compared with what was meant, before the rename:
// a disk that swallows a write makes no checkpoint and costs none.
func TestSilentlyLostWriteIsFoundBeforeTheRename(t *testing.T) {
	mem := vfstest.NewMem()
	scene(t, mem, 1)
	s := open(lossyFS{mem}, memDir, testOptions(1))
	_, err := s.Save(t.Context(), state(3))
	require.ErrorContains(t, err, "read back: ")
	require.ErrorContains(t, err, "the checkpoint of step 2 is untouched")
	require.Equal(t, []string{"step-2"}, names(t, mem, memDir))
}

// lossyFS flips a bit in every write to a model file.
type lossyFS struct{ *vfstest.Mem }

func (l lossyFS) Create(path string) (vfs.File, error) {
	f, err := l.Mem.Create(path)
	if path[len(path)-len(ModelFile):] == ModelFile {
		return lossyFile{f}, err
	}
	return f, err
}

type lossyFile struct{ vfs.File }

func (l lossyFile) Write(p []byte) (int, error) {
	q := append([]byte{}, p...)
	q[len(q)-1] ^= 1
	return l.File.Write(q)
}
