package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of Rows in bytes.
const (
	rowsX, rowsY, rowsDst, rowsTop, rowsSum = 0, 24, 48, 72, 96
	rowsRows, rowsCols, rowsLD, rowsScale   = 120, 128, 136, 144
)

// along is a row under way: where its whole vectors end, what is left after them,
// and the mask of that.
type along struct {
	isa
	end, left reg.GPVirtual
	mask      Op
	t         reg.Register
	row       reg.GPVirtual // in bytes of Top and Sum
}

// scalar is where the row's element of field off is.
func (a along) scalar(off int) Mem { return Mem{Base: load(a.t, off), Index: a.row, Scale: 1} }

// pass runs body over the vectors of a row: index is the place in bytes.
func (a along) pass(label string, body func(index reg.GPVirtual, mask Op)) {
	index := GP64()
	XORQ(index, index)
	JMP(LabelRef(label + "_check"))
	Label(label + "_full")
	body(index, nil)
	ADDQ(Imm(uint64(a.bytes())), index)
	Label(label + "_check")
	CMPQ(index, a.end)
	JLT(LabelRef(label + "_full"))
	TESTQ(a.left, a.left)
	JZ(LabelRef(label + "_done"))
	body(index, a.mask)
	Label(label + "_done")
}

// add is acc = acc + v, where the mask is.
func (a along) add(v, acc reg.VecVirtual, mask Op) {
	switch {
	case mask == nil:
		VADDPS(v, acc, acc)
	case a.wide:
		VADDPS(v, acc, mask, acc)
	default:
		VANDPS(mask, v, v)
		VADDPS(v, acc, acc)
	}
}

// softmax writes the kernels on Rows.
func (s isa) softmax() {
	s.rowwise("softmaxRows", "Dst = softmax(Scale X), Top and Sum what each row's exponents are less and their sum",
		func(a along, x, _, dst Mem, scale reg.VecVirtual, e exponential) {
			low := s.constant(float32(negInf))
			top := s.vector()
			VMOVUPS(low(), top)
			a.pass("max", func(index reg.GPVirtual, mask Op) {
				v := s.get(x.Idx(index, 1), mask)
				VMULPS(scale, v, v)
				switch {
				case mask == nil:
					VMAXPS(v, top, top)
				case s.wide:
					VMAXPS(v, top, mask, top)
				default:
					VBLENDVPS(mask, v, low(), v)
					VMAXPS(v, top, top)
				}
			})
			s.fold(top, func(v Op, acc reg.VecVirtual) { VMAXPS(v, acc, acc) })
			VMOVSS(top.AsX(), a.scalar(rowsTop))
			VBROADCASTSS(top.AsX(), top)
			sum := s.vector()
			VXORPS(sum, sum, sum)
			a.pass("exp", func(index reg.GPVirtual, mask Op) {
				v := s.get(x.Idx(index, 1), mask)
				VMULPS(scale, v, v)
				VSUBPS(top, v, v)
				y := e.exp(v)
				s.put(y, dst.Idx(index, 1), mask)
				a.add(y, sum, mask)
			})
			inverse := a.inverse(sum, e)
			a.pass("scale", func(index reg.GPVirtual, mask Op) {
				v := s.get(dst.Idx(index, 1), mask)
				VMULPS(inverse, v, v)
				s.put(v, dst.Idx(index, 1), mask)
			})
		})
	s.rowwise("softmaxGradRows", "Dst = softmax(Scale X) for exponents less Top, and Y = Scale Dst (Y - the sum of Y Dst)",
		func(a along, x, y, dst Mem, scale reg.VecVirtual, e exponential) {
			top, sum, dot := s.vector(), s.vector(), s.vector()
			VBROADCASTSS(a.scalar(rowsTop), top)
			VXORPS(sum, sum, sum)
			a.pass("exp", func(index reg.GPVirtual, mask Op) {
				v := s.get(x.Idx(index, 1), mask)
				VMULPS(scale, v, v)
				VSUBPS(top, v, v)
				p := e.exp(v)
				s.put(p, dst.Idx(index, 1), mask)
				a.add(p, sum, mask)
			})
			inverse := a.inverse(sum, e)
			VXORPS(dot, dot, dot)
			a.pass("dot", func(index reg.GPVirtual, mask Op) {
				p := s.get(dst.Idx(index, 1), mask)
				VMULPS(inverse, p, p)
				s.put(p, dst.Idx(index, 1), mask)
				VFMADD231PS(s.get(y.Idx(index, 1), mask), p, dot)
			})
			s.fold(dot, func(v Op, acc reg.VecVirtual) { VADDPS(v, acc, acc) })
			VBROADCASTSS(dot.AsX(), dot)
			a.pass("grad", func(index reg.GPVirtual, mask Op) {
				p, g := s.get(dst.Idx(index, 1), mask), s.get(y.Idx(index, 1), mask)
				VSUBPS(dot, g, g)
				VMULPS(scale, p, p)
				VMULPS(p, g, g)
				s.put(g, y.Idx(index, 1), mask)
			})
		})
}

// rowwise writes a kernel that does row for each row of a Rows.
func (s isa) rowwise(name, doc string,
	row func(a along, x, y, dst Mem, scale reg.VecVirtual, e exponential),
) {
	TEXT(name+s.name, NOSPLIT, "func(t *byte)")
	Doc(name + s.name + " is " + doc + ".")
	t := Load(Param("t"), GP64())
	x, y, dst := load(t, rowsX), load(t, rowsY), load(t, rowsDst)
	rows, ld, end := load(t, rowsRows), load(t, rowsLD), load(t, rowsCols)
	a := along{isa: s, end: end, left: GP64(), t: t, row: GP64()}
	XORQ(a.row, a.row)
	MOVQ(end, a.left)
	ANDQ(Imm(uint64(s.lanes-1)), a.left)
	SUBQ(a.left, end)
	SHLQ(Imm(2), end)
	SHLQ(Imm(2), ld)
	a.mask = s.masks(a.left, 1)[0]
	scale := s.vector()
	VBROADCASTSS(Mem{Base: t, Disp: rowsScale}, scale)
	e := s.exponential(1)
	Label("row")
	row(a, Mem{Base: x}, Mem{Base: y}, Mem{Base: dst}, scale, e)
	for _, p := range []reg.GPVirtual{x, y, dst} {
		ADDQ(ld, p)
	}
	ADDQ(Imm(4), a.row)
	DECQ(rows)
	JNZ(LabelRef("row"))
	VZEROUPPER()
	RET()
}

// inverse folds a sum, stores it and returns 1/sum in every lane.
func (a along) inverse(sum reg.VecVirtual, e exponential) reg.VecVirtual {
	a.fold(sum, func(v Op, acc reg.VecVirtual) { VADDPS(v, acc, acc) })
	VMOVSS(sum.AsX(), a.scalar(rowsSum))
	one := e.one()
	VDIVSS(sum.AsX(), one.AsX(), sum.AsX())
	VBROADCASTSS(sum.AsX(), sum)
	return sum
}
