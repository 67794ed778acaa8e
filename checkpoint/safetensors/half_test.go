package safetensors

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every one of the 65536 half values survives widening and rounding, and every
// float between two neighbours rounds to the nearer, ties to the even one.
func TestHalfRoundsToNearestEven(t *testing.T) {
	for name, c := range map[string]struct {
		widen func(uint16) float32
		round func(float32) uint16
		inf   uint16
	}{
		"F16":  {f16ToF32, f32ToF16, 0x7c00},
		"BF16": {bf16ToF32, f32ToBF16, 0x7f80},
	} {
		for h := range uint16(0xffff) {
			f := c.widen(h)
			if h&0x7fff > c.inf {
				require.True(t, math.IsNaN(float64(f)), "%s %#x", name, h)
				require.True(t, math.IsNaN(float64(c.widen(c.round(f)))), "%s %#x", name, h)
				continue
			}
			if c.round(f) != h {
				t.Fatalf("%s: %#x -> %g -> %#x", name, h, f, c.round(f))
			}
			if h&0x7fff >= c.inf-1 {
				continue
			}
			// the middle between h and its neighbour away from zero
			mid := float32((float64(f) + float64(c.widen(h+1))) / 2)
			even := h + h&1
			below := math.Nextafter32(mid, 0)
			above := math.Nextafter32(mid, float32(math.Inf(1)))
			if math.Signbit(float64(f)) {
				above = math.Nextafter32(mid, float32(math.Inf(-1)))
			}
			if c.round(mid) != even || c.round(below) != h || c.round(above) != h+1 {
				t.Fatalf("%s: around %g: %#x %#x %#x, want %#x %#x %#x", name, mid, c.round(below), c.round(mid), c.round(above), h, even, h+1)
			}
		}
	}
	require.Equal(t, uint16(0x7c00), f32ToF16(65520), "halfway to 65536 is infinity")
	require.Equal(t, uint16(0x7bff), f32ToF16(math.Nextafter32(65520, 0)))
	require.Equal(t, uint16(0x7f80), f32ToBF16(math.MaxFloat32))
	require.Equal(t, uint16(0x8000), f32ToF16(-1e-30))
}
