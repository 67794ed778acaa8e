package main

import (
	"math"

	"github.com/agrdist/agrdist/internal/neon"
)

// place is a vector in memory: a whole one, or the first left&3 floats of one.
type place struct {
	base neon.R
	off  int
	left *neon.R
}

// get loads a vector, with zeros past its end.
func (f fn) get(p place) neon.V {
	v := f.Vector()
	if p.left == nil {
		f.Load('q', v, p.base, p.off)
	} else {
		f.LoadTail(v, p.base, *p.left)
	}
	return v
}

// put stores a vector up to its end.
func (f fn) put(v neon.V, p place) {
	if p.left == nil {
		f.Store('q', v, p.base, p.off)
	} else {
		f.StoreTail(v, p.base, *p.left)
	}
}

// walk goes through operands of n floats: body does one vector, the lane'th of unroll.
func (f fn) walk(p []neon.R, n neon.R, unroll int, body func(at []place, lane int)) {
	places := func(off int, left *neon.R) []place {
		all := make([]place, len(p))
		for i, base := range p {
			all[i] = place{base, off, left}
		}
		return all
	}
	advance := func(by int) {
		for _, base := range p {
			f.Do2("ADD", by, base, base)
		}
	}
	many, rest, done := f.Unique("many"), f.Unique("rest"), f.Unique("end")
	f.Do2("SUBS", unroll*lanes, n, n)
	f.Jump("BLT", rest)
	f.Label(many)
	for u := range unroll {
		body(places(u*bytes, nil), u)
	}
	advance(unroll * bytes)
	f.Do2("SUBS", unroll*lanes, n, n)
	f.Jump("BGE", many)
	f.Label(rest)
	f.Do2("ADDS", unroll*lanes, n, n)
	f.Jump("BEQ", done)
	for u := range unroll - 1 {
		tail := f.Unique("tail")
		f.Do2("CMP", lanes, n)
		f.Jump("BLT", tail)
		body(places(0, nil), u)
		advance(bytes)
		f.Do2("SUBS", lanes, n, n)
		f.Jump("BEQ", done)
		next := f.Unique("next")
		f.Jump("B", next)
		f.Label(tail)
		body(places(0, &n), u)
		f.Jump("B", done)
		f.Label(next)
	}
	body(places(0, &n), unroll-1)
	f.Label(done)
}

// elementwise writes a function of the operands, the first of which is the destination.
// setup returns what computes a vector.
func elementwise(name, doc string, unroll int, operands, scalars []string, setup func(f fn) func(at []place) neon.V) fn {
	params := append(append([]string{}, operands...), "n")
	f := begin(name, doc, append(params, scalars...)...)
	body := setup(f)
	f.walk(f.args(operands), f.Arg("n"), unroll, func(at []place, _ int) { f.put(body(at), at[0]) })
	f.End()
	return f
}

func (f fn) args(names []string) []neon.R {
	p := make([]neon.R, len(names))
	for i, name := range names {
		p[i] = f.Arg(name)
	}
	return p
}

// vectors are the elementwise kernels.
func vectors() []fn {
	dxy, dx := []string{"dst", "x", "y"}, []string{"dst", "x"}
	return []fn{
		elementwise("add", "dst = x + y", 4, dxy, nil, func(f fn) func([]place) neon.V {
			return func(at []place) neon.V { return f.New("fadd.4s", f.get(at[1]), f.get(at[2])) }
		}),
		elementwise("scale", "dst = alpha x", 4, dx, []string{"alpha:4"}, func(f fn) func([]place) neon.V {
			alpha := f.ArgEvery("alpha")
			return func(at []place) neon.V { return f.New("fmul.4s", f.get(at[1]), alpha) }
		}),
		elementwise("blend", "dst = alpha x + beta y", 4, dxy, []string{"alpha:4", "beta:4"}, func(f fn) func([]place) neon.V {
			alpha, beta := f.ArgEvery("alpha"), f.ArgEvery("beta")
			return func(at []place) neon.V {
				x, y := f.get(at[1]), f.get(at[2])
				f.Do("fmul.4s", y, y, beta)
				f.Do("fmla.4s", y, x, alpha)
				return y
			}
		}),
		elementwise("silu", "dst = x sigmoid(x)", 1, dx, nil, func(f fn) func([]place) neon.V {
			e := f.sigmoid()
			return func(at []place) neon.V { return e.silu(f.get(at[1])) }
		}),
		elementwise("siluGrad", "dst = y d silu(x)/dx", 1, dxy, nil, func(f fn) func([]place) neon.V {
			e := f.sigmoid()
			return func(at []place) neon.V { return f.New("fmul.4s", e.siluSlope(f.get(at[1])), f.get(at[2])) }
		}),
		elementwise("softmaxGrad", "dst = scale y (x - sum)", 4, dxy, []string{"scale:4", "sum:4"}, func(f fn) func([]place) neon.V {
			scale, sum := f.ArgEvery("scale"), f.ArgEvery("sum")
			return func(at []place) neon.V {
				x, y := f.get(at[1]), f.get(at[2])
				f.Do("fsub.4s", x, x, sum)
				f.Do("fmul.4s", y, y, scale)
				return f.New("fmul.4s", x, y)
			}
		}),
		// To nearest even on the bits: half a unit less one, and one more where the last
		// bit kept is 1. A NaN would run over into Inf or zero.
		elementwise("roundBF16", "dst = x rounded to bf16", 2, dx, nil, func(f fn) func([]place) neon.V {
			one, half, quiet, upper := f.Bits(1), f.Bits(0x7fff), f.Bits(1<<22), f.Bits(0xffff0000)
			return func(at []place) neon.V {
				x, u := f.get(at[1]), f.Vector()
				f.Shift("ushr", u, x, 16)
				f.Do("and.16b", u, u, one)
				f.Do("add.4s", u, u, half)
				f.Do("add.4s", u, u, x)
				number := f.New("fcmeq.4s", x, x)
				f.Do("orr.16b", x, x, quiet)
				f.Do("bsl.16b", number, u, x)
				return f.New("and.16b", number, upper)
			}
		}),
	}
}

// reductions are the kernels that return a number: lane l of eight sums the elements of
// index l modulo 8, then the lanes are halved.
func reductions() []fn {
	maximum := begin("maxScaled", "the largest scale x, NaN or not where x holds one", "x", "n", "scale:4", "ret:4")
	maximum.Return(maximum.maximum(maximum.Arg("x"), maximum.Arg("n"), maximum.ArgEvery("scale")))
	maximum.End()

	dot := begin("dot", "the sum of x y", "x", "y", "n", "ret:4")
	acc := dot.pair()
	dot.walk(dot.args([]string{"x", "y"}), dot.Arg("n"), 2, func(at []place, lane int) {
		dot.Do("fmla.4s", acc[lane], dot.get(at[0]), dot.get(at[1]))
	})
	dot.Return(dot.fold(acc))
	dot.End()

	exp := begin("expSum", "dst = exp(scale x - top), and its sum", "dst", "x", "n", "scale:4", "top:4", "ret:4")
	sum := exp.expSum(exp.Arg("x"), exp.Arg("dst"), exp.Arg("n"), exp.ArgEvery("scale"), exp.ArgEvery("top"), exp.exponential(1))
	exp.Return(exp.fold(sum))
	exp.End()
	return []fn{maximum, dot, exp}
}

// pair are the lanes of a sum, zero.
func (f fn) pair() []neon.V {
	acc := []neon.V{f.Vector(), f.Vector()}
	f.Zero(acc[0])
	f.Zero(acc[1])
	return acc
}

// fold adds the lanes; the sum is in all of them.
func (f fn) fold(acc []neon.V) neon.V {
	s, t := f.New("fadd.4s", acc[0], acc[1]), f.Vector()
	f.Swap(t, s)
	f.Do("fadd.4s", s, s, t)
	f.Dup(t, s, 1)
	f.Do("fadd.4s", s, s, t)
	f.Dup(s, s, 0)
	return s
}

// maximum is the largest scale x in all lanes. It uses x and n up.
func (f fn) maximum(x, n neon.R, scale neon.V) neon.V {
	top := []neon.V{f.constant(float32(math.Inf(-1))), f.constant(float32(math.Inf(-1)))}
	f.walk([]neon.R{x}, n, 2, func(at []place, lane int) {
		one := at[0].left != nil
		label := f.Unique("each")
		v := f.Vector()
		if one { // a zero past the end would win over negative ones
			f.Label(label)
			f.Every("4s", v, at[0].base)
		} else {
			f.Load('q', v, at[0].base, at[0].off)
		}
		f.Do("fmul.4s", v, v, scale)
		f.Do("fmax.4s", top[lane], top[lane], v)
		if one {
			f.Do2("ADD", 4, at[0].base, at[0].base)
			f.Do2("SUBS", 1, n, n)
			f.Jump("BNE", label)
		}
	})
	v := f.New("fmax.4s", top[0], top[1])
	v = f.New("fmaxv.4s", v)
	f.Dup(v, v, 0)
	return v
}

// expSum is dst = exp(scale x - top), and the lanes of the sum. It uses x, dst and n up.
func (f fn) expSum(x, dst, n neon.R, scale, top neon.V, e exponential) []neon.V {
	acc := f.pair()
	f.walk([]neon.R{x, dst}, n, 2, func(at []place, lane int) {
		v := f.New("fmul.4s", f.get(at[0]), scale)
		f.Do("fsub.4s", v, v, top)
		v = e.exp(v)
		f.put(v, at[1])
		if at[1].left != nil {
			v = f.get(at[1]) // with zeros past the end
		}
		f.Do("fadd.4s", acc[lane], acc[lane], v)
	})
	return acc
}

// transpose4 writes the kernel of Transpose on four rows, in blocks of 4x4.
func transpose4() fn {
	f := begin("transpose4", "dst[c, r] = src[r, c] for four r and 4*blocks c", "dst", "ldd", "src", "lds", "blocks")
	dst, ldd, src, lds := f.Arg("dst"), f.times4(f.Arg("ldd")), f.Arg("src"), f.times4(f.Arg("lds"))
	blocks := f.Arg("blocks")
	from := [4]neon.R{src, f.Int(), f.Int(), f.Int()}
	f.Do2("ADD", lds, from[0], from[1])
	f.Do2("ADD", lds, from[1], from[2])
	f.Do2("ADD", lds, from[2], from[3])
	f.Label("block")
	var r [4]neon.V
	for i := range r {
		r[i] = f.Vector()
		f.LoadNext(r[i], from[i], bytes)
	}
	low01, low23 := f.New("zip1.4s", r[0], r[1]), f.New("zip1.4s", r[2], r[3])
	high01, high23 := f.New("zip2.4s", r[0], r[1]), f.New("zip2.4s", r[2], r[3])
	for _, c := range []neon.V{
		f.New("zip1.2d", low01, low23), f.New("zip2.2d", low01, low23),
		f.New("zip1.2d", high01, high23), f.New("zip2.2d", high01, high23),
	} {
		f.Store('q', c, dst, 0)
		f.Do2("ADD", ldd, dst, dst)
	}
	f.Do2("SUBS", 1, blocks, blocks)
	f.Jump("BNE", "block")
	f.End()
	return f
}
