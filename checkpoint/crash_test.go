package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/vfs"
	"github.com/agrdist/agrdist/internal/vfs/vfstest"
)

var errPowerCut = errors.New("power cut")

// crashes is what may be found after a crash: of what was not synced, all, nothing, a part,
// or any mixture.
func crashes(mem *vfstest.Mem, r *rand.Rand) map[string]*vfstest.Mem {
	after := map[string]*vfstest.Mem{"any": mem.Crash(r)}
	for _, loss := range vfstest.Losses {
		after[loss.String()] = mem.CrashWith(loss)
	}
	return after
}

// The end comes at every single call of a save, before it, in the middle of it (half a
// write) and after it (that is, before the next), and the disk keeps all, nothing or a part
// of what was not synced. What is found afterwards is the old state or the new one, whole;
// the new one for certain once Save has returned; and nothing that claims to be a
// checkpoint and is none. The next start clears the rest away.
func TestCrashAtEveryCall(t *testing.T) {
	for name, replace := range map[string]bool{"new step": false, "replacing another history": true} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(3, 4))
			target := int64(3)
			base := sceneFS(t, 1)
			if replace {
				target = 2
				mem := base()
				other := state(2)
				other.Seed = 7
				_, err := open(mem, memDir, testOptions(1)).Save(t.Context(), other)
				require.NoError(t, err)
				require.NoError(t, mem.SyncDir(memDir))
				base = func() *vfstest.Mem { return mem.CrashWith(vfstest.Kept) }
			}
			for i := int64(0); ; i++ {
				mem := base()
				h := cutAfter(mem, i)
				_, err := open(h, memDir, testOptions(1)).Save(t.Context(), state(target))
				for loss, after := range crashes(mem, r) {
					where := fmt.Sprintf("call %d, unsynced data: %s", i, loss)
					s := open(after, memDir, testOptions(1))
					snap, _, skipped, newestErr := s.Newest(t.Context())
					require.NoError(t, newestErr, where)
					require.Empty(t, skipped, "a name that was given means a whole checkpoint, %s", where)
					want := state(2)
					if replace {
						want.Seed = 7
					}
					if err == nil || snap.Step == 3 || replace && snap.Seed != 7 {
						want = state(target)
					}
					requireState(t, want, snap)
					_, bad, verifyErr := s.Verify(t.Context())
					require.NoError(t, verifyErr)
					require.Empty(t, bad, "not even an old one, half deleted, %s", where)

					require.NoError(t, s.Tidy(t.Context()))
					for _, left := range names(t, after, memDir) {
						require.Regexp(t, "^step-[0-9]+$", left, where)
					}
					again, _, skipped, newestErr := s.Newest(t.Context())
					require.NoError(t, newestErr, where)
					require.Empty(t, skipped, where)
					requireState(t, want, again)
					if loss == "any" { // the process continues from there
						mustSave(t, s, 9)
						require.Equal(t, []string{"step-9"}, names(t, after, memDir))
					}
				}
				if h.Calls() <= i {
					require.NoError(t, err)
					require.Greater(t, i, int64(50))
					return
				}
			}
		})
	}
}

// The end comes at every call of clearing up, which a start does: no checkpoint is lost by
// it, and the next start clears up.
func TestCrashAtEveryCallOfTidy(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	left := func() *vfstest.Mem {
		mem := sceneFS(t, 2)()
		s := open(mem, memDir, testOptions(2))
		mustSave(t, s, 3)
		for _, dir := range []string{".tmp-step-4-77-1", ".trash-step-1-77"} {
			require.NoError(t, mem.Mkdir(memDir+"/"+dir))
			f, err := mem.Create(memDir + "/" + dir + "/" + ModelFile)
			require.NoError(t, err)
			require.NoError(t, f.Close())
		}
		require.NoError(t, mem.Rename(memDir+"/step-3", memDir+"/.replaced-step-3"))
		return mem
	}
	for i := int64(0); ; i++ {
		mem := left()
		h := cutAfter(mem, i)
		_ = open(h, memDir, testOptions(2)).Tidy(t.Context())
		for loss, after := range crashes(mem, r) {
			where := fmt.Sprintf("call %d, unsynced data: %s", i, loss)
			s := open(after, memDir, testOptions(2))
			requireNewest(t, s, 3)
			require.NoError(t, s.Tidy(t.Context()))
			require.Equal(t, []string{"step-2", "step-3"}, names(t, after, memDir), where)
			requireNewest(t, s, 3)
		}
		if h.Calls() <= i {
			require.Greater(t, i, int64(8))
			return
		}
	}
}

// The end comes at every call of an export: there is a whole pipeline or none, and the
// next export clears up.
func TestCrashAtEveryCallOfExport(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	const dir = "/out/pipeline"
	for i := int64(0); ; i++ {
		mem := vfstest.NewMem()
		h := cutAfter(mem, i)
		err := export(h, dir, testPipeline(t, false))
		for loss, after := range crashes(mem, r) {
			where := fmt.Sprintf("call %d, unsynced data: %s", i, loss)
			there, existsErr := after.Exists(dir)
			require.NoError(t, existsErr)
			if err == nil {
				require.True(t, there, where)
			}
			if there {
				for _, file := range []string{indexFile, "scheduler/" + schedulerFile, "unet/" + unetFile, "unet/" + weightsFile("", ".safetensors")} {
					want, err := vfs.ReadFile(wholeExport(t), dir+"/"+file, 1<<20)
					require.NoError(t, err)
					got, err := vfs.ReadFile(after, dir+"/"+file, 1<<20)
					require.NoError(t, err, where)
					require.Equal(t, want, got, where)
				}
				require.NoError(t, after.RemoveAll(dir))
			}
			require.NoError(t, export(after, dir, testPipeline(t, false)))
			require.Equal(t, []string{"pipeline"}, names(t, after, "/out"), where)
		}
		if h.Calls() <= i {
			require.Greater(t, i, int64(30))
			return
		}
	}
}

func wholeExport(t *testing.T) vfs.FS {
	t.Helper()
	mem := vfstest.NewMem()
	require.NoError(t, export(mem, "/out/pipeline", testPipeline(t, false)))
	return mem
}

// cutAfter returns a file system that ends, with everything still as it was, at
// the n-th call.
func cutAfter(fsys vfs.FS, n int64) *vfstest.Hooked {
	return &vfstest.Hooked{FS: fsys, Hook: func(c vfstest.Call) error {
		if c.N >= n {
			return errPowerCut
		}
		return nil
	}}
}

// A process is killed at one call, the next one clears up after it and loses
// the power at another: what the first had not synced is still unsynced then.
func TestKilledThenPowerCut(t *testing.T) {
	base := sceneFS(t, 1)
	r := rand.New(rand.NewPCG(5, 6))
	for range 60 {
		mem := base()
		first, second := r.Int64N(90), r.Int64N(90)
		target := 2 + r.Int64N(2) // step 2 again, of another history, or step 3
		one := state(target)
		one.Seed = 8
		_, err1 := open(cutAfter(mem, first), memDir, testOptions(1)).Save(t.Context(), one)
		two := state(target)
		two.Seed = 9
		_, err2 := open(cutAfter(mem, second), memDir, testOptions(1)).Save(t.Context(), two)

		where := fmt.Sprintf("step %d, killed at %d, cut at %d", target, first, second)
		s := open(mem.Crash(r), memDir, testOptions(1))
		snap, _, skipped, err := s.Newest(t.Context())
		require.NoError(t, err, where)
		require.Empty(t, skipped, where)
		_, bad, err := s.Verify(t.Context())
		require.NoError(t, err, where)
		require.Empty(t, bad, where)
		switch {
		case err2 == nil:
			require.Equal(t, uint64(9), snap.Seed, where)
		case err1 == nil:
			require.Contains(t, []uint64{8, 9}, snap.Seed, where)
		}
		if snap.Seed < 8 || snap.Seed > 9 {
			requireState(t, state(2), snap)
		} else {
			require.Equal(t, target, snap.Step, where)
		}
	}
}

// The worst moment of all: the first process dies after its renames and before
// it synced them; the second removes what they replaced and loses the power.
func TestPowerCutWhileClearingUp(t *testing.T) {
	base := sceneFS(t, 1)
	r := rand.New(rand.NewPCG(7, 8))
	other := state(2)
	other.Seed = 8
	for range 40 {
		mem := base()
		renames := 0
		first := &vfstest.Hooked{FS: mem, Hook: func(c vfstest.Call) error {
			if c.Op == "rename" {
				renames++
			}
			if renames == 2 && c.Op != "rename" {
				return errPowerCut
			}
			return nil
		}}
		_, err := open(first, memDir, testOptions(1)).Save(t.Context(), other)
		require.ErrorIs(t, err, errPowerCut)
		require.Contains(t, names(t, mem, memDir), ".replaced-step-2")

		cleared := false
		second := &vfstest.Hooked{FS: mem, Hook: func(c vfstest.Call) error {
			if cleared {
				return errPowerCut
			}
			cleared = c.Op == "removeall" && strings.Contains(c.Path, replacedPrefix)
			return nil
		}}
		_, err = open(second, memDir, testOptions(1)).Save(t.Context(), state(3))
		require.ErrorIs(t, err, errPowerCut)
		require.True(t, cleared)

		s := open(mem.Crash(r), memDir, testOptions(1))
		snap, _, skipped, err := s.Newest(t.Context())
		require.NoError(t, err)
		require.Empty(t, skipped)
		requireState(t, other, snap)
	}
}

// lockless is a file system without locks, as some network ones are.
type lockless struct{ *vfstest.Mem }

func (lockless) LockDir(string) (io.Closer, error) { return nil, vfs.ErrNoLocks }

// Without locks nobody can tell the living from the dead: leftovers stay, and
// are in nobody's way.
func TestWithoutLocks(t *testing.T) {
	fsys := lockless{vfstest.NewMem()}
	mine := fmt.Sprintf("%s/.tmp-step-3-%d-1", memDir, os.Getpid())
	require.NoError(t, fsys.MkdirAll(mine))
	s := open(fsys, memDir, testOptions(1))
	mustSave(t, s, 3)
	require.Equal(t, []string{mine[len(memDir)+1:], "step-3"}, names(t, fsys, memDir))
	requireNewest(t, s, 3)
}
