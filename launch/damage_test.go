package launch_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/launch"
)

// Every file of a run's directory is damaged, one kind of damage after another, and the
// run is started again: it continues from the newest checkpoint that verifies, to the same
// model, or one line names the file. Checkpoints are damaged in package checkpoint's tests,
// and here the newest one's manifest.
func TestDamagedDirectory(t *testing.T) {
	whole := tiny(t, "train.steps=12", "data.flip=true")
	out, err := launch.Run(t.Context(), launch.Options{Config: whole})
	require.NoError(t, err)
	want := out.Digest

	half := tiny(t, "train.steps=6", "data.flip=true")
	_, err = launch.Run(t.Context(), launch.Options{Config: half})
	require.NoError(t, err)
	good := filepath.Join(t.TempDir(), "good")
	require.NoError(t, os.CopyFS(good, os.DirFS(half.Out)))

	for name, damage := range map[string]func([]byte) []byte{
		"first bit": func(b []byte) []byte { b[0] ^= 1; return b },
		"high bit":  func(b []byte) []byte { b[len(b)/3] ^= 0x80; return b },
		"low bit":   func(b []byte) []byte { b[2*len(b)/3] ^= 1; return b },
		"last bit":  func(b []byte) []byte { b[len(b)-1] ^= 2; return b },
		"cut":       func(b []byte) []byte { return b[:len(b)/2] },
		"emptied":   func([]byte) []byte { return nil },
		"zeroes":    func(b []byte) []byte { clear(b); return b },
		"more":      func(b []byte) []byte { return append(b, "\x00{}\n"...) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := tiny(t, "train.steps=12", "data.flip=true")
			require.NoError(t, os.CopyFS(c.Out, os.DirFS(good)))
			files := 0
			require.NoError(t, filepath.WalkDir(c.Out, func(path string, e fs.DirEntry, err error) error {
				rel, _ := filepath.Rel(c.Out, path)
				if err != nil || !e.Type().IsRegular() || strings.HasPrefix(rel, "checkpoints/") && rel != "checkpoints/step-6/manifest.json" {
					return err
				}
				b, err := os.ReadFile(path)
				if err != nil || len(b) == 0 {
					return err
				}
				files++
				return os.WriteFile(path, damage(b), 0o600)
			}))
			require.Greater(t, files, 6)
			var said []string
			out, err := launch.Run(t.Context(), launch.Options{Config: c, Notice: func(s string) { said = append(said, s) }})
			if err != nil {
				require.NotContains(t, err.Error(), "\n")
				require.Contains(t, err.Error(), c.Out, "it names the file")
				t.Log(err)
				return
			}
			require.Equal(t, launch.Finished, out.Ending, out.Reason)
			require.Equal(t, want, out.Digest)
			require.Contains(t, strings.Join(said, "\n"), "step-6: manifest.json", "the damaged checkpoint is named")
		})
	}
}
