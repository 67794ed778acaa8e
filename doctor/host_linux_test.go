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
	require.Equal(t, int64(512<<20), limitIn(file("536870912\n")))
	require.Zero(t, limitIn(file("max\n")))
	require.Zero(t, limitIn(file("9223372036854771712\n")), "no limit, as version 1 writes it")
	require.Zero(t, limitIn(filepath.Join(dir, "none")))
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

// The memory limit is found wherever the kernel and the container put it.
func TestCgroupLimit(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for name, c := range map[string]struct {
		self  string
		files map[string]string
		want  int64
	}{
		"v2":                    {"0::/user/job\n", map[string]string{"user/job/memory.max": "62914560\n"}, 60 * mib},
		"v2, above":             {"0::/user/job\n", map[string]string{"user/job/memory.max": "max\n", "user/memory.max": "62914560\n"}, 60 * mib},
		"v2, the least":         {"0::/user/job\n", map[string]string{"user/job/memory.max": "104857600\n", "user/memory.max": "62914560\n"}, 60 * mib},
		"v2, container":         {"0::/\n", map[string]string{"memory.max": "62914560\n"}, 60 * mib},
		"v2, path of the host":  {"0::/kubepods/pod1/abc\n", map[string]string{"memory.max": "62914560\n"}, 60 * mib},
		"v1":                    {"9:name=systemd:/\n5:cpu,memory:/scout\n", map[string]string{"memory/scout/memory.limit_in_bytes": "62914560\n"}, 60 * mib},
		"v1, path of the host":  {"4:memory:/docker/abc\n", map[string]string{"memory/memory.limit_in_bytes": "62914560\n"}, 60 * mib},
		"v1, none":              {"4:memory:/\n", map[string]string{"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
		"hybrid":                {"4:memory:/a\n0::/b\n", map[string]string{"memory/a/memory.limit_in_bytes": "62914560\n", "b/memory.max": "max\n"}, 60 * mib},
		"another's":             {"4:memory:/a\n", map[string]string{"memory/b/memory.limit_in_bytes": "62914560\n"}, 0},
		"another controller's":  {"4:cpu:/a\n", map[string]string{"memory/a/memory.limit_in_bytes": "62914560\n"}, 0},
		"no cgroups or rubbish": {"hello\n", nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			self := filepath.Join(root, "self")
			require.NoError(t, os.WriteFile(self, []byte(c.self), 0o600))
			for path, text := range c.files {
				require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755))
				require.NoError(t, os.WriteFile(filepath.Join(root, path), []byte(text), 0o600))
			}
			require.Equal(t, c.want, cgroupLimit(root, self))
		})
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		f    Finding
		want Status
		says string
	}{
		{filesFinding(12), Fail, "12 allowed (ulimit -n)"},
		{filesFinding(256), Note, "256 allowed"},
		{filesFinding(1 << 20), OK, "1048576 allowed"},
		{filesFinding(^uint64(0)), OK, "no limit"},
		{spaceFinding(600 << 20), Note, "600 MiB a process (ulimit -v)"},
		{spaceFinding(^uint64(0)), OK, "no limit"},
		{diskFinding("/x", 8<<20, 100, 50, true), Note, "8 MiB free at /x"},
		{diskFinding("/x", 8<<30, 10_000, 5, true), Note, "only 5 files more (inodes)"},
		{diskFinding("/x", 8<<30, 0, 0, true), OK, "8.0 GiB free at /x"},
		{diskFinding("/x", 8<<30, 10_000, 5000, false), Note, "/x cannot be written to"},
	} {
		require.Equal(t, c.want, c.f.Status, "%+v", c.f)
		require.Contains(t, c.f.Text, c.says)
		require.Equal(t, c.want != OK, c.f.Fix != "", "%+v", c.f)
	}
	require.Empty(t, Blockers(t.Context()))
}
