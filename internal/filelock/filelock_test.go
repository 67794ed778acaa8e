//go:build linux || darwin

package filelock

import (
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOnlyOneHasTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "work")
	f, err := Open(path)
	require.NoError(t, err)
	_, err = Open(path)
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, f.Close())
	f, err = Open(path)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	_, err = Open(filepath.Join(path, "below a file"))
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrLocked)
}

// Whoever gets a file that others remove when they are done gets the one that is at the
// path: what it writes there is found by the next.
func TestRemovedFileIsNotTaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "work")
	var holders, taken atomic.Int32
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for range 500 {
				f, err := Open(path)
				if err != nil {
					continue
				}
				if holders.Add(1) != 1 {
					t.Error("two have the file")
				}
				if _, err := f.WriteString(strconv.Itoa(g)); err != nil {
					t.Error(err)
				}
				if b, err := os.ReadFile(path); err != nil || string(b) != strconv.Itoa(g) {
					t.Errorf("%d finds %q, %v", g, b, err)
				}
				taken.Add(1)
				holders.Add(-1)
				if err := os.Remove(path); err != nil {
					t.Error(err)
				}
				if err := f.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.Positive(t, taken.Load())
}
