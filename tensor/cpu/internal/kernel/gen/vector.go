package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// step computes one vector: at(i) is the operand's memory, mask nil or what ends
// it.
type step func(at func(i int) Mem, mask Op)

// each runs a step over n elements of the operands, the last ones under a mask.
func (s isa) each(operands []string, body step) {
	p := make([]reg.Register, len(operands))
	for i, name := range operands {
		p[i] = Load(Param(name), GP64())
	}
	n, index := Load(Param("n"), GP64()), GP64()
	XORQ(index, index)
	at := func(i int) Mem { return Mem{Base: p[i], Index: index, Scale: 1} }
	JMP(LabelRef("check"))
	Label("full")
	body(at, nil)
	ADDQ(Imm(uint64(s.bytes())), index)
	SUBQ(Imm(uint64(s.lanes)), n)
	Label("check")
	CMPQ(n, Imm(uint64(s.lanes)))
	JGE(LabelRef("full"))
	TESTQ(n, n)
	JZ(LabelRef("done"))
	body(at, s.masks(n.(reg.GPVirtual), 1)[0])
	Label("done")
}

// pointers writes a function's parameters: pointers to float32, n, and scalars.
func pointers(names []string, scalars string) string {
	sig := "func("
	for _, n := range names {
		sig += n + " *float32, "
	}
	return sig + "n int" + scalars + ")"
}

// elementwise writes a function of the operands; the first is the destination.
func (s isa) elementwise(name, doc string, operands []string, scalars string, setup func() step) {
	TEXT(name+s.name, NOSPLIT, pointers(operands, scalars))
	Doc(name + s.name + " is " + doc + ".")
	s.each(operands, setup())
	VZEROUPPER()
	RET()
}

// vectors are the elementwise kernels.
func (s isa) vectors() {
	dxy, dx := []string{"dst", "x", "y"}, []string{"dst", "x"}
	s.elementwise("add", "dst = x + y", dxy, "", func() step {
		return func(at func(int) Mem, m Op) {
			x, y := s.get(at(1), m), s.get(at(2), m)
			VADDPS(y, x, x)
			s.put(x, at(0), m)
		}
	})
	s.elementwise("scale", "dst = alpha x", dx, ", alpha float32", func() step {
		alpha := s.broadcast("alpha")
		return func(at func(int) Mem, m Op) {
			x := s.get(at(1), m)
			VMULPS(alpha, x, x)
			s.put(x, at(0), m)
		}
	})
	s.elementwise("blend", "dst = alpha x + beta y", dxy, ", alpha, beta float32", func() step {
		alpha, beta := s.broadcast("alpha"), s.broadcast("beta")
		return func(at func(int) Mem, m Op) {
			x, y := s.get(at(1), m), s.get(at(2), m)
			VMULPS(beta, y, y)
			VFMADD213PS(y, alpha, x)
			s.put(x, at(0), m)
		}
	})
	s.elementwise("silu", "dst = x sigmoid(x)", dx, "", func() step {
		e := s.exponential(-1)
		return func(at func(int) Mem, m Op) {
			x := s.get(at(1), m)
			e.silu(x)
			s.put(x, at(0), m)
		}
	})
	s.elementwise("siluGrad", "dst = y d silu(x)/dx", dxy, "", func() step {
		e := s.exponential(-1)
		return func(at func(int) Mem, m Op) {
			g := e.siluSlope(s.get(at(1), m))
			y := s.get(at(2), m)
			VMULPS(g, y, y)
			s.put(y, at(0), m)
		}
	})
	s.elementwise("softmaxGrad", "dst = scale y (x - sum)", dxy, ", scale, sum float32", func() step {
		scale, sum := s.broadcast("scale"), s.broadcast("sum")
		return func(at func(int) Mem, m Op) {
			x, y := s.get(at(1), m), s.get(at(2), m)
			VSUBPS(sum, x, x)
			VMULPS(scale, y, y)
			VMULPS(x, y, y)
			s.put(y, at(0), m)
		}
	})
}

// reductions are the kernels that return a number: lane l sums the elements of
// index l modulo the lanes, then the lanes are halved.
func (s isa) reductions() {
	s.reduction("maxScaled", "the largest scale x, NaN or not where x holds one", []string{"x"}, ", scale float32",
		func(acc reg.VecVirtual) step {
			scale, low := s.broadcast("scale"), s.constant(float32(negInf))
			VMOVUPS(low(), acc)
			return func(at func(int) Mem, m Op) {
				x := s.get(at(0), m)
				VMULPS(scale, x, x)
				switch {
				case m == nil:
					VMAXPS(x, acc, acc)
				case s.wide:
					VMAXPS(x, acc, m, acc)
				default:
					VBLENDVPS(m, x, low(), x)
					VMAXPS(x, acc, acc)
				}
			}
		}, func(v Op, acc reg.VecVirtual) { VMAXPS(v, acc, acc) })
	s.reduction("dot", "the sum of x y", []string{"x", "y"}, "", func(acc reg.VecVirtual) step {
		VXORPS(acc, acc, acc)
		return func(at func(int) Mem, m Op) {
			VFMADD231PS(s.get(at(0), m), s.get(at(1), m), acc)
		}
	}, func(v Op, acc reg.VecVirtual) { VADDPS(v, acc, acc) })
	s.reduction("expSum", "dst = exp(scale x - top), and its sum", []string{"dst", "x"}, ", scale, top float32",
		func(acc reg.VecVirtual) step {
			scale, top, e := s.broadcast("scale"), s.broadcast("top"), s.exponential(1)
			VXORPS(acc, acc, acc)
			return func(at func(int) Mem, m Op) {
				x := s.get(at(1), m)
				VMULPS(scale, x, x)
				VSUBPS(top, x, x)
				y := e.exp(x)
				s.put(y, at(0), m)
				switch {
				case m == nil:
					VADDPS(y, acc, acc)
				case s.wide:
					VADDPS(y, acc, m, acc)
				default:
					VANDPS(m, y, y)
					VADDPS(y, acc, acc)
				}
			}
		}, func(v Op, acc reg.VecVirtual) { VADDPS(v, acc, acc) })
}

// reduction writes a function of the operands that folds its lanes by join.
func (s isa) reduction(name, doc string, operands []string, scalars string,
	setup func(acc reg.VecVirtual) step, join func(v Op, acc reg.VecVirtual),
) {
	TEXT(name+s.name, NOSPLIT, pointers(operands, scalars)+" float32")
	Doc(name + s.name + " is " + doc + ".")
	acc := s.vector()
	s.each(operands, setup(acc))
	s.fold(acc, join)
	Store(acc.AsX(), ReturnIndex(0))
	VZEROUPPER()
	RET()
}

// fold joins the lanes in the lowest one.
func (s isa) fold(acc reg.VecVirtual, join func(v Op, acc reg.VecVirtual)) {
	if s.wide {
		upper := YMM()
		VEXTRACTF64X4(Imm(1), acc, upper)
		join(upper, acc.AsY().(reg.VecVirtual))
	}
	upper := XMM()
	low := acc.AsX().(reg.VecVirtual)
	VEXTRACTF128(Imm(1), acc.AsY(), upper)
	join(upper, low)
	VMOVHLPS(low, upper, upper)
	join(upper, low)
	VPSRLQ(Imm(32), low, upper)
	join(upper, low)
}
