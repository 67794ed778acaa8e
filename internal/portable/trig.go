package portable

import "math"

// Coefficients of sine and cosine over [-pi/4, pi/4], the highest power first, and pi/4
// in three parts (Cephes, sin.c).
var (
	sine   = [...]float64{1.58962301576546568060e-10, -2.50507477628578072866e-8, 2.75573136213857245213e-6, -1.98412698295895385996e-4, 8.33333333332211858878e-3, -1.66666666666666307295e-1}
	cosine = [...]float64{-1.13585365213876817300e-11, 2.08757008419747316778e-9, -2.75573141792967388112e-7, 2.48015872888517045348e-5, -1.38888888888730564116e-3, 4.16666666666665929218e-2}
)

const quarter1, quarter2, quarter3 = 7.85398125648498535156e-1, 3.77489470793079817668e-8, 2.69515142907905952645e-15

// limitTrig is where the reduction by three parts of pi/4 ends.
const limitTrig = 1 << 29

// Sincos is the sine and the cosine of x, |x| < 2^29; beyond that they are NaN.
func Sincos(x float64) (sin, cos float64) {
	if !(math.Abs(x) < limitTrig) {
		return math.NaN(), math.NaN()
	}
	if x == 0 {
		return x, 1
	}
	octant := uint64(math.Abs(x) * (4 / math.Pi))
	octant += octant & 1
	y := float64(octant)
	z := ((math.Abs(x) - float64(y*quarter1)) - float64(y*quarter2)) - float64(y*quarter3)
	zz := float64(z * z)
	cos = 1 - float64(0.5*zz) + float64(float64(zz*zz)*horner(&cosine, zz))
	sin = z + float64(float64(z*zz)*horner(&sine, zz))
	if octant&2 != 0 {
		sin, cos = cos, -sin
	}
	if octant&4 != 0 {
		sin, cos = -sin, -cos
	}
	if x < 0 {
		sin = -sin
	}
	return sin, cos
}

// Cos is the cosine of x, |x| < 2^29.
func Cos(x float64) float64 {
	_, cos := Sincos(x)
	return cos
}

func horner(c *[6]float64, x float64) float64 {
	y := c[0]
	for _, v := range c[1:] {
		y = float64(y*x) + v
	}
	return y
}
