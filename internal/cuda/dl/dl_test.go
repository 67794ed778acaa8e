//go:build cuda

package dl_test

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/cuda/dl"
)

const variable = "AGRDIST_LIBTEST"

// library builds a shared library with one function that returns v.
func library(t *testing.T, path, v string, flags ...string) {
	t.Helper()
	src := filepath.Join(t.TempDir(), "answer.c")
	require.NoError(t, os.WriteFile(src, []byte("int agr_answer(void) { return "+v+"; }\n"), 0o600))
	args := append([]string{"-shared", "-fPIC", "-o", path, src}, flags...)
	out, err := exec.CommandContext(t.Context(), "gcc", args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func TestOpenTakesTheVariableFirst(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	named := filepath.Join(other, "mine.so")
	library(t, named, "1")
	library(t, filepath.Join(dir, "libagrtest.so.2"), "2")
	t.Setenv(dl.PathVariable, dir)

	lib, err := dl.Open(variable, "libagrtest.so.3", "libagrtest.so.2")
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "libagrtest.so.2"), lib.Path())

	t.Setenv(variable, named)
	lib, err = dl.Open(variable, "libagrtest.so.2")
	require.NoError(t, err)
	require.Equal(t, named, lib.Path())
	f, err := lib.Symbol("agr_answer")
	require.NoError(t, err)
	require.NotNil(t, f)
	_, err = lib.Symbol("agr_question")
	require.ErrorIs(t, err, dl.ErrNoSymbol)
	require.EqualError(t, err, "dl: no such function: agr_question in "+named)
}

// TestOpenKeepsTheOrder: directories before sonames, sonames in the order given.
func TestOpenKeepsTheOrder(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	library(t, filepath.Join(first, "libagrold.so.1"), "1")
	library(t, filepath.Join(first, "libagrnew.so.2"), "2")
	library(t, filepath.Join(second, "libagrtop.so.3"), "3")
	t.Setenv(dl.PathVariable, first+string(filepath.ListSeparator)+second)
	lib, err := dl.Open(variable, "libagrtop.so.3", "libagrnew.so.2", "libagrold.so.1")
	require.NoError(t, err)
	require.Equal(t, filepath.Join(first, "libagrnew.so.2"), lib.Path())
}

func TestOpenBySystem(t *testing.T) {
	lib, err := dl.Open(variable, "libagrnone.so.1", "libm.so.6")
	require.NoError(t, err)
	require.Equal(t, "libm.so.6", filepath.Base(lib.Path()))
	require.True(t, filepath.IsAbs(lib.Path()))
}

// What a library will look for by SONAME is found once it is loaded from beside it.
func TestBeside(t *testing.T) {
	dir := t.TempDir()
	library(t, filepath.Join(dir, "libagrmain.so.1"), "1")
	library(t, filepath.Join(dir, "libagrside.so.1.2"), "2", "-Wl,-soname,libagrside.so.1.2")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "libagrbad.so.1"), []byte("no library"), 0o600))
	t.Setenv(dl.PathVariable, dir)
	lib, err := dl.Open(variable, "libagrmain.so.1")
	require.NoError(t, err)
	require.False(t, dl.Loaded("libagrside.so.1.2"))
	require.NoError(t, lib.Beside("libagrside.so.1.2"))
	require.True(t, dl.Loaded("libagrside.so.1.2"))
	require.NoError(t, lib.Beside("libagrnone.so.1"), "not there: the loader's to find")
	require.ErrorIs(t, lib.Beside("libagrbad.so.1"), dl.ErrBroken)
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.so")
	require.NoError(t, os.WriteFile(text, []byte("no library"), 0o600))
	needs, needed := filepath.Join(dir, "libagrneeds.so.1"), filepath.Join(dir, "libagrneeded.so.1")
	library(t, needed, "1", "-Wl,-soname,libagrneeded.so.1")
	library(t, needs, "2", "-Wl,--no-as-needed", needed)
	require.NoError(t, os.Remove(needed))
	other := filepath.Join(dir, "other.so")
	library(t, other, "1")
	b, err := os.ReadFile(other)
	require.NoError(t, err)
	b[18], b[19] = byte(elf.EM_PPC64), 0 // e_machine
	require.NoError(t, os.WriteFile(other, b, 0o600))

	for name, tt := range map[string]struct {
		env, path string
		want      error
		text      string
	}{
		"nowhere": {
			want: dl.ErrNotFound,
			text: "dl: not found: libagrneeds.so.1 or libagrnone.so.2, neither in AGRDIST_CUDA_PATH nor where the system's loader looks (AGRDIST_LIBTEST overrides)",
		},
		"named and missing": {
			env: filepath.Join(dir, "gone.so"), want: dl.ErrNotFound,
			text: "dl: not found: " + filepath.Join(dir, "gone.so") + " (from AGRDIST_LIBTEST)",
		},
		"for another processor": {
			env: other, want: dl.ErrBroken,
			text: "dl: cannot be loaded: " + other + ": it is for another processor (EM_PPC64), this program is for " + runtime.GOARCH + " (from AGRDIST_LIBTEST)",
		},
		"not a library": {
			env: text, want: dl.ErrBroken,
			text: "dl: cannot be loaded: " + text + ": file too short (from AGRDIST_LIBTEST)",
		},
		"a dependency is missing": {
			path: dir, want: dl.ErrBroken,
			text: "dl: cannot be loaded: " + needs + ": libagrneeded.so.1: cannot open shared object file: No such file or directory",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(variable, tt.env)
			t.Setenv(dl.PathVariable, tt.path)
			_, err := dl.Open(variable, "libagrneeds.so.1", "libagrnone.so.2")
			require.ErrorIs(t, err, tt.want)
			require.EqualError(t, err, tt.text)
		})
	}
}
