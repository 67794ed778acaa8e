// Command asm generates the assembly kernels of package agr. Run it by go
// generate in that package.
//
// The kernels round where the plain Go twins (agr.regularize, optim.Adan.Apply,
// optim.EMA, optim.AddNorms) round: division and square root are the exact
// instructions, and no multiply is fused into an add. The one exception is the
// sum of squares, where the product of two float32 is exact in float64 and
// fusing changes nothing.
package main

import (
	. "github.com/mmcloughlin/avo/build" //nolint:revive // avo programs read as assembly this way
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
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

// vectorLen is agr.vectorLen: elements of one turn of every loop, one cache
// line of each stream.
const vectorLen = 16

// ahead is how many bytes ahead of the loop each stream is prefetched. The
// hardware's prefetchers stop at every 4 KiB page; with this the passes took
// about a tenth less CPU time on a busy two-core Xeon (512, 1024 and 4096 gained
// no more). A prefetch beyond the end of a stream has no effect.
const ahead = 2048

func main() {
	ConstraintExpr("amd64")
	avx512 := isa{name: "AVX512", bytes: 64, vector: func() reg.VecVirtual { return ZMM() }}
	avx2 := isa{name: "AVX2", bytes: 32, vector: func() reg.VecVirtual { return YMM() }}
	for _, s := range []isa{avx512, avx2} {
		s.norms()
		s.adan()
	}
	Generate()
}

// isa is one vector width.
type isa struct {
	name   string
	bytes  int
	vector func() reg.VecVirtual
}

func (s isa) wide() bool { return s.bytes == 64 }

// and is dst = x where mask has bits.
func (s isa) and(mask, x operand.Op, dst reg.VecVirtual) {
	if s.wide() {
		VPANDD(mask, x, dst) // VANDPS of 512 bits needs AVX512DQ
	} else {
		VPAND(mask, x, dst)
	}
}

func (s isa) xor(mask, x operand.Op, dst reg.VecVirtual) {
	if s.wide() {
		VPXORD(mask, x, dst)
	} else {
		VPXOR(mask, x, dst)
	}
}

// ones returns a register of set bits.
func (s isa) ones() reg.VecVirtual {
	x := s.vector()
	if s.wide() {
		VPTERNLOGD(operand.U8(0xff), x, x, x)
	} else {
		VPCMPEQD(x, x, x)
	}
	return x
}

// norms generates normsISA(abs, squares *[16]float64, x *float32, count int).
func (s isa) norms() {
	TEXT("norms"+s.name, NOSPLIT, "func(abs, squares *[16]float64, x *float32, count int)")
	Doc("norms" + s.name + " adds |x[i]| and x[i]^2 to lane i mod 16 of abs and squares for i < count, a multiple of 16.")
	Pragma("noescape")
	abs := operand.Mem{Base: Load(Param("abs"), GP64())}
	squares := operand.Mem{Base: Load(Param("squares"), GP64())}
	x := operand.Mem{Base: Load(Param("x"), GP64())}
	count := Load(Param("count"), GP64())

	mask := s.ones()
	VPSRLQ(operand.U8(1), mask, mask)
	groups := 16 * 8 / s.bytes
	var sumAbs, sumSquares []reg.VecVirtual
	for i := range groups {
		a, q := s.vector(), s.vector()
		VMOVUPD(abs.Offset(i*s.bytes), a)
		VMOVUPD(squares.Offset(i*s.bytes), q)
		sumAbs, sumSquares = append(sumAbs, a), append(sumSquares, q)
	}
	Label("loop")
	PREFETCHT0(x.Offset(ahead))
	for i := range groups {
		y := s.vector()
		VCVTPS2PD(x.Offset(i*s.bytes/2), y)
		VFMADD231PD(y, y, sumSquares[i])
		if s.wide() {
			VPANDQ(mask, y, y)
		} else {
			VPAND(mask, y, y)
		}
		VADDPD(y, sumAbs[i], sumAbs[i])
	}
	ADDQ(operand.U32(vectorLen*4), x.Base)
	SUBQ(operand.U32(vectorLen), count)
	JNZ(operand.LabelRef("loop"))
	for i := range groups {
		VMOVUPD(sumAbs[i], abs.Offset(i*s.bytes))
		VMOVUPD(sumSquares[i], squares.Offset(i*s.bytes))
	}
	VZEROUPPER()
	RET()
}

// adan generates adanISA, an agr.adanKernel.
func (s isa) adan() {
	TEXT("adan"+s.name, NOSPLIT, "func(k *[16]float32, den float32, count int, w, grad, m, v, n, prev, ema *float32)")
	Doc("adan" + s.name + " is an adanKernel.")
	Pragma("noescape")
	a := adan{isa: s, k: operand.Mem{Base: Load(Param("k"), GP64())}}
	a.den = s.vector()
	VBROADCASTSS(param("den"), a.den)
	a.count = Load(Param("count"), GP64())
	for _, p := range []struct {
		name string
		dst  *operand.Mem
	}{{"w", &a.w}, {"grad", &a.g}, {"m", &a.m}, {"v", &a.v}, {"n", &a.n}, {"prev", &a.prev}, {"ema", &a.ema}} {
		*p.dst = operand.Mem{Base: Load(Param(p.name), GP64())}
	}
	a.i = GP64()
	XORQ(a.i, a.i)
	a.hoist()
	TESTQ(a.ema.Base, a.ema.Base)
	JZ(operand.LabelRef("plain"))
	a.loop("average", true)
	a.loop("plain", false)
}

// param is the memory of a parameter of the function being generated.
func param(name string) operand.Mem {
	b, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return b.Addr
}

type adan struct {
	isa
	k, w, g, m, v, n, prev, ema operand.Mem
	den                         reg.VecVirtual
	count, i                    reg.Register
	constants                   [16]reg.VecVirtual // nil where the registers do not suffice
	sign                        reg.VecVirtual
}

// hoist loads what stays in registers through the loop: everything with 32
// registers, the masks with 16.
func (a *adan) hoist() {
	a.sign = a.ones()
	VPSLLD(operand.U8(31), a.sign, a.sign)
	for i := range a.constants {
		if a.wide() || i == kHistory || i == kOne {
			a.constants[i] = a.vector()
			VBROADCASTSS(a.k.Offset(4*i), a.constants[i])
		}
	}
}

// coefficient returns a register that holds coefficient i in every lane.
func (a *adan) coefficient(i int) reg.VecVirtual {
	if a.constants[i] != nil {
		return a.constants[i]
	}
	x := a.vector()
	VBROADCASTSS(a.k.Offset(4*i), x)
	return x
}

// at is the current vector of a stream.
func (a *adan) at(stream operand.Mem, part int) operand.Mem {
	return stream.Idx(a.i, 4).Offset(part * a.bytes)
}

// load reads the current vector of a stream.
func (a *adan) load(stream operand.Mem, part int) reg.VecVirtual {
	x := a.vector()
	VMOVUPS(a.at(stream, part), x)
	return x
}

// scaled is coefficient k times x in a new register.
func (a *adan) scaled(k int, x operand.Op) reg.VecVirtual {
	y := a.vector()
	VMULPS(x, a.coefficient(k), y)
	return y
}

func (a *adan) loop(label string, average bool) {
	Label(label)
	streams := []operand.Mem{a.w, a.g, a.m, a.v, a.n, a.prev}
	if average {
		streams = append(streams, a.ema)
	}
	for _, stream := range streams {
		PREFETCHT0(stream.Idx(a.i, 4).Offset(ahead))
	}
	for part := 0; part*a.bytes < vectorLen*4; part++ {
		a.element(part, average)
	}
	ADDQ(operand.U32(vectorLen), a.i)
	CMPQ(a.i, a.count)
	JNE(operand.LabelRef(label))
	VZEROUPPER()
	RET()
}

// element is one vector of the update; the comments are in the terms of
// optim.Adan and agr.regularize.
func (a *adan) element(part int, average bool) {
	Comment("g = (1 - |g|/den) g clip")
	g := a.load(a.g, part)
	alpha := a.vector()
	a.andNotSign(g, alpha)
	VDIVPS(a.den, alpha, alpha)
	VSUBPS(alpha, a.coefficient(kOne), alpha)
	VMULPS(alpha, g, g)
	VMULPS(a.coefficient(kClip), g, g)

	Comment("d = g + prev, or 0; prev = -g; u = g + b2 d")
	d := a.vector()
	VADDPS(a.at(a.prev, part), g, d)
	a.and(a.coefficient(kHistory), d, d)
	negative := a.vector()
	a.xor(a.sign, g, negative)
	VMOVUPS(negative, a.at(a.prev, part))
	u := a.scaled(kBeta2, d)
	VADDPS(u, g, u)

	Comment("m = b1 m + (1-b1) g")
	m := a.scaled(kBeta1, a.at(a.m, part))
	VADDPS(a.scaled(kRest1, g), m, m)
	VMOVUPS(m, a.at(a.m, part))

	Comment("v = b2 v + (1-b2) d")
	v := a.scaled(kBeta2, a.at(a.v, part))
	VADDPS(a.scaled(kRest2, d), v, v)
	VMOVUPS(v, a.at(a.v, part))

	Comment("n = b3 n + (1-b3) u u")
	n := a.scaled(kBeta3, a.at(a.n, part))
	square := a.scaled(kRest3, u)
	VMULPS(u, square, square)
	VADDPS(square, n, n)
	VMOVUPS(n, a.at(a.n, part))

	Comment("s = (h1 m + h2 v)/(sqrt(n) rootN + eps)")
	VSQRTPS(n, n)
	VMULPS(a.coefficient(kRootN), n, n)
	VADDPS(a.coefficient(kEps), n, n)
	s := a.scaled(kStepM, m)
	VADDPS(a.scaled(kStepV, v), s, s)
	VDIVPS(n, s, s)

	Comment("w = w - before w - s; w = w - after w")
	w := a.load(a.w, part)
	VSUBPS(a.scaled(kDecayBefore, w), w, w)
	VSUBPS(s, w, w)
	VSUBPS(a.scaled(kDecayAfter, w), w, w)
	VMOVUPS(w, a.at(a.w, part))

	if average {
		Comment("ema = ema + (1-decay)(w - ema)")
		e := a.load(a.ema, part)
		VSUBPS(e, w, w)
		VADDPS(a.scaled(kAverage, w), e, e)
		VMOVUPS(e, a.at(a.ema, part))
	}
}

// andNotSign is dst = |x|.
func (a *adan) andNotSign(x, dst reg.VecVirtual) {
	if a.wide() {
		VPANDND(x, a.sign, dst)
	} else {
		VPANDN(x, a.sign, dst)
	}
}
