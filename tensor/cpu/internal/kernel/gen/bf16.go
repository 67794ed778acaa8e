package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The tiles whose operands are pairs of bf16: AVX-512's, multiplied by VDPBF16PS.
var (
	avx512BF16     = isa{name: "AVX512BF16", rows: 8, vecs: 2, lanes: 16, wide: true, pairs: true}
	avx512BF16Wide = isa{name: "AVX512BF16Wide", rows: 6, vecs: 4, lanes: 16, wide: true, pairs: true}
)

// bf16Group is the content of bf16_amd64.s.
func bf16Group() {
	each([]isa{avx512BF16, avx512BF16Wide}, isa.nn, isa.tn)()
	each(sets, isa.roundBF16)()
	avx512BF16.pair()
	avx512BF16.pairRows()
	vendor()
}

// multiplyAdd is acc = acc + x b, lane by lane or, of pairs, pair by pair.
func (s isa) multiplyAdd(b, x, acc reg.VecVirtual) {
	if s.pairs {
		evex("VDPBF16PS", b, x, acc, acc)
		return
	}
	VFMADD231PS(b, x, acc)
}

// evex is an instruction that neither avo nor Go's assembler knows: encode, run
// on the finished file, writes it in bytes. in are the registers that it reads
// besides a and b.
func evex(opcode string, a, b, dst reg.VecVirtual, in ...Op) {
	Instruction(&ir.Instruction{
		Opcode: opcode, Operands: []Op{a, b, dst}, Inputs: append(in, a, b), Outputs: []Op{dst}, ISA: []string{"AVX512_BF16"},
	})
}

// roundBF16 rounds to nearest even on the bits: half a unit less one, and one more
// where the last bit kept is 1. A NaN would run over into Inf or zero.
func (s isa) roundBF16() {
	s.elementwise("roundBF16", "dst = x rounded to bf16", []string{"dst", "x"}, "", func() step {
		one, half, quiet, upper := s.bits(1), s.bits(0x7fff), s.bits(1<<22), s.bits(0xffff0000)
		return func(at func(int) Mem, m Op) {
			x, u := s.get(at(1), m), s.vector()
			VPSRLD(Imm(16), x, u)
			if s.wide {
				VPANDD(one(), u, u)
				VPADDD(half(), u, u)
				VPADDD(x, u, u)
				nan := K()
				VCMPPS(Imm(3), x, x, nan)
				VPORD(quiet(), x, nan, u)
				VPANDD(upper(), u, u)
			} else {
				VPAND(one(), u, u)
				VPADDD(half(), u, u)
				VPADDD(x, u, u)
				nan := s.vector()
				VCMPPS(Imm(3), x, x, nan)
				VPOR(quiet(), x, x)
				VBLENDVPS(nan, x, u, u)
				VPAND(upper(), u, u)
			}
			s.put(u, at(0), m)
		}
	})
}

// pair writes the kernel of Pair on whole vectors: of 32 values, the even ones to
// the upper halves of 16 lanes, the odd ones to the lower.
func (s isa) pair() {
	TEXT("pair"+s.name, NOSPLIT, "func(dst, x *float32, n int)")
	Doc("pair" + s.name + " is dst[i] = (x[2i], x[2i+1]) in bf16, for n vectors of dst; n is positive.")
	dst, x, n := Load(Param("dst"), GP64()), Load(Param("x"), GP64()), Load(Param("n"), GP64())
	Label("turn")
	low, high := s.get(Mem{Base: x}, nil), s.get(Mem{Base: x, Disp: s.bytes()}, nil)
	v := s.vector()
	evex("VCVTNE2PS2BF16", low, high, v)
	VPROLD(Imm(16), v, v)
	s.put(v, Mem{Base: dst}, nil)
	ADDQ(Imm(uint64(2*s.bytes())), x)
	ADDQ(Imm(uint64(s.bytes())), dst)
	DECQ(n)
	JNZ(LabelRef("turn"))
	VZEROUPPER()
	RET()
}

// pairRows writes the kernel of PairRows.
func (s isa) pairRows() {
	words := GLOBL("words", RODATA|NOPTR)
	for i := range 16 { // word 2i is the i-th of the second half of the lanes' sources
		DATA(4*i, U32(uint32(16+i)<<16|uint32(i)))
	}
	TEXT("pairRows"+s.name, NOSPLIT, "func(dst, x, y *float32, rows, cols, dstRow, srcRow int)")
	Doc("pairRows" + s.name + " is dst[r, i] = (x[r, i], y[r, i]) in bf16; rows and cols are positive, dstRow and srcRow in bytes.")
	dst, x, y := Load(Param("dst"), GP64()), Load(Param("x"), GP64()), Load(Param("y"), GP64())
	rows, cols := Load(Param("rows"), GP64()), Load(Param("cols"), GP64())
	dstRow, srcRow := Load(Param("dstRow"), GP64()), Load(Param("srcRow"), GP64())
	order := s.vector()
	VMOVDQU32(words, order)
	// The last vector of a row has 1 to 16 lanes.
	last, at := GP64(), GP64()
	LEAQ(Mem{Base: cols, Disp: -1}, last)
	MOVQ(last, at)
	ANDQ(I8(-16), last) // where it begins
	SUBQ(last, at)
	tail := s.masks(plusOne(at), 1)[0]
	SHLQ(Imm(2), last)
	step := func(m Op) {
		of := func(base reg.Register) Mem { return Mem{Base: base, Index: at, Scale: 1} }
		first, second, v := s.get(of(x), m), s.get(of(y), m), s.vector()
		evex("VCVTNE2PS2BF16", second, first, v)
		VPERMW(v, order, v)
		s.put(v, of(dst), m)
	}
	Label("row")
	XORQ(at, at)
	CMPQ(at, last)
	JGE(LabelRef("tail"))
	Label("vector")
	step(nil)
	ADDQ(Imm(64), at)
	CMPQ(at, last)
	JLT(LabelRef("vector"))
	Label("tail")
	step(tail)
	ADDQ(srcRow, x)
	ADDQ(srcRow, y)
	ADDQ(dstRow, dst)
	DECQ(rows)
	JNZ(LabelRef("row"))
	VZEROUPPER()
	RET()
}

// plusOne is r + 1, in r.
func plusOne(r reg.GPVirtual) reg.GPVirtual {
	INCQ(r)
	return r
}

// vendor writes the reading of who made the processor.
func vendor() {
	TEXT("vendor", NOSPLIT, "func() (b, d, c uint32)")
	Doc("vendor returns the processor's maker, twelve letters in three registers.")
	XORL(reg.EAX, reg.EAX)
	XORL(reg.ECX, reg.ECX)
	CPUID()
	Store(reg.EBX, ReturnIndex(0))
	Store(reg.EDX, ReturnIndex(1))
	Store(reg.ECX, ReturnIndex(2))
	RET()
}
