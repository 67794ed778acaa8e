package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

var negInf = math.Inf(-1)

// exponential holds the constants of exp: the argument is limited to where the
// result is a normal number, split as n ln 2 + r, and exp(r) is the polynomial of
// Cephes' expf. The plain Go twin does the same.
type exponential struct {
	isa
	least, most, log2e, ln2hi, ln2lo, one constant
	poly                                  []constant
}

func (s isa) exponential() exponential {
	e := exponential{
		isa:   s,
		least: s.constant(-86.5), most: s.constant(88),
		log2e: s.constant(1.44269504088896341),
		ln2hi: s.constant(0.693359375), ln2lo: s.constant(-2.12194440e-4),
		one: s.constant(1),
	}
	for _, c := range []float32{
		1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1,
	} {
		e.poly = append(e.poly, s.constant(c))
	}
	return e
}

// exp uses x up. Min and max return their second operand, x, for a NaN.
func (e exponential) exp(x reg.VecVirtual) reg.VecVirtual {
	VMAXPS(x, e.least(), x)
	VMINPS(x, e.most(), x)
	n, y := e.vector(), e.vector()
	VMULPS(e.log2e(), x, n)
	if e.wide {
		VRNDSCALEPS(Imm(8), n, n)
	} else {
		VROUNDPS(Imm(8), n, n)
	}
	VFNMADD231PS(e.ln2hi(), n, x)
	VFNMADD231PS(e.ln2lo(), n, x)
	VMOVAPS(e.poly[0](), y)
	for _, c := range e.poly[1:] {
		VFMADD213PS(c(), x, y)
	}
	VFMADD213PS(e.one(), x, y)
	VFMADD213PS(e.one(), x, y)
	if e.wide {
		VSCALEFPS(n, y, y)
		return y
	}
	VCVTPS2DQ(n, n)
	VPSLLD(Imm(23), n, n)
	VPADDD(n, y, y)
	return y
}

// sigmoid is 1/(1 + exp(-x)); x stays.
func (e exponential) sigmoid(x reg.VecVirtual) reg.VecVirtual {
	minus := e.vector()
	VXORPS(minus, minus, minus)
	VSUBPS(x, minus, minus)
	y := e.exp(minus)
	VADDPS(e.one(), y, y)
	VDIVPS(y, e.one(), y)
	return y
}

// siluSlope is s (1 + x (1 - s)) for s = sigmoid(x).
func (e exponential) siluSlope(x reg.VecVirtual) reg.VecVirtual {
	g := e.sigmoid(x)
	h := e.vector()
	VSUBPS(g, e.one(), h)
	VFMADD213PS(e.one(), x, h)
	VMULPS(g, h, h)
	return h
}
