package judge

import (
	"archive/zip"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/eval/npz"
)

// archive is an npz file with one array.
func archive(tb testing.TB, name, descr, shape string, body []byte) []byte {
	tb.Helper()
	header := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': %s, }\n", descr, shape)
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	w, err := z.Create(name + ".npy")
	require.NoError(tb, err)
	_, err = fmt.Fprintf(w, "\x93NUMPY\x01\x00%c%c%s%s", len(header)&255, len(header)>>8, header, body)
	require.NoError(tb, err)
	require.NoError(tb, z.Close())
	return out.Bytes()
}

func TestArray(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.npz")
	write := func(b []byte) { require.NoError(t, os.WriteFile(path, b, 0o600)) }
	write(archive(t, "arr_0", "|u1", "(2, 1, 2, 3)", []byte{0, 255, 51, 102, 153, 204, 1, 2, 3, 4, 5, 6}))
	set, err := OpenImages(t.Context(), path)
	require.NoError(t, err)
	require.Equal(t, 2, set.Len())
	h, w, c := set.Size()
	require.Equal(t, [3]int{1, 2, 3}, [3]int{h, w, c})
	got := make([]float32, 6)
	require.NoError(t, set.Read(got, 0))
	require.InDeltaSlice(t, []float32{-1, 1, -0.6, -0.2, 0.2, 0.6}, got, 1e-6)
	rounded := append([]float32{}, got...)
	Round8(rounded)
	require.Equal(t, got, rounded, "bytes stay as they are")
	for want, b := range map[string][]byte{
		"images are u1 (uint8) [N, height, width, 1 or 3]": archive(t, "arr_0", "<f4", "(1, 1, 1, 1)", make([]byte, 4)),
		"is u1 [2 2 2]":             archive(t, "arr_0", "|u1", "(2, 2, 2)", make([]byte, 8)),
		"is u1 [1 2 2 4]":           archive(t, "arr_0", "|u1", "(1, 2, 2, 4)", make([]byte, 16)),
		"is u1 [0 2 2 3]":           archive(t, "arr_0", "|u1", "(0, 2, 2, 3)", nil),
		"Python objects":            archive(t, "arr_0", "|O", "(1, 1, 1, 1)", nil),
		"needs 88 bytes, it has 87": archive(t, "arr_0", "|u1", "(1, 2, 2, 3)", make([]byte, 11)),
		"not a valid npz":           []byte("nonsense"),
		"it has no arrays":          []byte("PK\x05\x06" + string(make([]byte, 18))),
		"is too large":              archive(t, "arr_0", "|u1", "(2147483647, 2147483647, 2147483647, 3)", nil),
	} {
		write(b)
		_, err := OpenImages(t.Context(), path)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "\n")
	}
}

func FuzzArray(f *testing.F) {
	f.Add(archive(f, "arr_0", "|u1", "(1, 2, 2, 3)", make([]byte, 12)))
	f.Add(archive(f, "images", "|u1", "(3, 1, 1, 1)", []byte{1, 2, 3}))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := npz.New(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		set, err := arrayOf(file, "x.npz")
		if err != nil {
			require.NotContains(t, err.Error(), "\n")
			return
		}
		h, w, c := set.Size()
		require.NoError(t, set.Read(make([]float32, h*w*c), set.Len()-1))
	})
}
