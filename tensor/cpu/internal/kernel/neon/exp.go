package main

import (
	"math"

	"github.com/agrdist/agrdist/internal/neon"
)

// exponential holds the constants of exp, which the AVX2 kernels (gen/exp.go) explain: the
// same steps with the same roundings.
type exponential struct {
	fn
	least, most, log2e, magic, ln2hi, ln2lo, one, less neon.V // less is -1
	poly                                               []neon.V
	rest                                               string // takes n ln 2 off: fmls, or fmla of exp(-x)
}

// poly are the coefficients of q, from r^4 to 1.
var poly = []float32{0.0013814540579915047, 0.00836874544620514, 0.04166838899254799, 0.1666652113199234, 0.4999999403953552}

func (f fn) constant(v float32) neon.V { return f.Bits(math.Float32bits(v)) }

// exponential is exp where sign is 1, exp(-x) where it is -1.
func (f fn) exponential(sign float32) exponential {
	e := exponential{
		fn: f, log2e: f.constant(sign * 1.44269504088896341), magic: f.constant(3 << 22),
		ln2hi: f.constant(0.693359375), ln2lo: f.constant(-2.12194440e-4), one: f.constant(1), rest: "fmls.4s",
	}
	if sign > 0 {
		e.least, e.most = f.constant(-86.5), f.constant(88)
	} else {
		e.least, e.most, e.rest = f.constant(-87), f.constant(87), "fmla.4s"
	}
	for i, c := range poly {
		if i%2 == 1 {
			c *= sign
		}
		e.poly = append(e.poly, f.constant(c))
	}
	return e
}

// madd is x y + c.
func (f fn) madd(x, y, c neon.V) neon.V {
	v := f.New("mov.16b", c)
	f.Do("fmla.4s", v, x, y)
	return v
}

// exp is 2^n (1 + r (1 + r q)). The power of 2 is exact, and a NaN stays one.
func (e exponential) exp(x neon.V) neon.V {
	r, y, s := e.split(x)
	y = e.madd(r, y, e.one)
	y = e.madd(r, y, e.one)
	return e.New("fmul.4s", y, s)
}

// minus is exp(-x).
func (e exponential) minus(x neon.V) neon.V {
	r, y, s := e.split(x)
	y = e.madd(r, y, e.less)
	y = e.madd(r, y, e.one)
	return e.New("fmul.4s", y, s)
}

// onePlus is 1 + exp(-x) without the rounding of the exponential alone: s + (1 + s r (1 + r q)).
func (e exponential) onePlus(x neon.V) neon.V {
	r, y, s := e.split(x)
	y = e.madd(r, y, e.less)
	r = e.New("fmul.4s", s, r)
	y = e.madd(r, y, e.one)
	return e.New("fadd.4s", y, s)
}

// split limits x and reduces it to r, and returns q(r) and 2^n. Adding magic rounds to an
// integer, which is then in the lowest bits.
func (e exponential) split(x neon.V) (r, y, s neon.V) {
	r = e.New("fmax.4s", x, e.least)
	e.Do("fmin.4s", r, r, e.most)
	n := e.madd(r, e.log2e, e.magic)
	whole := e.New("fsub.4s", n, e.magic)
	e.Do(e.rest, r, whole, e.ln2hi)
	e.Do(e.rest, r, whole, e.ln2lo)
	y = e.poly[0]
	for _, c := range e.poly[1:] {
		y = e.madd(y, r, c)
	}
	e.Shift("shl", n, n, 23)
	return r, y, e.New("add.4s", n, e.one)
}

// sigmoid is the exponential of silu and its slope.
func (f fn) sigmoid() exponential {
	e := f.exponential(-1)
	e.less = f.constant(-1)
	return e
}

// silu is x sigmoid(x).
func (e exponential) silu(x neon.V) neon.V { return e.New("fdiv.4s", x, e.onePlus(x)) }

// siluSlope is s (1 + x (1 - s)) for s = sigmoid(x); 1 - s is s exp(-x).
func (e exponential) siluSlope(x neon.V) neon.V {
	y := e.minus(x)
	g := e.New("fadd.4s", y, e.one)
	e.Do("fdiv.4s", g, e.one, g)
	y = e.madd(e.New("fmul.4s", y, g), x, e.one)
	return e.New("fmul.4s", y, g)
}
