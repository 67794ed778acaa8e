package doctor

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(text string) string {
		path := filepath.Join(dir, "f")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	require.Equal(t, int64(512<<20), cgroupLimit(file("536870912\n")))
	require.Zero(t, cgroupLimit(file("max\n")))
	require.Zero(t, cgroupLimit(filepath.Join(dir, "none")))
	info := file("processor\t: 0\nmodel name\t: Some: CPU\nmodel name\t: other\n")
	require.Equal(t, "Some: CPU", field(info, "model name"))
	require.Empty(t, field(info, "flags"))
	require.Positive(t, kilobytes("MemTotal"))
	require.NoError(t, tryMemfd())
}

func TestFailed(t *testing.T) {
	t.Parallel()
	require.False(t, Failed([]Finding{{Status: OK}, {Status: Note}}))
	require.True(t, Failed([]Finding{{Status: OK}, {Status: Fail}}))
	require.False(t, Failed(Examine(t.Context())))
}
