// Command asm generates the loops of package probe that find out how fast this
// machine is. Run it by go generate in that package.
package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build" //nolint:revive // avo programs read as assembly this way
	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// isa is one instruction set.
type isa struct {
	name   string
	bytes  int // of a vector
	chains int // independent accumulators: at least latency x ports of the multiply-add, 4 x 2
	vector func() reg.VecVirtual
}

// streams is the number of vectors that one turn of the memory loops handles.
const streams = 8

// ahead is how many bytes ahead of the loop memory is prefetched, as the
// kernels that are measured against these loops do. A prefetch beyond the end
// has no effect.
const ahead = 2048

func main() {
	ConstraintExpr("amd64")
	for _, s := range []isa{
		{"AVX512", 64, 16, func() reg.VecVirtual { return ZMM() }},
		{"AVX2", 32, 12, func() reg.VecVirtual { return YMM() }},
	} {
		s.fma()
		s.read()
		s.scale()
		if s.bytes == 64 {
			s.pairs()
		}
	}
	Generate()
}

// pairs is fma of AVX512-BF16, whose instruction only adds to its destination. The
// host backend's encode, run on the finished file, writes it in bytes.
func (s isa) pairs() {
	TEXT("pairs"+s.name, NOSPLIT, "func(out *float32, turns int)")
	Doc(fmt.Sprintf("pairs%s does x = x + 1/2 + 1/2 on %d vectors of accumulators, from 0, in pairs of bf16, and stores them.", s.name, s.chains))
	out, turns := Load(Param("out"), GP64()), Load(Param("turns"), GP64())
	const one = 0x3f803f80 // twice 1 in bf16, which is half a float32
	half, ones := s.bits(one-0x00800080), s.bits(one)
	acc := make([]reg.VecVirtual, s.chains)
	for i := range acc {
		acc[i] = s.vector()
		s.zero(acc[i])
	}
	Label("turn")
	for _, a := range acc {
		Instruction(&ir.Instruction{
			Opcode: "VDPBF16PS", Operands: []operand.Op{half, ones, a},
			Inputs: []operand.Op{half, ones, a}, Outputs: []operand.Op{a}, ISA: []string{"AVX512_BF16"},
		})
	}
	DECQ(turns)
	JNZ(operand.LabelRef("turn"))
	for i, a := range acc {
		VMOVUPS(a, operand.Mem{Base: out, Disp: i * s.bytes})
	}
	VZEROUPPER()
	RET()
}

func (s isa) constant(v float32) reg.VecVirtual { return s.bits(math.Float32bits(v)) }

func (s isa) bits(v uint32) reg.VecVirtual {
	at := ConstData(fmt.Sprintf("c%08x_%s", v, s.name), operand.U32(v))
	r := s.vector()
	VBROADCASTSS(at, r)
	return r
}

func (s isa) zero(r reg.VecVirtual) {
	if s.bytes == 64 {
		VPXORD(r, r, r)
	} else {
		VXORPS(r, r, r)
	}
}

func (s isa) fma() {
	TEXT("fma"+s.name, NOSPLIT, "func(out *float32, turns int)")
	Doc(fmt.Sprintf("fma%s does x = x/2 + 1 on %d vectors of accumulators, from 0, and stores them.", s.name, s.chains))
	out, turns := Load(Param("out"), GP64()), Load(Param("turns"), GP64())
	half, one := s.constant(0.5), s.constant(1)
	acc := make([]reg.VecVirtual, s.chains)
	for i := range acc {
		acc[i] = s.vector()
		s.zero(acc[i])
	}
	Label("turn")
	for _, a := range acc {
		VFMADD213PS(one, half, a)
	}
	DECQ(turns)
	JNZ(operand.LabelRef("turn"))
	for i, a := range acc {
		VMOVUPS(a, operand.Mem{Base: out, Disp: i * s.bytes})
	}
	VZEROUPPER()
	RET()
}

// turnOf emits a loop over count floats at x, a positive multiple of a turn.
func (s isa) turnOf(x, count reg.Register, body func(at operand.Mem, i int)) {
	Label("turn")
	for i := range streams {
		if i*s.bytes%64 == 0 {
			PREFETCHT0(operand.Mem{Base: x, Disp: i*s.bytes + ahead})
		}
		body(operand.Mem{Base: x, Disp: i * s.bytes}, i)
	}
	ADDQ(operand.U32(streams*s.bytes), x)
	SUBQ(operand.U32(streams*s.bytes/4), count)
	JNZ(operand.LabelRef("turn"))
}

func (s isa) read() {
	TEXT("read"+s.name, NOSPLIT, "func(sums *float32, x *float32, count int)")
	Doc(fmt.Sprintf("read%s stores %d sums, one a lane, of count elements, a positive multiple of %d.", s.name, streams*s.bytes/4, streams*s.bytes/4))
	sums, x, count := Load(Param("sums"), GP64()), Load(Param("x"), GP64()), Load(Param("count"), GP64())
	acc := make([]reg.VecVirtual, streams)
	for i := range acc {
		acc[i] = s.vector()
		s.zero(acc[i])
	}
	s.turnOf(x, count, func(at operand.Mem, i int) { VADDPS(at, acc[i], acc[i]) })
	for i, a := range acc {
		VMOVUPS(a, operand.Mem{Base: sums, Disp: i * s.bytes})
	}
	VZEROUPPER()
	RET()
}

func (s isa) scale() {
	TEXT("scale"+s.name, NOSPLIT, "func(x *float32, count int, alpha float32)")
	Doc(fmt.Sprintf("scale%s is x = alpha x in place for count elements, a positive multiple of %d.", s.name, streams*s.bytes/4))
	x, count := Load(Param("x"), GP64()), Load(Param("count"), GP64())
	alpha := s.vector()
	at, err := Param("alpha").Resolve()
	if err != nil {
		panic(err)
	}
	VBROADCASTSS(at.Addr, alpha)
	s.turnOf(x, count, func(at operand.Mem, _ int) {
		v := s.vector()
		VMULPS(at, alpha, v)
		VMOVUPS(v, at)
	})
	VZEROUPPER()
	RET()
}
