package judge

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/eval/npz"
)

func TestOpenImages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.npz")
	f, err := os.Create(path)
	require.NoError(t, err)
	w, err := npz.NewBytes(f, "arr_0", 2, 1, 2, 3)
	require.NoError(t, err)
	_, err = w.Write([]byte{0, 255, 51, 102, 153, 204, 1, 2, 3, 4, 5, 6})
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.NoError(t, f.Close())
	set, err := OpenImages(t.Context(), path)
	require.NoError(t, err)
	require.Equal(t, 2, set.Len())
	h, width, c := set.Size()
	require.Equal(t, [3]int{1, 2, 3}, [3]int{h, width, c})
	got := make([]float32, 6)
	require.NoError(t, set.Read(got, 0))
	rounded := append([]float32{}, got...)
	Round8(rounded)
	require.Equal(t, got, rounded, "bytes stay as they are")

	_, err = OpenImages(t.Context(), path+".none")
	require.ErrorContains(t, err, "give a directory of images, an .npz file, or a data set")
	text := filepath.Join(filepath.Dir(path), "notes.txt")
	require.NoError(t, os.WriteFile(text, nil, 0o600))
	_, err = OpenImages(t.Context(), text)
	require.ErrorContains(t, err, "images are read from a directory or an .npz")
}
