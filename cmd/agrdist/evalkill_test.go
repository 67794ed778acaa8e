package main

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/eval/suite"
)

// An evaluation of images, from a folder or an npz, that is killed at any moment, also
// while it prepares its reference, gives what one gives that is left alone.
func TestEvalOfImagesIsKilled(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	for _, name := range []string{"images", "images.npz"} {
		run(t, "sample", "--from", reference(t), "-n", "100", "--steps", "4", "--out", filepath.Join(work, name)).ended(exitOK)
	}
	r := rand.New(rand.NewPCG(3, uint64(time.Now().UnixNano())))
	for i, name := range []string{"images", "images.npz"} {
		of := func(cache string) *process {
			return startEnv(t, []string{"XDG_CACHE_HOME=" + filepath.Join(work, cache+name)},
				"eval", "--from", filepath.Join(work, name), "--data", "digits", "--batch", "4", "--json")
		}
		record := func(p *process) suite.Record {
			p.wait()
			p.ended(exitOK)
			var got suite.Record
			require.NoError(t, json.Unmarshal([]byte(p.stdout.String()), &got))
			return timeless(got)
		}
		began := time.Now()
		want := record(of("whole"))
		whole := time.Since(began)
		for range 2 {
			p := of("killed")
			after := time.Duration(r.Float64() * float64(whole))
			select {
			case <-time.After(after): // wherever it is then
			case <-p.done:
			}
			_ = p.cmd.Process.Kill()
			p.wait()
			t.Logf("%s: killed %s after its start, of %s", name, after, whole)
		}
		require.Equal(t, want, record(of("killed")), "%d: %s", i, name)
		left, err := filepath.Glob(filepath.Join(work, "killed"+name, "agrdist", "*.features"))
		require.NoError(t, err)
		require.Len(t, left, 1, "the reference's features are kept, and nothing else")
	}
}

// Of two commands that write one npz, the second is refused while the first is at work.
func TestTwoSamplesOfOneFile(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	args := func(n string) []string {
		return []string{"sample", "--from", reference(t), "-n", n, "--batch", "2", "--steps", "5", "--out", filepath.Join(work, "x.npz")}
	}
	p := start(t, args("100000")...)
	var part string
	p.await("the file of unfinished work", func() bool {
		found, err := filepath.Glob(filepath.Join(work, ".x.npz.*.part"))
		if err != nil || len(found) != 1 {
			return false
		}
		part = found[0]
		info, err := os.Stat(part)
		return err == nil && info.Size() > 0 // it has the lock, and has begun
	})
	p.signal(syscall.SIGSTOP) // it does not end meanwhile
	refused(t, run(t, args("4")...), exitFailed, "another agrdist sample is writing it", "wait for it, or choose another file")
	require.NoError(t, p.cmd.Process.Kill())
	p.wait()
	run(t, args("4")...).ended(exitOK)
	require.NoFileExists(t, part)
}
