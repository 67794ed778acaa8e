package data

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// counted is a data set of n images; image i has label i and the value i.
type counted int

func (c counted) Name() string                        { return "counted" }
func (c counted) Len() int                            { return int(c) }
func (c counted) Size() (height, width, channels int) { return 1, 1, 1 }
func (c counted) Label(index int) int                 { return index }
func (c counted) Read(dst []float32, index int) error { dst[0] = float32(index); return nil }

// Every image is in exactly one part, in order, and the held-out ones are spread:
// any stretch of the data set holds out its share, to within one image.
func TestSplit(t *testing.T) {
	for _, c := range []struct{ n, held int }{{1797, 297}, {10, 1}, {10, 3}, {10, 9}, {2, 1}, {7, 5}, {50_000, 5000}, {1000, 999}} {
		train, held, err := Split(counted(c.n), c.held)
		require.NoError(t, err)
		require.Equal(t, c.n-c.held, train.Len())
		require.Equal(t, c.held, held.Len())
		part := make([]int, c.n)
		for which, d := range map[int]Dataset{1: train, 2: held} {
			last := -1
			for i := range d.Len() {
				at := d.Label(i)
				require.Greater(t, at, last)
				require.Zero(t, part[at])
				part[at], last = which, at
			}
		}
		seen := 0
		for i, which := range part {
			require.NotZero(t, which)
			if which == 2 {
				seen++
			}
			require.InDelta(t, float64(i+1)*float64(c.held)/float64(c.n), seen, 1)
		}
	}
	whole := counted(5)
	train, held, err := Split(whole, 0)
	require.NoError(t, err)
	require.Nil(t, held)
	require.Equal(t, Dataset(whole), train)
	for _, h := range []int{-1, 5, 6} {
		_, _, err = Split(whole, h)
		require.ErrorContains(t, err, "hold out 0 to 4")
	}
}

func TestHoldoutOfDigits(t *testing.T) {
	c := DefaultConfig()
	c.Holdout = 297
	train := openTest(t, c)
	c.Split = SplitHeldOut
	held := openTest(t, c)
	require.Equal(t, 1500, train.Len())
	require.Equal(t, 297, held.Len())
	require.Equal(t, "digits (held out)", held.Name())
	var counts [10]int
	for i := range held.Len() {
		counts[held.Label(i)]++
	}
	for class, n := range counts {
		require.InDelta(t, 29.7, n, 12, "class %d", class)
	}
	whole, image, want := openTest(t, DefaultConfig()), make([]float32, 64), make([]float32, 64)
	require.NoError(t, held.Read(image, 0)) // ceil(1797/297) - 1
	require.NoError(t, whole.Read(want, 6))
	require.Equal(t, want, image)
	require.NoError(t, train.Read(image, 6))
	require.NoError(t, whole.Read(want, 7))
	require.Equal(t, want, image)

	c.Holdout = 0
	_, err := Open(c)
	require.ErrorContains(t, err, "set data.holdout to the number of images to hold out")
	c.Holdout = 1797
	_, err = Open(c)
	require.ErrorContains(t, err, "data.holdout is 1797; digits has 1797 images: hold out 0 to 1796")
	_, err = Open(Config{Name: CIFAR10, Dir: "x", Split: SplitAll, Holdout: 5})
	require.ErrorContains(t, err, "held out of the train split")
}
