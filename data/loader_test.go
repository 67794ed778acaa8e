package data

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func openTest(t *testing.T, c Config) Dataset {
	t.Helper()
	d, err := Open(c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, Close(d)) })
	return d
}

// What a draw gives does not depend on the batch it is loaded in.
func TestLoaderBatchesAgree(t *testing.T) {
	d := openTest(t, DefaultConfig())
	l := NewLoader(d, 42, true)
	require.Equal(t, 64, l.ImageLen())
	require.Equal(t, d, l.Dataset())
	draws := []int64{0, 1, 2, 1796, 1797, 5000, math.MaxInt64}
	all := make([]float32, len(draws)*64)
	require.NoError(t, l.Load(all, draws))
	one, raw, flips := make([]float32, 64), make([]float32, 64), 0
	for i, draw := range draws {
		require.NoError(t, NewLoader(d, 42, true).Load(one, []int64{draw}))
		require.Equal(t, all[i*64:(i+1)*64], one)

		epoch, index, flipped := l.Sample(draw)
		require.Equal(t, uint64(draw)/1797, epoch)
		require.NoError(t, d.Read(raw, index))
		if flipped {
			flips++
			for y := range 8 {
				for x := range 8 {
					require.InDelta(t, raw[y*8+x], one[y*8+7-x], 0)
				}
			}
		} else {
			require.Equal(t, raw, one)
		}
	}
	require.Positive(t, flips)
	require.Less(t, flips, len(draws))
	require.Panics(t, func() { l.Sample(-1) })
	require.Panics(t, func() { _ = l.Load(all[:65], draws[:1]) })
}

func TestLoaderFlipsHalf(t *testing.T) {
	l := NewLoader(openTest(t, DefaultConfig()), 3, true)
	flips := 0
	for draw := range int64(10_000) {
		_, index, flipped := l.Sample(draw)
		_, plain, never := NewLoader(l.Dataset(), 3, false).Sample(draw)
		require.Equal(t, plain, index)
		require.False(t, never)
		if flipped {
			flips++
		}
	}
	require.InDelta(t, 5000, flips, 250)
}

func TestMirror(t *testing.T) {
	image := []float32{
		1, 2, 3, 4, 5, 6, 7, 8, 9, // a row of three RGB pixels
		11, 12, 13, 14, 15, 16, 17, 18, 19,
	}
	mirror(image, 2, 3, 3)
	require.Equal(t, []float32{7, 8, 9, 4, 5, 6, 1, 2, 3, 17, 18, 19, 14, 15, 16, 11, 12, 13}, image)
}

func TestLoadDoesNotAllocate(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "r.bin"), record(1, 2, 3, 4), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "i.png"), encodePNG(t, paint(8, 8, flat(1, 2, 3, 255))), 0o600))
	for _, c := range []Config{
		DefaultConfig(),
		{Name: Records, Dir: dir},
		{Name: Folder, Dir: dir, Size: 8, Channels: 3, CacheBytes: 1 << 20},
	} {
		l := NewLoader(openTest(t, c), 1, true)
		dst, draws := make([]float32, l.ImageLen()), make([]int64, 1)
		// The race detector makes sync.Pool drop a part of what it is given; the
		// average over runs is rounded down.
		require.Zero(t, int(testing.AllocsPerRun(100, func() {
			draws[0]++
			require.NoError(t, l.Load(dst, draws))
		})), c.Name)
	}
}

// faulty fails for one image.
type faulty struct {
	Dataset
	index int
}

var errFault = errors.New("bad sector")

func (f faulty) Read(dst []float32, index int) error {
	if index == f.index {
		return errFault
	}
	return f.Dataset.Read(dst, index)
}

func TestLoadNamesTheImage(t *testing.T) {
	l := NewLoader(faulty{openTest(t, DefaultConfig()), 1155}, 42, false)
	err := l.Load(make([]float32, 2*64), []int64{1, 0})
	require.ErrorIs(t, err, errFault)
	require.ErrorContains(t, err, "digits: image 1155 (draw 0): bad sector")
}

func TestVerifyStops(t *testing.T) {
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	require.ErrorIs(t, Verify(ctx, openTest(t, DefaultConfig())), cause)
}

func BenchmarkLoadDigits(b *testing.B) {
	d, err := Open(DefaultConfig())
	require.NoError(b, err)
	benchmarkLoad(b, d)
}

func BenchmarkLoadRecords(b *testing.B) {
	dir := b.TempDir()
	require.NoError(b, os.WriteFile(filepath.Join(dir, "r.bin"), make([]byte, 1000*recordLen), 0o600))
	d, err := Open(Config{Name: Records, Dir: dir})
	require.NoError(b, err)
	benchmarkLoad(b, d)
	require.NoError(b, Close(d))
}

func benchmarkLoad(b *testing.B, d Dataset) {
	b.Helper()
	l := NewLoader(d, 1, true)
	draws := make([]int64, 128)
	dst := make([]float32, len(draws)*l.ImageLen())
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		for j := range draws {
			draws[j] = int64(i*len(draws) + j)
		}
		if err := l.Load(dst, draws); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*len(draws))/b.Elapsed().Seconds(), "images/s")
}
