//go:build cuda

package cuda_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/tensor/cuda"
)

const tinyModule = `extern "C" __global__ void nothing(int *x) { *x = 1; }`

func cached(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "kernels", "*"))
	require.NoError(t, err)
	return files
}

// The second compilation is a file of the cache; one that was damaged is made
// again, and other sources and architectures have files of their own.
func TestKernelCache(t *testing.T) {
	dir := t.TempDir()
	first, err := cuda.Compile(dir, "tiny", tinyModule, "sm_90")
	require.NoError(t, err)
	files := cached(t, dir)
	require.Len(t, files, 1)
	whole, err := os.ReadFile(files[0])
	require.NoError(t, err)

	marked := append([]byte(nil), whole...)
	for name, damage := range map[string][]byte{
		"cut":     whole[:len(whole)/2],
		"empty":   {},
		"flipped": func() []byte { marked[len(marked)-1] ^= 1; return marked }(),
	} {
		require.NoError(t, os.WriteFile(files[0], damage, 0o644))
		again, err := cuda.Compile(dir, "tiny", tinyModule, "sm_90")
		require.NoError(t, err)
		require.Equal(t, first, again, name)
		now, err := os.ReadFile(files[0])
		require.NoError(t, err)
		require.Equal(t, whole, now, "the %s file was repaired", name)
	}
	require.Equal(t, files, cached(t, dir))

	_, err = cuda.Compile(dir, "tiny", tinyModule+"\n", "sm_90")
	require.NoError(t, err)
	_, err = cuda.Compile(dir, "tiny", tinyModule, "sm_80")
	require.NoError(t, err)
	require.Len(t, cached(t, dir), 3)
}

// A cache is a convenience: where it cannot be, kernels are compiled each time.
func TestNoKernelCache(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	for _, dir := range []string{"", file} {
		image, err := cuda.Compile(dir, "tiny", tinyModule, "sm_90")
		require.NoError(t, err)
		require.NotEmpty(t, image)
	}
}

func TestCompileErrorShowsTheLog(t *testing.T) {
	_, err := cuda.Compile("", "broken", "__global__ void f() { nonsense; }", "sm_90")
	require.ErrorContains(t, err, "broken")
	require.ErrorContains(t, err, "nonsense")
}
