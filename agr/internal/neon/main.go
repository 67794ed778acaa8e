// Command neon writes the arm64 kernels of package agr:
//
//	go run ./internal/neon -out kernels_gen_arm64.s
//
// They round where the plain Go twins do, as the kernels for amd64 (../asm) do: division
// and square root are the exact instructions, and no multiply is fused into an add but in
// the sum of squares, where the product of two float32 is exact in float64.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/agrdist/agrdist/internal/neon"
)

// Order of agr.coefficients.
const (
	kBeta1 = iota
	kRest1
	kBeta2
	kRest2
	kBeta3
	kRest3
	kEps
	kRootN
	kStepM
	kStepV
	kDecayBefore
	kDecayAfter
	kClip
	kAverage
	kHistory
	kOne
)

// vectorLen is agr.vectorLen: elements of one turn of every loop. ahead is how many bytes
// ahead of the loop each stream is fetched.
const vectorLen, ahead = 16, 2048

func main() {
	out := flag.String("out", "", "the file to write")
	flag.Parse()
	if *out == "" {
		fmt.Fprintln(os.Stderr, "neon: want -out FILE")
		os.Exit(2)
	}
	text := neon.Header("go run ./internal/neon") + norms().Text() + adan().Text()
	if err := os.WriteFile(*out, []byte(text), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, "neon:", err)
		os.Exit(1)
	}
}

// norms writes normsNEON(abs, squares *[16]float64, x *float32, count int).
func norms() *neon.Func {
	f := neon.NewFunc("normsNEON", "|x[i]| and x[i]^2 added to lane i mod 16 of abs and squares for i < count, a multiple of 16",
		"abs", "squares", "x", "count")
	abs, squares, x, count := f.Arg("abs"), f.Arg("squares"), f.Arg("x"), f.Arg("count")
	const pairs = vectorLen / 2
	var sumAbs, sumSquares [pairs]neon.V
	for i := range pairs {
		sumAbs[i], sumSquares[i] = f.Vector(), f.Vector()
		f.Load('q', sumAbs[i], abs, 16*i)
		f.Load('q', sumSquares[i], squares, 16*i)
	}
	f.Label("loop")
	f.Prefetch(x, ahead)
	for i := 0; i < pairs; i += 2 {
		v := f.Vector()
		f.LoadNext(v, x, 16)
		for half, convert := range []string{"fcvtl.2d", "fcvtl2.2d"} {
			y := f.New(convert, v)
			f.Do("fmla.2d", sumSquares[i+half], y, y)
			f.Do("fabs.2d", y, y)
			f.Do("fadd.2d", sumAbs[i+half], sumAbs[i+half], y)
		}
	}
	f.Do2("SUBS", vectorLen, count, count)
	f.Jump("BNE", "loop")
	for i := range pairs {
		f.Store('q', sumAbs[i], abs, 16*i)
		f.Store('q', sumSquares[i], squares, 16*i)
	}
	f.End()
	return f
}

// pass is the second pass being written: its coefficients, four in a register, and where
// each stream is now.
type pass struct {
	*neon.Func
	k                           [4]neon.V
	den, one, history           neon.V
	w, grad, m, v, n, prev, ema neon.R
}

// adan writes adanNEON, an agr.adanKernel.
func adan() *neon.Func {
	f := neon.NewFunc("adanNEON", "an adanKernel", "k", "den:4", "count", "w", "grad", "m", "v", "n", "prev", "ema")
	p := pass{Func: f, den: f.ArgEvery("den"), one: f.Vector(), history: f.Vector()}
	k, count := f.Arg("k"), f.Arg("count")
	for i := range p.k {
		p.k[i] = f.Vector()
		f.Load('q', p.k[i], k, 16*i)
	}
	f.Dup(p.one, p.k[kOne/4], kOne%4)
	f.Dup(p.history, p.k[kHistory/4], kHistory%4)
	p.w, p.grad, p.m, p.v, p.n, p.prev, p.ema = f.Arg("w"), f.Arg("grad"), f.Arg("m"), f.Arg("v"), f.Arg("n"), f.Arg("prev"), f.Arg("ema")
	f.JumpZero("CBZ", p.ema, "plain")
	p.loop("average", count, true)
	p.loop("plain", count, false)
	return f
}

func (p pass) loop(label string, count neon.R, average bool) {
	streams := []neon.R{p.w, p.grad, p.m, p.v, p.n, p.prev}
	if average {
		streams = append(streams, p.ema)
	}
	p.Label(label)
	for _, s := range streams {
		p.Prefetch(s, ahead)
	}
	for off := 0; off < 4*vectorLen; off += 16 {
		p.element(off, average)
	}
	for _, s := range streams {
		p.Do2("ADD", 4*vectorLen, s, s)
	}
	p.Do2("SUBS", vectorLen, count, count)
	p.Jump("BNE", label)
	p.End()
}

// load reads the vector of a stream at bytes.
func (p pass) load(stream neon.R, off int) neon.V {
	v := p.Vector()
	p.Load('q', v, stream, off)
	return v
}

// scaled is coefficient k times x.
func (p pass) scaled(k int, x neon.V) neon.V {
	v := p.Vector()
	p.Lane("fmul", v, x, p.k[k/4], k%4)
	return v
}

// moved is coefficient decay times the stream's vector plus x, which it stores.
func (p pass) moved(decay int, stream neon.R, off int, x neon.V) neon.V {
	v := p.New("fadd.4s", p.scaled(decay, p.load(stream, off)), x)
	p.Store('q', v, stream, off)
	return v
}

// element is one vector of the update, in the terms of optim.Adan and agr.regularize.
func (p pass) element(off int, average bool) {
	// g = (1 - |g|/den) g clip
	g := p.load(p.grad, off)
	alpha := p.New("fabs.4s", g)
	p.Do("fdiv.4s", alpha, alpha, p.den)
	p.Do("fsub.4s", alpha, p.one, alpha)
	p.Do("fmul.4s", g, alpha, g)
	g = p.scaled(kClip, g)
	// d = g + prev, or 0; prev = -g; u = g + b2 d
	d := p.New("fadd.4s", g, p.load(p.prev, off))
	p.Do("and.16b", d, d, p.history)
	p.Store('q', p.New("fneg.4s", g), p.prev, off)
	u := p.New("fadd.4s", g, p.scaled(kBeta2, d))
	// m = b1 m + (1-b1) g; v = b2 v + (1-b2) d; n = b3 n + (1-b3) u u
	m := p.moved(kBeta1, p.m, off, p.scaled(kRest1, g))
	v := p.moved(kBeta2, p.v, off, p.scaled(kRest2, d))
	n := p.moved(kBeta3, p.n, off, p.New("fmul.4s", p.scaled(kRest3, u), u))
	// s = (h1 m + h2 v)/(sqrt(n) rootN + eps)
	root, eps := p.scaled(kRootN, p.New("fsqrt.4s", n)), p.Vector()
	p.Dup(eps, p.k[kEps/4], kEps%4)
	s := p.New("fadd.4s", p.scaled(kStepM, m), p.scaled(kStepV, v))
	p.Do("fdiv.4s", s, s, p.New("fadd.4s", root, eps))
	// w = w - before w - s; w = w - after w
	w := p.load(p.w, off)
	w = p.New("fsub.4s", w, p.scaled(kDecayBefore, w))
	w = p.New("fsub.4s", w, s)
	w = p.New("fsub.4s", w, p.scaled(kDecayAfter, w))
	p.Store('q', w, p.w, off)
	if average { // ema = ema + (1-decay)(w - ema)
		e := p.load(p.ema, off)
		p.Store('q', p.New("fadd.4s", e, p.scaled(kAverage, p.New("fsub.4s", w, e))), p.ema, off)
	}
}
