package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

var negInf = math.Inf(-1)

// exponential holds the constants of exp: the argument is limited to where the
// result is a normal number and split as n ln 2 + r; exp(r) is 1 + r + r^2 q(r)
// with q of least error. The plain Go twin does the same.
type exponential struct {
	isa
	least, most, log2e, magic, ln2hi, ln2lo, one constant
	poly                                         []constant // of q, the highest power first
}

// poly are the coefficients of q, from r^4 to 1. They are those of the polynomial
// that has the least error relative to exp over [-ln 2/2, ln 2/2] (Remez), rounded
// to float32: 3.6e-9.
var poly = []float32{0.0013814540579915047, 0.00836874544620514, 0.04166838899254799, 0.1666652113199234, 0.4999999403953552}

// exponential is exp where sign is 1. Where it is -1, exp(-x): the signs of the
// odd powers turn, and nothing has to be negated.
func (s isa) exponential(sign float32) exponential {
	e := exponential{
		isa:   s,
		log2e: s.constant(sign * 1.44269504088896341), magic: s.constant(3 << 22),
		ln2hi: s.constant(0.693359375), ln2lo: s.constant(-2.12194440e-4),
		one: s.constant(1),
	}
	if sign > 0 {
		e.least, e.most = s.constant(-86.5), s.constant(88)
	} else {
		e.least, e.most = s.constant(-87), s.constant(87)
	}
	for i, c := range poly {
		if i%2 == 1 {
			c *= sign
		}
		e.poly = append(e.poly, s.constant(c))
	}
	return e
}

// exp uses x up. Min and max return their second operand, x, for a NaN.
func (e exponential) exp(x reg.VecVirtual) reg.VecVirtual {
	VMAXPS(x, e.least(), x)
	VMINPS(x, e.most(), x)
	y, n := e.split(x, func(n reg.VecVirtual) {
		VFNMADD231PS(e.ln2hi(), n, x)
		VFNMADD231PS(e.ln2lo(), n, x)
	})
	VFMADD213PS(e.one(), x, y)
	VFMADD213PS(e.one(), x, y)
	VPADDD(n, y, y)
	return y
}

// minus is exp(-x), the signs being those of -1; x stays. A NaN may become any
// number.
func (e exponential) minus(x reg.VecVirtual) reg.VecVirtual {
	r, y, n := e.splitMinus(x)
	VFMADD213PS(e.one(), r, y)
	VPADDD(n, y, y)
	return y
}

// onePlus is 1 + exp(-x). With s = 2^n it is s + (1 + s r (1 + r q)): the rounding of
// the exponential alone falls away.
func (e exponential) onePlus(x reg.VecVirtual) reg.VecVirtual {
	r, y, s := e.splitMinus(x)
	VPADDD(e.one(), s, s)
	VMULPS(s, r, r)
	VFMADD213PS(e.one(), r, y)
	VADDPS(s, y, y)
	return y
}

// splitMinus gives the negative r of what is left of -x, y with exp(-x) = 2^n (1 + r y),
// and n in the exponent's place.
func (e exponential) splitMinus(x reg.VecVirtual) (r, y, n reg.VecVirtual) {
	r = e.vector()
	if e.wide {
		VRANGEPS(Imm(2), e.most(), x, r) // the lesser magnitude, the sign of x
	} else {
		VMAXPS(x, e.least(), r)
		VMINPS(r, e.most(), r)
	}
	y, n = e.split(r, func(n reg.VecVirtual) {
		VFMADD231PS(e.ln2hi(), n, r)
		VFMADD231PS(e.ln2lo(), n, r)
	})
	VFMSUB213PS(e.one(), r, y)
	return r, y, n
}

// split reduces x to r by rest, and returns q(r) and n in the exponent's place.
// Adding magic rounds to an integer, which is then in the lowest bits.
func (e exponential) split(x reg.VecVirtual, rest func(n reg.VecVirtual)) (y, n reg.VecVirtual) {
	n, y = e.vector(), e.vector()
	VMOVAPS(e.magic(), n)
	VFMADD231PS(e.log2e(), x, n)
	whole := e.vector()
	VSUBPS(e.magic(), n, whole)
	rest(whole)
	VMOVAPS(e.poly[0](), y)
	for _, c := range e.poly[1:] {
		VFMADD213PS(c(), x, y)
	}
	VPSLLD(Imm(23), n, n)
	return y, n
}

// silu is x sigmoid(x) in place.
func (e exponential) silu(x reg.VecVirtual) {
	VDIVPS(e.onePlus(x), x, x)
}

// siluSlope is s (1 + x (1 - s)) for s = sigmoid(x); 1 - s is s exp(-x).
func (e exponential) siluSlope(x reg.VecVirtual) reg.VecVirtual {
	y := e.minus(x)
	g := e.vector()
	VADDPS(e.one(), y, g)
	VDIVPS(g, e.one(), g)
	VMULPS(g, y, y)
	VFMADD213PS(e.one(), x, y)
	VMULPS(g, y, y)
	return y
}
