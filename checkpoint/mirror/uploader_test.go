package mirror_test

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/checkpoint/mirror"
)

// uploading runs f with an uploader to a bucket; said is what people were told.
func uploading(t *testing.T, o mirror.Options, f func(t *testing.T, b *memory, up *mirror.Uploader, said *[]string)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b, said := newMemory(), []string{}
		up := mirror.Start(mirror.New(b, o), func(text string) { said = append(said, text) })
		defer up.Close()
		f(t, b, up, &said)
	})
}

func TestUploaderTriesAgainAndSaysSoOnce(t *testing.T) {
	s := open(t)
	d10, d20 := save(t, s, 10, 0), save(t, s, 20, 0)
	uploading(t, mirror.Options{}, func(t *testing.T, b *memory, up *mirror.Uploader, said *[]string) {
		t.Helper()
		var tries atomic.Int32
		var away atomic.Bool
		away.Store(true)
		b.before = func(op, _ string) error {
			if op == "list" {
				tries.Add(1)
			}
			if away.Load() {
				return errors.New("connection refused")
			}
			return nil
		}
		up.Add(10, d10)
		synctest.Wait()
		require.Len(t, *said, 1)
		require.Contains(t, (*said)[0], "the checkpoint of step 10 is saved, but not copied: mem://b/p: list step-: connection refused")
		up.Add(20, d20) // takes the place of step 10
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.Len(t, *said, 1, "once")
		require.Greater(t, tries.Load(), int32(10))
		require.Less(t, tries.Load(), int32(20), "with growing pauses")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorContains(t, up.Wait(ctx), "connection refused")
		require.Equal(t, int64(-1), up.Pushed())

		away.Store(false)
		require.NoError(t, up.Wait(t.Context()))
		require.Equal(t, int64(20), up.Pushed())
		require.Len(t, *said, 2)
		require.Contains(t, (*said)[1], "mem://b/p has the checkpoint of step 20")
		require.NotContains(t, b.keys(), "step-10/manifest.json", "it was too late for it")
		require.Equal(t, 1, b.aborts)
	})
}

// While one is under way only the newest and the pinned ones wait.
func TestUploaderSkipsWhatIsOld(t *testing.T) {
	s := open(t)
	dirs := map[int64]string{}
	for _, step := range []int64{10, 20, 30, 40, 50} {
		dirs[step] = save(t, s, step, 0)
	}
	uploading(t, mirror.Options{Pinned: func(step int64) bool { return step == 30 }}, func(t *testing.T, b *memory, up *mirror.Uploader, _ *[]string) {
		t.Helper()
		slow := make(chan struct{})
		b.before = func(string, string) error { <-slow; return nil }
		for _, step := range []int64{10, 20, 30, 40, 50} {
			up.Add(step, dirs[step])
			synctest.Wait()
		}
		close(slow)
		require.NoError(t, up.Wait(t.Context()))
		for step, there := range map[int64]bool{10: true, 20: false, 30: true, 40: false, 50: true} {
			_, ok := b.objects["step-"+map[int64]string{10: "10", 20: "20", 30: "30", 40: "40", 50: "50"}[step]+"/manifest.json"]
			require.Equal(t, there, ok, step)
		}
	})
}

// A checkpoint that retention took before it was copied is not worth a word; those after
// it are copied.
func TestUploaderPassesOverWhatIsGone(t *testing.T) {
	s := open(t)
	d10, d20 := save(t, s, 10, 0), save(t, s, 20, 0)
	require.NoError(t, os.RemoveAll(d10))
	uploading(t, mirror.Options{}, func(t *testing.T, _ *memory, up *mirror.Uploader, said *[]string) {
		t.Helper()
		up.Add(10, d10)
		synctest.Wait()
		up.Add(20, d20)
		require.NoError(t, up.Wait(t.Context()))
		require.Equal(t, int64(20), up.Pushed())
		require.Empty(t, *said)
	})
}

// Close does not wait for a bucket that does not answer.
func TestUploaderClose(t *testing.T) {
	dir := save(t, open(t), 10, 0)
	uploading(t, mirror.Options{}, func(t *testing.T, b *memory, up *mirror.Uploader, _ *[]string) {
		t.Helper()
		b.before = func(string, string) error { return errors.New("away") }
		up.Add(10, dir)
		synctest.Wait()
		began := time.Now()
		up.Close()
		require.Zero(t, time.Since(began))
		require.Error(t, up.Wait(t.Context()))
	})
}
