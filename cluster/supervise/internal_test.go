//go:build unix

package supervise

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOOMCounters(t *testing.T) {
	path, ok := cgroupPath([]byte("12:cpu:/old\n0::/kubepods/pod1/../pod2\n"))
	require.True(t, ok)
	require.Equal(t, "/kubepods/pod2", path)
	_, ok = cgroupPath([]byte("3:memory:/v1\n"))
	require.False(t, ok)

	require.Equal(t, oomCount{3, true}, parseOOM([]byte("low 0\noom 4\noom_kill 3\noom_group_kill 0\n")))
	require.Equal(t, oomCount{}, parseOOM([]byte("oom 4\noom_kill x\n")))
	require.Equal(t, oomCount{}, parseOOM(nil))

	require.Equal(t, OOMLikely, oomCount{4, true}.since(oomCount{3, true}))
	require.Equal(t, OOMNo, oomCount{3, true}.since(oomCount{3, true}))
	require.Equal(t, OOMUnknown, oomCount{3, true}.since(oomCount{}))
}

func TestExitReasons(t *testing.T) {
	e := Exit{Name: "rank-3", Code: -1, Started: time.Unix(0, 0), Ended: time.Unix(90, 0)}
	e.decode(0x86) // wait status: signal 6 (SIGABRT) and the core flag 0x80
	require.Equal(t, "rank-3 was ended by SIGABRT (core dumped) after 1m30s", e.Reason())
	e.decode(9)
	e.CoreDumped, e.OOM = false, OOMLikely
	require.Contains(t, e.Reason(), "SIGKILL after 1m30s; by the kernel for lack of memory")
	require.True(t, e.Failed())
	require.True(t, strings.HasSuffix(e.String(), "; it said nothing"))
}

func TestOutputSplitsLinesHoweverTheyArrive(t *testing.T) {
	text := "one\ntwo\r\n\nvery long line\nlast"
	want := "[w] one\n[w] two\n[w] \n[w] very l [8 bytes cut]\n[w] last\n"
	for size := 1; size <= len(text); size++ {
		var out bytes.Buffer
		s := &Supervisor{cfg: Config{Output: &out, MaxLine: 6, LastWords: 2}.withDefaults()}
		o := s.newOutput("w")
		for rest := []byte(text); len(rest) > 0; {
			n := min(size, len(rest))
			_, err := o.Write(rest[:n])
			require.NoError(t, err)
			rest = rest[n:]
		}
		o.close()
		require.Equal(t, want, out.String(), "in pieces of %d", size)
		require.Equal(t, []string{"very l [8 bytes cut]", "last"}, o.last.lines())
	}
}

func TestALostLogStopsNobodyAndIsSaidOnce(t *testing.T) {
	var logged bytes.Buffer
	var out bytes.Buffer
	s := &Supervisor{
		cfg: Config{Output: &out, LogDir: t.TempDir()}.withDefaults(),
		log: slog.New(slog.NewTextHandler(&logged, nil)),
	}
	o := s.newOutput("w")
	require.NoError(t, o.file.f.Close()) // as a disk that fails
	for range 3 {
		n, err := o.Write([]byte("text\n"))
		require.NoError(t, err)
		require.Equal(t, 5, n)
	}
	require.Equal(t, 3, strings.Count(out.String(), "[w] text\n"))
	require.Equal(t, 1, strings.Count(logged.String(), "worker log lost"))

	_, err := openLog("/dev/null/nowhere", "w", 1)
	require.ErrorIs(t, err, syscall.ENOTDIR)
}

func TestLogDirectoryIsMadeAgain(t *testing.T) {
	var logged bytes.Buffer
	root := t.TempDir()
	s := &Supervisor{
		cfg: Config{LogDir: filepath.Join(root, "logs")}.withDefaults(),
		log: slog.New(slog.NewTextHandler(&logged, nil)),
	}
	s.newOutput("w").close()
	require.NoError(t, os.RemoveAll(s.cfg.LogDir))
	s.newOutput("w").close()
	require.FileExists(t, filepath.Join(s.cfg.LogDir, "w.log"))

	require.NoError(t, os.RemoveAll(root))
	require.NoError(t, os.WriteFile(root, nil, 0o600)) // no directory can be made here
	o := s.newOutput("w")
	n, err := o.Write([]byte("text\n"))
	require.NoError(t, err)
	require.Equal(t, 5, n)
	o.close()
	require.Contains(t, logged.String(), "worker has no log file")
}

// A log does not grow without bound, whatever is written to it.
func TestOwnLogIsRotated(t *testing.T) {
	dir := t.TempDir()
	f, err := OpenLog(dir, "agent")
	require.NoError(t, err)
	line := append(bytes.Repeat([]byte("x"), 1<<20-1), '\n')
	for range 40 {
		_, err := f.Write(line)
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Len(t, files, 2)
	for _, f := range files {
		info, err := os.Stat(f)
		require.NoError(t, err)
		require.LessOrEqual(t, info.Size(), int64(MaxOwnLogBytes))
	}
}
