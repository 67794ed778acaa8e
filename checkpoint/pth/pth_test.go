package pth

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"math"
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

// Both forms hold the dictionary that eval/inception/testdata/golden.py saved.
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
	_, err = ReadFile("testdata/none")
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = ReadFile("read.go")
	require.ErrorIs(t, err, ErrFormat)

	for _, name := range []string{"zip.pth", "old.pth"} {
		whole, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(t, err)
		for n := range whole { // cut off anywhere
			_, err := New(bytes.NewReader(whole[:n]), int64(n))
			require.Error(t, err, "%s after %d bytes", name, n)
			require.NotContains(t, err.Error(), "\n")
		}
	}
	for text, want := range map[string]string{
		"cos\nsystem\n.":     "os.system",
		"cbuiltins\neval\n.": "eval",
		"ctorch\nload\n.":    "torch.load",
		"\x80\x02i":          "0x69",      // INST
		"\x80\x02}\x93.":     "not there", // STACK_GLOBAL
		"\x80\x02}}\x93.":    "a name that is a dictionary",
		"\x80\x04\x95\x11\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93\x94.": "os.system",
		"\x80\x04\x94.":                "not there", // MEMOIZE
		"\x80\x04\x95\x11":             "cut off",   // FRAME
		"\x80\x02}(K\x01K\x02u)R.":     "a call of a dictionary",
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
		_, _, err := load(bufio.NewReader(bytes.NewReader([]byte(text))))
		require.ErrorContains(t, err, want, "%q", text)
	}
}

// A damaged storage is found by the archive's checksum.
func TestDamage(t *testing.T) {
	whole, err := os.ReadFile("testdata/zip.pth")
	require.NoError(t, err)
	want, err := ReadFile("testdata/zip.pth")
	require.NoError(t, err)
	first := binary.LittleEndian.AppendUint32(nil, math.Float32bits(want["0.bias"].Data[0]))
	at := bytes.Index(whole, first)
	require.Positive(t, at)
	whole[at]++
	f, err := New(bytes.NewReader(whole), int64(len(whole)))
	require.NoError(t, err)
	_, err = f.Tensors("")
	require.ErrorIs(t, err, ErrFormat)
	require.ErrorContains(t, err, "is damaged")
}

// A checkpoint of a training script: state dictionaries beside the optimizer's state, a
// scheduler's and numbers; halves, doubles and strides.
func TestCheckpoint(t *testing.T) {
	for _, name := range []string{"ckpt.pt", "ckpt-old.pt", "ckpt-p4.pt"} {
		f, err := Open(filepath.Join("testdata", name))
		require.NoError(t, err, name)
		require.Equal(t, []string{"ema_model", "net_model"}, f.Groups(), name)
		shape, ok := f.Shape("x_T")
		require.True(t, ok)
		require.Equal(t, []int{2, 3, 4, 5}, shape)
		_, ok = f.Shape("step")
		require.False(t, ok)
		net, err := f.Tensors("net_model")
		require.NoError(t, err)
		require.Len(t, net, 6)
		require.Equal(t, Tensor{Shape: []int{2, 3}, Data: []float32{0, 2, 4, 1, 3, 5}}, net["transposed"])
		require.Equal(t, Tensor{Shape: []int{4}, Data: []float32{1, -0.5, 65504, 0x1p-24}}, net["half"])
		require.Equal(t, Tensor{Shape: []int{2}, Data: []float32{1.5, -3}}, net["bfloat16"])
		require.Equal(t, Tensor{Shape: []int{2}, Data: []float32{0.1, 3}}, net["double"])
		require.Equal(t, Tensor{Shape: []int{1}, Data: []float32{7}}, net["parameter"])
		require.Equal(t, Tensor{Shape: []int{}, Data: []float32{8}}, Tensor{Shape: append([]int{}, net["scalar"].Shape...), Data: net["scalar"].Data})
		_, err = f.Tensors("")
		require.ErrorContains(t, err, "not a tensor")
		_, err = f.Tensors("other")
		require.ErrorContains(t, err, `no dictionary "other"`)
		require.NoError(t, f.Close())
	}
}

// A view may not reach beyond its storage, whatever its strides.
func TestViews(t *testing.T) {
	for _, c := range []struct {
		v    view
		n    int64
		ok   bool
		flat bool
	}{
		{view{shape: []int{2, 3}, strides: []int64{3, 1}}, 6, true, true},
		{view{shape: []int{2, 3}, strides: []int64{1, 2}}, 6, true, false},
		{view{shape: []int{2, 3}, strides: []int64{3, 1}, offset: 1}, 0, false, false},
		{view{shape: []int{3, 3}, strides: []int64{0, 1}}, 0, false, false}, // more values than the storage
		{view{shape: []int{2}, strides: []int64{-1}}, 0, false, false},
		{view{shape: []int{2}, strides: []int64{1 << 62}}, 0, false, false},
		{view{shape: []int{0, 1 << 30}, strides: []int64{1, 1}}, 0, false, false},
		{view{shape: nil}, 1, true, true},
		{view{shape: nil, offset: 6}, 0, false, false},
		{view{shape: []int{1}, strides: []int64{1}, offset: math.MaxInt64}, 0, false, false},
	} {
		n, flat, err := c.v.extent(6)
		require.Equal(t, c.ok, err == nil, "%v", c.v)
		if c.ok {
			require.Equal(t, c.n, n)
			require.Equal(t, c.flat, flat)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, name := range []string{"zip.pth", "old.pth", "evil.pth", "strided.pth", "ckpt.pt", "ckpt-old.pt", "ckpt-p4.pt"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := New(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			require.NotContains(t, err.Error(), "\n")
			return
		}
		for _, group := range append(file.Groups(), "") {
			if _, err := file.Tensors(group); err != nil {
				require.NotContains(t, err.Error(), "\n")
			}
		}
	})
}

// FuzzPickle feeds the interpreter, past the archive's checksums.
func FuzzPickle(f *testing.F) {
	b, err := os.ReadFile("testdata/evil.pkl")
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte("\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQK\x00K\x02\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRs."))
	f.Fuzz(func(_ *testing.T, b []byte) {
		root, _, err := load(bufio.NewReader(bytes.NewReader(b)))
		d, ok := root.(*dict)
		if err != nil || !ok {
			return
		}
		file := &File{size: 1 << 10, root: d, open: func(s storage) (io.ReadCloser, error) {
			return io.NopCloser(io.LimitReader(zeros{}, s.count*elementSize[s.kind])), nil
		}}
		for _, group := range append(file.Groups(), "") {
			_, _ = file.Tensors(group)
		}
	})
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
