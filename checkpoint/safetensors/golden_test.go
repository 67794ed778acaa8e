package safetensors_test

import (
	"bytes"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/checkpoint/safetensors"
)

const awkward = "quote \" <&> snow \u2603 tab \t"

// The tensors of testdata/all_dtypes.safetensors, as make_golden.py has them.
func goldenTensors() []safetensors.Tensor {
	inf := float32(math.Inf(1))
	return []safetensors.Tensor{
		{"bool", safetensors.Bool, []int{3}, safetensors.Int64s{1, 0, 1}},
		{"empty", safetensors.F32, []int{2, 0, 3}, safetensors.Float32s{}},
		{"f16", safetensors.F16, []int{4}, safetensors.Float32s{1.0009765625, -65504, 0x1p-24, inf}},
		{"f32", safetensors.F32, []int{2, 2}, safetensors.Float32s{0.1, float32(math.Copysign(0, -1)), inf, math.MaxFloat32}},
		{"f64", safetensors.F64, []int{1, 3}, safetensors.Raw{
			0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0, 0, 0, 0, 0, 0, 2, 0xc0, 0x9c, 0x75, 0, 0x88, 0x3c, 0xe4, 0x37, 0x7e,
		}},
		{"i16", safetensors.I16, []int{2}, safetensors.Int64s{math.MinInt16, math.MaxInt16}},
		{"i32", safetensors.I32, []int{2}, safetensors.Int64s{math.MinInt32, math.MaxInt32}},
		{"i64", safetensors.I64, []int{3}, safetensors.Int64s{math.MinInt64, math.MaxInt64, 7}},
		{"i8", safetensors.I8, []int{3}, safetensors.Int64s{-128, 127, 3}},
		{awkward, safetensors.F32, []int{2}, safetensors.Float32s{1, 2}},
		{"scalar", safetensors.F32, []int{}, safetensors.Float32s{42}},
		{"u8", safetensors.U8, []int{5}, safetensors.Int64s{0, 255, 3, 4, 5}},
	}
}

func TestReadsReferenceFile(t *testing.T) {
	f, err := safetensors.ReadFile("testdata/all_dtypes.safetensors")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"note": "a \"quoted\" \u2603 <value>\n"}, f.Metadata())
	require.Equal(t, []string{"bool", "empty", "f16", "f32", "f64", "i16", "i32", "i64", "i8", awkward, "scalar", "u8"}, f.Names())

	inf := float32(math.Inf(1))
	for name, want := range map[string][]float32{
		"bool":   {1, 0, 1},
		"empty":  {},
		"f16":    {1.0009765625, -65504, 0x1p-24, inf},
		"f32":    {0.1, 0, inf, math.MaxFloat32},
		"f64":    {1.5, -2.25, inf},
		"i16":    {-32768, 32767},
		"i32":    {-1 << 31, 1 << 31},
		"i64":    {-1 << 63, 1 << 63, 7},
		"i8":     {-128, 127, 3},
		awkward:  {1, 2},
		"scalar": {42},
		"u8":     {0, 255, 3, 4, 5},
	} {
		got, shape, err := f.Float32(name)
		require.NoError(t, err, name)
		require.Equal(t, want, got, name)
		e, ok := f.Lookup(name)
		require.True(t, ok)
		require.Equal(t, e.Shape, shape)
	}
	v, _, err := f.Float32("f32")
	require.NoError(t, err)
	require.True(t, math.Signbit(float64(v[1])), "the sign of -0 is kept")
	_, shape, err := f.Float32("empty")
	require.NoError(t, err)
	require.Equal(t, []int{2, 0, 3}, shape)
	_, shape, err = f.Float32("scalar")
	require.NoError(t, err)
	require.Empty(t, shape)

	ints, _, err := f.Int64("i64")
	require.NoError(t, err)
	require.Equal(t, []int64{math.MinInt64, math.MaxInt64, 7}, ints)
	_, _, err = f.Int64("f32")
	require.ErrorContains(t, err, `key "f32": F32 is not an integer type`)
	_, _, err = f.Float32("nosuch")
	require.ErrorIs(t, err, safetensors.ErrNotFound)
	require.ErrorContains(t, err, `testdata/all_dtypes.safetensors: key "nosuch"`)
}

func TestReadsReferenceBF16(t *testing.T) {
	f, err := safetensors.Open("testdata/bf16.safetensors")
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	v, shape, err := f.Float32("bf16")
	require.NoError(t, err)
	require.Equal(t, []int{4}, shape)
	require.Equal(t, []float32{1, -3.140625, math.Float32frombits(0x0001 << 16), float32(math.Inf(1))}, v)
	require.Empty(t, f.Metadata())
}

func TestWritesTheReferenceBytes(t *testing.T) {
	want, err := os.ReadFile("testdata/all_dtypes.safetensors")
	require.NoError(t, err)
	var got bytes.Buffer
	meta := map[string]string{"note": "a \"quoted\" \u2603 <value>\n"}
	require.NoError(t, safetensors.Write(&got, goldenTensors(), meta))
	require.Equal(t, want, got.Bytes())
	n, err := safetensors.Size(goldenTensors(), meta)
	require.NoError(t, err)
	require.Equal(t, int64(len(want)), n)
}
