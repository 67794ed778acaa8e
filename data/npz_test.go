package data

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

// npy is one array of an npz file.
type npy struct {
	name, descr, shape string
	body               []byte
}

// archive is an npz file of arrays.
func archive(tb testing.TB, arrays ...npy) []byte {
	tb.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, a := range arrays {
		header := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': %s, }\n", a.descr, a.shape)
		w, err := z.Create(a.name + ".npy")
		require.NoError(tb, err)
		_, err = fmt.Fprintf(w, "\x93NUMPY\x01\x00%c%c%s%s", len(header)&255, len(header)>>8, header, a.body)
		require.NoError(tb, err)
	}
	require.NoError(tb, z.Close())
	return out.Bytes()
}

func TestArray(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.npz")
	write := func(b []byte) { require.NoError(t, os.WriteFile(path, b, 0o600)) }
	write(archive(t, npy{"arr_0", "|u1", "(2, 1, 2, 3)", []byte{0, 255, 51, 102, 153, 204, 1, 2, 3, 4, 5, 6}}))
	set, err := Open(Config{Name: NPZ, Dir: path})
	require.NoError(t, err)
	require.Equal(t, 2, set.Len())
	h, w, c := set.Size()
	require.Equal(t, [3]int{1, 2, 3}, [3]int{h, w, c})
	got := make([]float32, 6)
	require.NoError(t, set.Read(got, 0))
	require.InDeltaSlice(t, []float32{-1, 1, -0.6, -0.2, 0.2, 0.6}, got, 1e-6)
	require.Equal(t, -1, set.Label(0))

	// Any number of channels, and labels.
	five := func(label byte) Dataset {
		write(archive(t, npy{"labels", "<i8", "(2,)", append(make([]byte, 8), label, 0, 0, 0, 0, 0, 0, 0)}, npy{"images", "|u1", "(2, 1, 1, 5)", []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 255}}))
		set, err := Open(Config{Name: NPZ, Dir: path, Size: 1, Channels: 5})
		require.NoError(t, err)
		return set
	}
	set = five(3)
	require.Equal(t, []int{0, 3}, []int{set.Label(0), set.Label(1)})
	require.NoError(t, set.Read(got[:5], 1))
	require.Equal(t, []float32{-1, -1, -1, -1, 1}, got[:5])
	require.NotEqual(t, Fingerprint(set), Fingerprint(five(2)), "labels are a part of what is trained on")
	require.Equal(t, Fingerprint(set), Fingerprint(five(3)))
	write(archive(t, npy{"arr_0", "|u1", "(1, 2, 4, 3)", make([]byte, 24)}))
	_, err = Open(Config{Name: NPZ, Dir: path, Size: 2, Channels: 3})
	require.ErrorContains(t, err, "images of 4x2 pixels; a model's are squares")
	write(archive(t, npy{"y_train", "|u1", "(1,)", []byte{9}}, npy{"x_train", "|u1", "(1, 1, 1, 2)", []byte{255, 0}}))
	set, err = Open(Config{Name: NPZ, Dir: path})
	require.NoError(t, err, "one array of four dimensions")
	require.NoError(t, set.Read(got[:2], 0))
	require.Equal(t, []float32{1, -1}, got[:2])
	found, err := Detect(path)
	require.NoError(t, err)
	require.Equal(t, NPZ, found.Name)
	_, err = Open(Config{Name: NPZ, Dir: path + ".none"})
	require.ErrorAs(t, err, new(*MissingError))

	for want, b := range map[string][]byte{
		"images are u1 (uint8) [N, height, width, channels]": archive(t, npy{"arr_0", "<f4", "(1, 1, 1, 1)", make([]byte, 4)}),
		"is u1 [2 2 2]":                                                 archive(t, npy{"arr_0", "|u1", "(2, 2, 2)", make([]byte, 8)}),
		"has no images: its shape is [0 2 2 3]":                         archive(t, npy{"arr_0", "|u1", "(0, 2, 2, 3)", nil}),
		`has arrays ["a" "b"]; call the one with the images arr_0`:      archive(t, npy{"a", "|u1", "(1, 1, 1, 1)", make([]byte, 1)}, npy{"b", "|u1", "(1, 1, 1, 1)", make([]byte, 1)}),
		"Python objects":                                                archive(t, npy{"arr_0", "|O", "(1, 1, 1, 1)", nil}),
		"needs 88 bytes, it has 87":                                     archive(t, npy{"arr_0", "|u1", "(1, 2, 2, 3)", make([]byte, 11)}),
		"has shape [3]; labels are one number for each of the 1 images": archive(t, npy{"arr_0", "|u1", "(1, 1, 1, 1)", make([]byte, 1)}, npy{"y", "|u1", "(3,)", make([]byte, 3)}),
		"has label 0.5":                                                 archive(t, npy{"arr_0", "|u1", "(1, 1, 1, 1)", make([]byte, 1)}, npy{"y", "<f4", "(1,)", []byte{0, 0, 0, 0x3f}}),
		"not a valid npz":                                               []byte("nonsense"),
		"it has no arrays":                                              []byte("PK\x05\x06" + string(make([]byte, 18))),
		"is too large":                                                  archive(t, npy{"arr_0", "|u1", "(2147483647, 2147483647, 2147483647, 3)", nil}),
	} {
		write(b)
		_, err := Open(Config{Name: NPZ, Dir: path})
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "\n")
	}
}

func FuzzArray(f *testing.F) {
	f.Add(archive(f, npy{"arr_0", "|u1", "(1, 2, 2, 3)", make([]byte, 12)}))
	f.Add(archive(f, npy{"images", "|u1", "(3, 1, 1, 1)", []byte{1, 2, 3}}))
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
