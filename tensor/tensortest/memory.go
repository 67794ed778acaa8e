package tensortest

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/tensor"
)

// testMemory covers Alloc, Free, Slice and the transfers.
func testMemory(t *testing.T, be tensor.Backend) {
	t.Helper()
	for _, dt := range []tensor.DType{tensor.F32, tensor.BF16, tensor.I64} {
		buf, err := be.Alloc(dt, 37)
		require.NoError(t, err)
		require.Equal(t, dt, buf.DType())
		require.Equal(t, 37, buf.Len())
		if dt != tensor.I64 {
			require.Equal(t, make([]float32, 37), download(t, be, buf), "%v: a new buffer is zero", dt)
		}
		be.Free(buf)

		empty, err := be.Alloc(dt, 0)
		require.NoError(t, err)
		require.Zero(t, empty.Len())
		be.Free(empty)

		_, err = be.Alloc(dt, 1<<48)
		require.Error(t, err, "no machine has 2^48 elements of %v", dt)
		_, err = be.Alloc(dt, math.MaxInt)
		require.Error(t, err, "the size in bytes does not fit an int64")
	}
	testSlices(t, be)
	testBF16(t, be)
}

func download(tb testing.TB, be tensor.Backend, b tensor.Buffer) []float32 {
	tb.Helper()
	out := make([]float32, b.Len())
	require.NoError(tb, be.Download(out, b))
	return out
}

func testSlices(t *testing.T, be tensor.Backend) {
	t.Helper()
	buf, err := be.Alloc(tensor.F32, 10)
	require.NoError(t, err)
	defer be.Free(buf)
	src := []float32{1, 2, 3}
	be.Upload(be.Slice(buf, 4, 3), src)
	src[0] = 99 // the caller may reuse it at once
	inner := be.Slice(be.Slice(buf, 2, 8), 2, 2)
	be.Scale(tensor.Tensor{Buf: inner, Shape: shape(2)}, tensor.Tensor{Buf: inner, Shape: shape(2)}, 10)
	require.Equal(t, []float32{0, 0, 0, 0, 10, 20, 3, 0, 0, 0}, download(t, be, buf))
	require.NoError(t, be.Sync())
	require.Panics(t, func() { be.Slice(buf, 8, 3) })
	require.Panics(t, func() { be.Upload(buf, src) })
}

// testBF16 checks the conversions against bit patterns: nearest, ties to even.
func testBF16(t *testing.T, be tensor.Backend) {
	t.Helper()
	from := []uint32{
		0x3f80_0000, 0x3f80_7fff, 0x3f80_8000, 0x3f80_8001, 0x3f81_8000, 0x3f81_7fff,
		0x8000_0000, 0x7f7f_ffff, 0x7f80_0000, 0xff80_0000, 0x0000_8000, 0x0001_8000, 0xbfc0_0000,
	}
	to := []uint32{
		0x3f80_0000, 0x3f80_0000, 0x3f80_0000, 0x3f81_0000, 0x3f82_0000, 0x3f81_0000,
		0x8000_0000, 0x7f80_0000, 0x7f80_0000, 0xff80_0000, 0x0000_0000, 0x0002_0000, 0xbfc0_0000,
	}
	in, want := make([]float32, len(from)+1), make([]float32, len(from)+1)
	for i := range from {
		in[i], want[i] = math.Float32frombits(from[i]), math.Float32frombits(to[i])
	}
	in[len(from)] = math.Float32frombits(0x7f80_0001) // a NaN whose upper half is infinity
	want[len(from)] = float32(math.NaN())
	s := shape(len(in))
	tensors := map[string]tensor.Tensor{}
	for name, dt := range map[string]tensor.DType{"f32": tensor.F32, "bf16": tensor.BF16, "bf16 b": tensor.BF16} {
		buf, err := be.Alloc(dt, len(in))
		require.NoError(t, err)
		defer be.Free(buf)
		tensors[name] = tensor.Tensor{Buf: buf, Shape: s}
	}
	be.Upload(tensors["bf16"].Buf, in)
	requireBits(t, want, download(t, be, tensors["bf16"].Buf), "Upload")

	be.Upload(tensors["f32"].Buf, in)
	be.Copy(tensors["bf16"], tensors["f32"])
	requireBits(t, want, download(t, be, tensors["bf16"].Buf), "Copy F32 to BF16")
	be.Copy(tensors["bf16 b"], tensors["bf16"])
	requireBits(t, want, download(t, be, tensors["bf16 b"].Buf), "Copy BF16 to BF16")
	be.Fill(tensors["f32"], 5)
	be.Copy(tensors["f32"], tensors["bf16 b"])
	requireBits(t, want, download(t, be, tensors["f32"].Buf), "Copy BF16 to F32")
}

// testMisuse requires a panic that names both shapes.
func testMisuse(t *testing.T, be tensor.Backend) {
	t.Helper()
	of := func(dims ...int) tensor.Tensor {
		s := shape(dims...)
		buf, err := be.Alloc(tensor.F32, s.Len())
		require.NoError(t, err)
		t.Cleanup(func() { be.Free(buf) })
		return tensor.Tensor{Buf: buf, Shape: s}
	}
	var none tensor.Tensor
	for _, c := range []struct {
		name  string
		f     func()
		names []string
	}{
		{"Add", func() { be.Add(of(2, 3), of(2, 3), of(3, 2)) }, []string{"[2 3]", "[3 2]"}},
		{"Copy", func() { be.Copy(of(4), of(5)) }, []string{"[4]", "[5]"}},
		{"AddChannels", func() { be.AddChannels(of(2, 3), of(2, 3), of(2)) }, []string{"[2]", "[3]"}},
		{"Concat", func() { be.Concat(of(2, 7), of(2, 3), of(2, 3)) }, []string{"[2 7]", "[2 3]"}},
		{"MatMul", func() {
			be.MatMul(of(2, 4), of(2, 3), of(5, 4), tensor.MatMulArgs{Alpha: 1})
		}, []string{"[2 3]", "[5 4]"}},
		{"Conv2D", func() {
			be.Conv2D(of(1, 4, 4, 2), of(1, 4, 4, 3), of(3, 3, 4, 2), none, none, none, k3)
		}, []string{"[3 3 4 2]", "[3 3 3 2]"}},
		{"Conv2D output", func() {
			be.Conv2D(of(1, 4, 4, 2), of(1, 4, 4, 3), of(3, 3, 3, 2), none, none, none, k3s2)
		}, []string{"[1 4 4 2]", "[1 2 2 2]"}},
		{"GroupNorm", func() {
			be.GroupNorm(of(1, 2, 2, 6), of(1, 4), of(1, 4), of(1, 2, 2, 6), of(6), of(6), 4, normEps)
		}, []string{"6", "4"}},
		{"Upsample", func() { be.Upsample(of(1, 4, 4, 3), of(1, 3, 2, 3)) }, []string{"[1 4 4 3]", "[1 6 4 3]"}},
		{"Dropout", func() { be.Dropout(of(2, 3), of(2, 3), of(2), 1, 0, 0) }, []string{"p"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer func() {
				v := recover()
				require.NotNil(t, v, "no panic")
				for _, name := range c.names {
					require.Contains(t, fmt.Sprint(v), name)
				}
			}()
			c.f()
		})
	}
}
