package data

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDigits(t *testing.T) {
	d, err := Open(DefaultConfig())
	require.NoError(t, err)
	require.Equal(t, 1797, d.Len())
	height, width, channels := d.Size()
	require.Equal(t, []int{8, 8, 1}, []int{height, width, channels})

	// The first image, a zero, as UCI prints it.
	image := make([]float32, 64)
	require.NoError(t, d.Read(image, 0))
	for i, v := range []float32{
		0, 0, 5, 13, 9, 1, 0, 0,
		0, 0, 13, 15, 10, 15, 5, 0,
		0, 3, 15, 2, 0, 11, 8, 0,
		0, 4, 12, 0, 0, 8, 8, 0,
		0, 5, 8, 0, 0, 9, 8, 0,
		0, 4, 11, 0, 1, 12, 7, 0,
		0, 2, 14, 5, 10, 12, 0, 0,
		0, 0, 6, 13, 10, 0, 0, 0,
	} {
		require.InDelta(t, v/8-1, image[i], 0, "pixel %d", i)
	}
	var counts [10]int
	var sum float64
	for i := range d.Len() {
		counts[d.Label(i)]++
		require.NoError(t, d.Read(image, i))
		for _, v := range image {
			if v < -1 || v > 1 {
				require.Fail(t, "out of range", "image %d: %v", i, v)
			}
			sum += float64(v)
		}
	}
	require.Equal(t, [10]int{178, 182, 177, 183, 181, 182, 181, 179, 174, 180}, counts)
	require.InDelta(t, 4.884165/8-1, sum/(1797*64), 1e-6) // the mean pixel is 4.884165
	require.Equal(t, 8, d.Label(1796))
	require.Panics(t, func() { _ = d.Read(image, 1797) })
	require.Panics(t, func() { _ = d.Read(image[:63], 0) })
	require.NoError(t, Close(d))
}

func TestDigitsNoticeNamesTheFile(t *testing.T) {
	notice, err := os.ReadFile("NOTICE.md")
	require.NoError(t, err)
	sum := sha256.Sum256(digitsFile)
	require.Contains(t, string(notice), hex.EncodeToString(sum[:]))
}

func compress(t *testing.T, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write([]byte(text))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}

func TestParseDigitsRefusesDamage(t *testing.T) {
	line := strings.Repeat("0,", 64)
	for want, file := range map[string][]byte{
		"EOF":                  nil,
		"invalid header":       []byte("not a gzip file"),
		"unexpected EOF":       digitsFile[:30_000],
		`value 64 is "10"`:     compress(t, line+"10\n"),
		`value 0 is "17"`:      compress(t, "17,"+line[2:]+"1\n"),
		`value 1 is "x"`:       compress(t, "0,x,"+line[4:]+"1\n"),
		"wrong number":         compress(t, line+"1,1\n"),
		"1 images; there must": compress(t, line+"1\n"),
	} {
		_, err := parseDigits(bytes.NewReader(file))
		require.ErrorContains(t, err, want)
	}
}

func FuzzParseDigits(f *testing.F) {
	f.Add([]byte(strings.Repeat("1,", 64)+"3\n"), true)
	f.Add(digitsFile[:2000], false)
	f.Fuzz(func(t *testing.T, text []byte, wrap bool) {
		if wrap {
			text = compress(t, string(text))
		}
		if d, err := parseDigits(bytes.NewReader(text)); err == nil {
			require.Len(t, d.labels, digitsLen)
			require.Len(t, d.pixels, digitsLen*64)
		}
	})
}
