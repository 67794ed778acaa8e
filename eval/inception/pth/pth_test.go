package pth

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func uniform(dst []float32, seed uint64) {
	for i := range dst {
		z := uint64(i) + seed*0x9E3779B97F4A7C15
		z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
		z = (z ^ z>>27) * 0x94D049BB133111EB
		z ^= z >> 31
		dst[i] = float32(z>>40) / (1 << 24)
	}
}

// Both forms hold the dictionary that ../testdata/golden.py saved.
func TestReadBothForms(t *testing.T) {
	shapes := map[string][]int{ // sorted names have seeds 1, 2, ...
		"0.bias": {4}, "0.weight": {4, 3, 3, 3}, "1.bias": {4}, "1.running_mean": {4}, "1.running_var": {4}, "1.weight": {4},
	}
	seeds := map[string]uint64{"0.bias": 1, "0.weight": 2, "1.bias": 3, "1.running_mean": 5, "1.running_var": 6, "1.weight": 7}
	for _, name := range []string{"zip.pth", "old.pth"} {
		got, err := ReadFile(filepath.Join("testdata", name))
		require.NoError(t, err, name)
		require.Len(t, got, len(shapes), name)
		for key, shape := range shapes {
			require.Equal(t, shape, got[key].Shape, key)
			want := make([]float32, len(got[key].Data))
			uniform(want, seeds[key])
			require.Equal(t, want, got[key].Data, key)
		}
	}
}

func TestRefusals(t *testing.T) {
	_, err := ReadFile("testdata/evil.pth")
	require.ErrorIs(t, err, ErrForbidden)
	require.ErrorContains(t, err, "system")
	_, err = ReadFile("testdata/strided.pth")
	require.ErrorContains(t, err, "contiguous")
	_, err = ReadFile("testdata/none")
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = ReadFile("read.go")
	require.ErrorIs(t, err, ErrFormat)

	for _, name := range []string{"zip.pth", "old.pth"} {
		whole, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(t, err)
		for n := range whole { // cut off anywhere
			_, err := Read(bytes.NewReader(whole[:n]), int64(n))
			require.Error(t, err, "%s after %d bytes", name, n)
			require.NotContains(t, err.Error(), "\n")
		}
	}
	for text, want := range map[string]string{
		"cos\nsystem\n.":               "os.system",
		"cbuiltins\neval\n.":           "eval",
		"ctorch\nload\n.":              "torch.load",
		"\x80\x02i":                    "0x69", // INST
		"\x80\x02}\x93.":               "0x93", // STACK_GLOBAL
		"\x80\x02}(K\x01K\x02u)R.":     "a call of",
		"\x80\x09.":                    "protocol 9",
		"X\xff\xff\xff\x7f":            "bytes",
		"\x8a\xff":                     "cut off",
		"h\x05.":                       "recalls",
		"0":                            "0x30",
		"t.":                           "mark",
		".":                            "not there",
		"(X\x03\x00\x00\x00abcK\x01tQ": "no storage",
		"":                             "without its end",
	} {
		_, err := load(bufio.NewReader(bytes.NewReader([]byte(text))))
		require.ErrorContains(t, err, want, "%q", text)
	}
}

func FuzzRead(f *testing.F) {
	for _, name := range []string{"zip.pth", "old.pth", "evil.pth", "strided.pth"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = Read(bytes.NewReader(b), int64(len(b))) })
}

// FuzzPickle feeds the interpreter, past the archive's checksums.
func FuzzPickle(f *testing.F) {
	b, err := os.ReadFile("testdata/evil.pkl")
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte("\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQK\x00K\x02\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRs."))
	f.Fuzz(func(_ *testing.T, b []byte) {
		root, err := load(bufio.NewReader(bytes.NewReader(b)))
		if err == nil {
			_, _ = tensors(root, func(s storage) ([]float32, error) { return make([]float32, min(s.count, 1000)), nil })
		}
	})
}
