package safetensors_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/checkpoint/safetensors"
)

func write(tb testing.TB, tensors []safetensors.Tensor, meta map[string]string) []byte {
	tb.Helper()
	var b bytes.Buffer
	require.NoError(tb, safetensors.Write(&b, tensors, meta))
	return b.Bytes()
}

// Random sets of tensors come back as they were, from memory, from a ReaderAt
// and from a stream; the order in which they are handed over does not matter.
func TestRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	types := []safetensors.DType{safetensors.F32, safetensors.F64, safetensors.BF16, safetensors.F16}
	for range 50 {
		var list []safetensors.Tensor
		for i := range r.IntN(12) {
			shape := make([]int, r.IntN(4))
			n := 1
			for j := range shape {
				shape[j] = r.IntN(9)
				n *= shape[j]
			}
			v := make([]float32, n)
			for j := range v {
				v[j] = float32(r.IntN(256) - 128) // exact in every float type
			}
			list = append(list, safetensors.Tensor{Name: fmt.Sprintf("t%d", i*7919%101), DType: types[r.IntN(4)], Shape: shape, Data: safetensors.Float32s(v)})
		}
		b := write(t, list, map[string]string{"b": "2", "a": "1"})
		require.Zero(t, (len(b)-dataLen(list))%8, "the data starts at a multiple of 8")
		shuffled := slices.Clone(list)
		r.Shuffle(len(list), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		require.Equal(t, b, write(t, shuffled, map[string]string{"a": "1", "b": "2"}))

		f, err := safetensors.Parse(b)
		require.NoError(t, err)
		require.Equal(t, map[string]string{"a": "1", "b": "2"}, f.Metadata())
		require.Len(t, f.Names(), len(list))
		for _, want := range list {
			got, shape, err := f.Float32(want.Name)
			require.NoError(t, err)
			require.Equal(t, []float32(want.Data.(safetensors.Float32s)), got)
			require.Equal(t, append([]int{}, want.Shape...), append([]int{}, shape...))
			into := make([]float32, len(got))
			require.NoError(t, f.Float32Into(into, want.Name))
			require.Equal(t, got, into)
			require.Error(t, f.Float32Into(make([]float32, len(got)+1), want.Name))
		}
		d, err := safetensors.NewDecoder(bytes.NewReader(b), int64(len(b)))
		require.NoError(t, err)
		for _, e := range d.Entries() {
			require.Zero(t, e.Begin%e.DType.Size(), "aligned to its element")
			got := make([]float32, e.Len())
			require.NoError(t, d.Float32(got))
			want, _, err := f.Float32(e.Name)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		require.ErrorIs(t, d.Float32(nil), io.EOF)
		require.ErrorIs(t, d.Skip(), io.EOF)

		d, err = safetensors.NewDecoder(bytes.NewReader(b), int64(len(b)))
		require.NoError(t, err)
		for i, e := range d.Entries() { // every other one
			if i%2 == 0 {
				require.NoError(t, d.Skip())
				continue
			}
			got := make([]float32, e.Len())
			require.NoError(t, d.Float32(got))
			want, _, err := f.Float32(e.Name)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
	}
}

func dataLen(list []safetensors.Tensor) int {
	n := 0
	for _, t := range list {
		e := 1
		for _, d := range t.Shape {
			e *= d
		}
		n += e * int(t.DType.Size())
	}
	return n
}

func TestTensorsLargerThanTheBuffer(t *testing.T) {
	v := make([]float32, 300_001)
	for i := range v {
		v[i] = float32(i)
	}
	for _, d := range []safetensors.DType{safetensors.F32, safetensors.F64} {
		f, err := safetensors.Parse(write(t, []safetensors.Tensor{{Name: "v", DType: d, Shape: []int{len(v)}, Data: safetensors.Float32s(v)}}, nil))
		require.NoError(t, err)
		got, _, err := f.Float32("v")
		require.NoError(t, err)
		require.Equal(t, v, got)
	}
}

func TestWriteHookedSeesTheDataOnly(t *testing.T) {
	var file, data bytes.Buffer
	list := goldenTensors()
	require.NoError(t, safetensors.WriteHooked(&file, list, nil, &data))
	require.Len(t, data.Bytes(), dataLen(list))
	require.True(t, bytes.HasSuffix(file.Bytes(), data.Bytes()))
}

func TestWriteRefuses(t *testing.T) {
	one := func(name string, d safetensors.DType, shape []int, data safetensors.Data) []safetensors.Tensor {
		return []safetensors.Tensor{{Name: name, DType: d, Shape: shape, Data: data}}
	}
	f1 := safetensors.Float32s{1}
	for want, c := range map[string][]safetensors.Tensor{
		"the name is reserved":             one("__metadata__", safetensors.F32, nil, f1),
		"not UTF-8":                        one("\xff", safetensors.F32, nil, f1),
		"DType(0) is no dtype":             one("a", 0, nil, f1),
		"no data":                          one("a", safetensors.F32, nil, nil),
		"1 elements for shape [2]":         one("a", safetensors.F32, []int{2}, f1),
		"overflows":                        one("a", safetensors.F32, []int{math.MaxInt, 4}, f1),
		"shape [-1] of F32":                one("a", safetensors.F32, []int{-1}, f1),
		"Float32s cannot be written as I8": one("a", safetensors.I8, nil, f1),
		"Int64s cannot be written as F16":  one("a", safetensors.F16, nil, safetensors.Int64s{1}),
		"Raw cannot be written as F32":     one("a", safetensors.F32, nil, safetensors.Raw{1, 2, 3}),
		"128 is out of the range of I8":    one("a", safetensors.I8, nil, safetensors.Int64s{128}),
		"2 is out of the range of BOOL":    one("a", safetensors.Bool, nil, safetensors.Int64s{2}),
		`key "a" occurs twice`:             append(one("a", safetensors.F32, nil, f1), one("a", safetensors.F32, nil, f1)...),
	} {
		require.ErrorContains(t, safetensors.Write(io.Discard, c, nil), want)
	}
	require.ErrorContains(t, safetensors.Write(io.Discard, nil, map[string]string{"k": "\xff"}), "not UTF-8")
}

type shortWriter struct{ left int }

func (w *shortWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		return 0, errShort
	}
	w.left -= len(p)
	return len(p), nil
}

var errShort = errors.New("no room")

func TestWriteErrorsAreWrapped(t *testing.T) {
	list := goldenTensors()
	n, err := safetensors.Size(list, nil)
	require.NoError(t, err)
	for left := range int(n) {
		require.ErrorIs(t, safetensors.Write(&shortWriter{left}, list, nil), errShort, "%d bytes", left)
	}
	require.NoError(t, safetensors.Write(&shortWriter{int(n)}, list, nil))
}

func TestWriteNeedsNoSecondCopy(t *testing.T) {
	v := make([]float32, 4<<20) // 16 MiB
	list := []safetensors.Tensor{{Name: "v", DType: safetensors.F32, Shape: []int{len(v)}, Data: safetensors.Float32s(v)}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	require.NoError(t, safetensors.Write(io.Discard, list, nil))
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
}

func FuzzParse(f *testing.F) {
	f.Add(file(`{}`, 0))
	f.Add(file(`{"__metadata__":{"a":"b"},"x":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}`, 8))
	f.Add(file(`{"a":{"dtype":"BOOL","shape":[],"data_offsets":[0,1]},"b":{"dtype":"I64","shape":[0],"data_offsets":[1,1]}} `, 1))
	f.Add(write(f, goldenTensors(), map[string]string{"note": "x"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := safetensors.Parse(b)
		if err != nil {
			require.ErrorIs(t, err, safetensors.ErrInvalid)
			return
		}
		// An accepted file is tiled by its tensors, and written again it is
		// the same file but for the order.
		var at int64
		var list []safetensors.Tensor
		for _, e := range file.Entries() {
			require.Equal(t, at, e.Begin)
			at = e.End
			_, _, err := file.Float32(e.Name)
			require.NoError(t, err)
			raw, err := file.Bytes(e.Name)
			require.NoError(t, err)
			list = append(list, safetensors.Tensor{Name: e.Name, DType: e.DType, Shape: e.Shape, Data: safetensors.Raw(raw)})
		}
		require.LessOrEqual(t, at, int64(len(b)))
		again, err := safetensors.Parse(write(t, list, file.Metadata()))
		require.NoError(t, err)
		require.Equal(t, file.Names(), again.Names())
		require.Equal(t, file.Metadata(), again.Metadata())
		for _, w := range list {
			raw, err := again.Bytes(w.Name)
			require.NoError(t, err)
			require.Equal(t, []byte(w.Data.(safetensors.Raw)), raw)
		}
	})
}
