package imagefile

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// file reads a file of testdata.
func file(tb testing.TB, name string) []byte {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(tb, err)
	return text
}

// Every format and mode, upright and over white, as Pillow reads it (testdata/make.py).
func TestAsPillow(t *testing.T) {
	var golden map[string]struct {
		Width, Height int
		Mode          string
		RGB           []int
	}
	require.NoError(t, json.Unmarshal(file(t, "golden.json"), &golden))
	modes := map[string]string{"L": "gray", "P": "palette", "RGB": "rgb", "RGBA": "rgba", "I;16": "gray16", "CMYK": "cmyk", "LA": "rgba", "1": "gray"}
	for name, want := range golden {
		t.Run(name, func(t *testing.T) {
			m, h, err := Decode(file(t, name), 1000)
			require.NoError(t, err)
			require.Equal(t, want.Width, h.Width)
			require.Equal(t, want.Height, h.Height)
			if h.Format == PNG || h.Format == JPEG {
				require.Equal(t, modes[want.Mode], h.Mode)
			}
			require.Equal(t, strings.HasPrefix(name, "anim") && h.Format != GIF, h.Animated)

			// The middle 8x8 of 12x8, copied.
			got := Square(m, h.Orientation, 8, 3)
			var sum float64
			for y := range 8 {
				for x := range 8 {
					for c := range 3 {
						sum += math.Abs(float64(got[(y*8+x)*3+c]) - float64(want.RGB[(y*want.Width+x+2)*3+c]))
					}
				}
			}
			limit := 0.5
			switch {
			case strings.HasPrefix(name, "exif") && h.Format == JPEG, name == "gray.jpg":
				limit = 3
			case h.Format == JPEG, strings.Contains(name, "lossy"):
				limit = 24 // the decoders spread halved colour differently; a wrong turn makes 60 and more
			}
			require.LessOrEqual(t, sum/(8*8*3), limit)
		})
	}
	require.Greater(t, len(golden), 35)
}

// The eight orientations are one picture, to the pixel where nothing is lost.
func TestOrientations(t *testing.T) {
	corners := func(text []byte) (out [4][3]int) {
		m, h, err := Decode(text, 1000)
		require.NoError(t, err)
		got := Square(m, h.Orientation, 4, 3) // scaled
		for i, at := range []int{0, 3, 12, 15} {
			for c := range 3 {
				out[i][c] = int(got[at*3+c])
			}
		}
		return out
	}
	want := corners(file(t, "exif1.jpg"))
	for o := byte('2'); o <= '8'; o++ {
		got := corners(file(t, "exif"+string(o)+".jpg"))
		for i := range want {
			require.InDeltaSlice(t, want[i][:], got[i][:], 24, "orientation %c, corner %d", o, i)
		}
	}
	// Which is not so when the orientation is left out.
	stripped := strings.Replace(string(file(t, "exif3.jpg")), "Exif\x00\x00", "Exib\x00\x00", 1)
	require.NotEqual(t, want, corners([]byte(stripped)))
	require.Greater(t, corners([]byte(stripped))[0][1], 150, "upside down: yellow is first")
}

// Odd differences between the sides: the crop is the same of every orientation.
func TestCropIsThatOfTheUprightPicture(t *testing.T) {
	for o := 1; o <= 8; o++ {
		mirrorX, mirrorY, transpose := turn(o)
		stored := storedAs(o, 7, 4)
		got := Square(stored, o, 4, 1)
		for y := range 4 {
			for x := range 4 {
				require.Equal(t, byte(10*(x+1)+y), got[4*y+x], "orientation %d (%t %t %t)", o, mirrorX, mirrorY, transpose)
			}
		}
	}
}
