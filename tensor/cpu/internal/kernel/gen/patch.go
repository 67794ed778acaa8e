package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of Patch in bytes.
const (
	patchSrc, patchDst, patchBias, patchResidual = 0, 24, 48, 72
	patchN, patchCols                            = 96, 104
	patchSrcRow, patchSrcCol, patchSrcStep       = 112, 120, 128
	patchDstRow, patchDstCol, patchDstStep       = 136, 144, 152
)

// term is one row of a transform's matrix: the signs of the elements of a sum,
// and whether it is halved.
type term struct {
	sum  []int
	half bool
}

// transform is a kernel on a Patch: its matrix, a term for each row.
type transform struct {
	name, doc string
	in        int // elements of a row of Src
	rows      []term
	output    bool // adds Bias and Residual
}

// patches are the transforms of Winograd's convolution.
func (s isa) patches() {
	plain := func(signs ...int) term { return term{sum: signs} }
	half := func(signs ...int) term { return term{sum: signs, half: true} }
	for _, k := range []transform{
		{name: "winogradInput", doc: "Dst = B^T Src B", in: 4, rows: []term{
			plain(1, 0, -1, 0), plain(0, 1, 1, 0), plain(0, -1, 1, 0), plain(0, -1, 0, 1),
		}},
		{name: "winogradFilter", doc: "Dst = G Src G^T", in: 3, rows: []term{
			plain(1, 0, 0), half(1, 1, 1), half(1, -1, 1), plain(0, 0, 1),
		}},
		{name: "winogradOutput", doc: "Dst = A^T Src A + Bias + Residual", in: 4, rows: []term{
			plain(1, 1, 1, 0), plain(0, 1, -1, 1),
		}, output: true},
	} {
		s.patch(k)
	}
}

// combine is one term of the elements.
func (s isa) combine(t term, element func(i int) Op) reg.VecVirtual {
	v := s.vector()
	started := false
	for _, positive := range []bool{true, false} {
		for i, sign := range t.sum {
			switch {
			case sign == 0 || (sign > 0) != positive:
			case !started:
				if r, ok := element(i).(reg.VecVirtual); ok {
					s.move(r, v)
				} else {
					VMOVUPS(element(i), v)
				}
				started = true
			case positive:
				VADDPS(element(i), v, v)
			default:
				VSUBPS(element(i), v, v)
			}
		}
	}
	if t.half {
		VMULPS(s.bits(0x3f000000)(), v, v)
	}
	return v
}

// patchWalk is the registers of a patch kernel: where each row of a patch of Src
// is, the distance of its columns and three times that; where Dst is, and the
// distances of its rows.
type patchWalk struct {
	src              []reg.GPVirtual
	col, col3        reg.GPVirtual
	dst, row, row3   reg.GPVirtual
	dstCol           Mem
	bias, difference reg.GPVirtual // from Dst to Residual
}

// patch writes one kernel: patch by patch, a vector of channels at a time.
func (s isa) patch(k transform) {
	TEXT(k.name+s.name, NOSPLIT, "func(t *byte)")
	Doc(k.name + s.name + " is " + k.doc + " on a run of patches.")
	t := Load(Param("t"), GP64())
	w := patchWalk{dst: GP64()}
	from, to, left := AllocLocal(8), AllocLocal(8), AllocLocal(8)
	w.dstCol = AllocLocal(8)
	keep := func(off int, at Mem, shift uint64) {
		r := load(t, off)
		if shift > 0 {
			SHLQ(Imm(shift), r)
		}
		MOVQ(r, at)
	}
	keep(patchSrc, from, 0)
	keep(patchDst, to, 0)
	keep(patchN, left, 0)
	keep(patchDstCol, w.dstCol, 2)
	w.col, w.row = load(t, patchSrcCol), load(t, patchDstRow)
	SHLQ(Imm(2), w.col)
	SHLQ(Imm(2), w.row)
	if k.in > 3 {
		w.col3 = GP64()
		LEAQ(Mem{Base: w.col, Index: w.col, Scale: 2}, w.col3)
	}
	if len(k.rows) > 3 {
		w.row3 = GP64()
		LEAQ(Mem{Base: w.row, Index: w.row, Scale: 2}, w.row3)
	}
	n := load(t, patchCols)
	ANDQ(Imm(uint64(s.lanes-1)), n)
	mask := s.masks(n, 1)[0]
	w.src = []reg.GPVirtual{GP64()}
	for range k.in - 1 {
		w.src = append(w.src, GP64())
	}
	if k.output {
		w.bias, w.difference = GP64(), GP64()
	}

	Label("patch")
	MOVQ(from, w.src[0])
	for i := range k.in - 1 {
		MOVQ(Mem{Base: t, Disp: patchSrcRow}, w.src[i+1])
		LEAQ(Mem{Base: w.src[i], Index: w.src[i+1], Scale: 4}, w.src[i+1])
	}
	MOVQ(to, w.dst)
	if k.output {
		MOVQ(Mem{Base: t, Disp: patchBias}, w.bias)
		MOVQ(Mem{Base: t, Disp: patchResidual}, w.difference)
		SUBQ(Mem{Base: t, Disp: patchDst}, w.difference)
	}
	MOVQ(Mem{Base: t, Disp: patchCols}, n)
	JMP(LabelRef("check"))
	Label("full")
	s.patchVector(k, &w, t, nil)
	for _, p := range append(append([]reg.GPVirtual{}, w.src...), w.dst, w.bias) {
		if p != nil {
			ADDQ(Imm(uint64(s.bytes())), p)
		}
	}
	SUBQ(Imm(uint64(s.lanes)), n)
	Label("check")
	CMPQ(n, Imm(uint64(s.lanes)))
	JGE(LabelRef("full"))
	TESTQ(n, n)
	JZ(LabelRef("next"))
	s.patchVector(k, &w, t, mask)
	Label("next")
	for _, p := range []struct {
		at   Mem
		step int
	}{{from, patchSrcStep}, {to, patchDstStep}} {
		step := load(t, p.step)
		SHLQ(Imm(2), step)
		ADDQ(step, p.at)
	}
	DECQ(left)
	JNZ(LabelRef("patch"))
	VZEROUPPER()
	RET()
}

// patchVector transforms one vector of channels: for each column of Dst, the
// rows of Src to that column, then its elements.
func (s isa) patchVector(k transform, w *patchWalk, t reg.Register, mask Op) {
	at := func(base, step, step3 reg.GPVirtual, i int) Mem {
		switch i {
		case 0:
			return Mem{Base: base}
		case 3:
			return Mem{Base: base, Index: step3, Scale: 1}
		}
		return Mem{Base: base, Index: step, Scale: uint8(i)}
	}
	dst := GP64()
	MOVQ(w.dst, dst)
	for j, column := range k.rows {
		part := make([]Op, k.in)
		for i := range part {
			part[i] = s.combine(column, func(c int) Op { return at(w.src[i], w.col, w.col3, c) })
		}
		var out []reg.VecVirtual
		for _, row := range k.rows {
			v := s.combine(row, func(i int) Op { return part[i] })
			if k.output {
				VADDPS(Mem{Base: w.bias}, v, v)
			}
			out = append(out, v)
		}
		if k.output {
			label := fmt.Sprintf("store%d%t", j, mask != nil)
			CMPQ(Mem{Base: t, Disp: patchResidual}, Imm(0))
			JEQ(LabelRef(label))
			r := GP64()
			LEAQ(Mem{Base: dst, Index: w.difference, Scale: 1}, r)
			for i, v := range out {
				VADDPS(at(r, w.row, w.row3, i), v, v)
			}
			Label(label)
		}
		for i, v := range out {
			s.put(v, at(dst, w.row, w.row3, i), mask)
		}
		if j+1 < len(k.rows) {
			ADDQ(w.dstCol, dst)
		}
	}
}
