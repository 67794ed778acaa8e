package arrows

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// deciding are the packages whose decisions depend on how much time has passed.
var deciding = []string{
	"agent", "allreduce", "checkpoint", "cluster", "data", "internal/gate", "launch", "rundir", "trainer", "worker",
}

// wallClock are the files that may make numbers of a time, or times of numbers.
var wallClock = map[string]string{
	"allreduce/mesh/connect.go":  "a moment in the past, to end a read or write at once",
	"allreduce/mesh/endpoint.go": "as connect.go",
	"allreduce/mesh/link.go":     "as connect.go",
	"data/scan.go":               "the times of files",
	"data/scancache.go":          "the times of files",
}

var number = regexp.MustCompile(`\.Unix(Nano|Milli|Micro)?\(\)|\btime\.Unix(Milli|Micro)?\(|\.Round\(0\)|\.AsTime\(\)`)

// A time that became a number has lost its reading of the monotonic clock: what is computed
// of it is wrong when somebody sets the clock. Deadlines and durations are made of time.Time.
func TestDecisionsUseTheMonotonicClock(t *testing.T) {
	used := map[string]bool{}
	for _, dir := range deciding {
		err := filepath.WalkDir(filepath.Join(root, dir), func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, name)
			if err != nil {
				return err
			}
			rel = filepath.ToSlash(rel)
			if found := number.Find(text); found != nil {
				used[rel] = true
				require.Contains(t, wallClock, rel, "%s has %s: the clock may be set meanwhile; keep the time.Time, or give a reason in this test", rel, found)
			}
			return nil
		})
		require.NoError(t, err)
	}
	for name := range wallClock {
		require.True(t, used[name], "%s needs no exception any more", name)
	}
}
