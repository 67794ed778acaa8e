package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of Patch in bytes.
const (
	patchSrc, patchDst, patchBias, patchResidual       = 0, 24, 48, 72
	patchZeros, patchN, patchCols                      = 96, 120, 128
	patchSrcAt, patchSrcRow, patchSrcCol, patchSrcStep = 136, 144, 152, 160
	patchDstRow, patchDstCol, patchDstStep             = 168, 176, 184
	patchRowLo, patchRowHi, patchColLo, patchColHi     = 192, 200, 208, 216
	patchRow                                           = 224
)

// transform is a kernel on a Patch: from squares of in elements to squares of
// out, by line along one dimension and then the other.
type transform struct {
	name, doc string
	in, out   int
	line      func(l lines, x []Op) []reg.VecVirtual
	constants []float64 // of the line, without their signs
	border    bool      // rows and columns outside of the limits are zero
	output    bool      // adds Bias and Residual

	// point is one element of the line; a kernel with it makes row Row alone.
	point func(l lines, x []Op, i int) reg.VecVirtual
}

// patches are the transforms of Winograd's convolutions.
func (s isa) patches() {
	input := []float64{a, b, a2, b2, a2 * b2, a2 + b2}
	filter := []float64{norm0, normA, normA * a, normA * a2, normB, normB * b, normB * b2}
	output := []float64{a, b, a2, b2, a2 * a, b2 * b}
	for _, k := range []transform{
		{name: "winogradInput", doc: "Dst = B^T Src B", in: 6, out: 6, line: lines.input, constants: input, border: true},
		{name: "winogradFilter", doc: "Dst = G Src G^T", in: 3, out: 6, line: lines.filter, constants: filter},
		{name: "winogradOutput", doc: "Dst = A^T Src A + Bias + Residual", in: 6, out: 4, line: lines.output, constants: output, output: true},
		{name: "winogradGrad", doc: "Dst = A Src A^T", in: 4, out: 6, line: lines.grad, constants: output, border: true},
		{name: "winogradFilterGrad", doc: "Dst = G^T Src G", in: 6, out: 3, line: lines.filterGrad, constants: filter},
		{name: "winogradInputRow", doc: "Dst = row Row of B^T Src B", in: 6, out: 6, line: lines.input, point: lines.inputPoint, constants: input, border: true},
		{name: "winogradGradRow", doc: "Dst = row Row of A Src A^T", in: 4, out: 6, line: lines.grad, point: lines.gradPoint, constants: output, border: true},
	} {
		s.patch(k)
	}
}

// patchWalk is what a patch kernel keeps: in registers where each row of a patch
// of Src begins, the channels done in bytes, and the memory of the elements
// between the two dimensions; in memory the distances in bytes.
type patchWalk struct {
	lines                  lines
	t                      reg.Register
	src                    []reg.GPVirtual
	done, half             reg.GPVirtual
	to                     Mem
	srcCol, dstRow, dstCol Mem
}

// patch writes one kernel: patch by patch, a vector of channels at a time.
func (s isa) patch(k transform) {
	TEXT(k.name+s.name, 0, "func(t *byte)")
	Doc(k.name + s.name + " is " + k.doc + " on a run of patches.")
	t := Load(Param("t"), GP64())
	w := patchWalk{t: t, done: GP64(), half: GP64(), to: AllocLocal(8)}
	from, left, end, srcRow := AllocLocal(8), AllocLocal(8), AllocLocal(8), AllocLocal(8)
	w.srcCol, w.dstRow, w.dstCol = AllocLocal(8), AllocLocal(8), AllocLocal(8)
	keep := func(off int, at Mem, shift uint64) reg.GPVirtual {
		r := load(t, off)
		if shift > 0 {
			SHLQ(Imm(shift), r)
		}
		MOVQ(r, at)
		return r
	}
	at := load(t, patchSrcAt)
	base := load(t, patchSrc)
	LEAQ(Mem{Base: base, Index: at, Scale: 4}, at)
	MOVQ(at, from)
	keep(patchDst, w.to, 0)
	keep(patchN, left, 0)
	keep(patchSrcRow, srcRow, 2)
	keep(patchSrcCol, w.srcCol, 2)
	keep(patchDstRow, w.dstRow, 2)
	keep(patchDstCol, w.dstCol, 2)
	keep(patchCols, end, 2)
	if k.point == nil && !s.fits(k) {
		LEAQ(AllocLocal((k.in*k.out+1)*s.bytes()), w.half)
		ADDQ(Imm(uint64(s.bytes()-1)), w.half)
		ANDQ(I32(int32(-s.bytes())), w.half)
	}
	w.lines = s.lines(k.constants)
	for range k.in {
		w.src = append(w.src, GP64())
	}

	Label("patch")
	MOVQ(from, w.src[0])
	for i := range k.in - 1 {
		MOVQ(srcRow, w.src[i+1])
		ADDQ(w.src[i], w.src[i+1])
	}
	if k.border {
		zeros := load(t, patchZeros)
		for i, r := range w.src {
			CMPQ(Mem{Base: t, Disp: patchRowLo}, Imm(uint64(i)))
			CMOVQGT(zeros, r)
			CMPQ(Mem{Base: t, Disp: patchRowHi}, Imm(uint64(i)))
			CMOVQLE(zeros, r)
		}
	}
	s.patchRows(k, &w, end)
	for _, p := range []struct {
		at   Mem
		step int
	}{{from, patchSrcStep}, {w.to, patchDstStep}} {
		step := load(t, p.step)
		SHLQ(Imm(2), step)
		ADDQ(step, p.at)
	}
	DECQ(left)
	JNZ(LabelRef("patch"))
	VZEROUPPER()
	RET()
}

// patchRows transforms a patch, or one row of it.
func (s isa) patchRows(k transform, w *patchWalk, end Mem) {
	XORQ(w.done, w.done)
	if k.point == nil {
		s.patchVectors(k, w, end, "", s.patchVector)
		return
	}
	for i := 1; i < k.out; i++ {
		CMPQ(Mem{Base: w.t, Disp: patchRow}, Imm(uint64(i)))
		JEQ(LabelRef(fmt.Sprintf("row%d", i)))
	}
	for i := range k.out {
		Label(fmt.Sprintf("row%d", i))
		s.patchVectors(k, w, end, fmt.Sprint(i), func(k transform, w *patchWalk, mask Op) { s.patchRow(k, w, i, mask) })
		if i+1 < k.out {
			JMP(LabelRef("rowDone"))
		}
	}
	Label("rowDone")
}

// patchVectors transforms all channels of a patch, the last ones under a mask. A
// mask costs nothing in AVX-512, and the code is half as long with one in every
// vector.
func (s isa) patchVectors(k transform, w *patchWalk, end Mem, label string, vector func(transform, *patchWalk, Op)) {
	rest := func() reg.GPVirtual {
		r := GP64()
		MOVQ(end, r)
		SUBQ(w.done, r)
		SHRQ(Imm(2), r)
		return r
	}
	if s.wide {
		Label("vector" + label)
		n, limit := rest(), GP64()
		MOVQ(U32(uint32(s.lanes)), limit)
		CMPQ(n, limit)
		CMOVQGT(limit, n)
		vector(k, w, s.masks(n, 1)[0])
		ADDQ(Imm(uint64(s.bytes())), w.done)
		CMPQ(w.done, end)
		JLT(LabelRef("vector" + label))
		return
	}
	JMP(LabelRef("check" + label))
	Label("full" + label)
	vector(k, w, nil)
	ADDQ(Imm(uint64(s.bytes())), w.done)
	Label("check" + label)
	n := rest()
	CMPQ(n, Imm(uint64(s.lanes)))
	JGE(LabelRef("full" + label))
	TESTQ(n, n)
	JZ(LabelRef("next" + label))
	vector(k, w, s.masks(n, 1)[0])
	Label("next" + label)
}

// fits says that the elements between the two dimensions fit in registers.
func (s isa) fits(k transform) bool { return s.wide && k.in*k.out <= 18 }

// patchVector transforms one vector of channels: the columns of Src, one by one,
// then the rows of what they make.
func (s isa) patchVector(k transform, w *patchWalk, mask Op) {
	col := GP64()
	MOVQ(w.done, col)
	half := make([][]Op, k.in) // by column of Src, then row of Dst
	for j := range half {
		half[j] = s.patchColumn(k, w, col, j, mask != nil)
		if j+1 < k.in {
			ADDQ(w.srcCol, col)
		}
	}
	row, bias, residual := GP64(), GP64(), GP64()
	MOVQ(w.to, row)
	ADDQ(w.done, row)
	if k.output {
		MOVQ(Mem{Base: w.t, Disp: patchBias}, bias)
		MOVQ(Mem{Base: w.t, Disp: patchResidual}, residual)
		ADDQ(w.done, bias)
	}
	for i := range k.out {
		x := make([]Op, k.in)
		for j := range x {
			x[j] = half[j][i]
		}
		y := k.line(w.lines, x)
		at := GP64()
		MOVQ(row, at)
		for j, v := range y {
			if k.output {
				VADDPS(Mem{Base: bias}, v, v)
				plain := fmt.Sprintf("plain%d%d%t", i, j, mask != nil)
				TESTQ(residual, residual)
				JZ(LabelRef(plain))
				from := GP64()
				MOVQ(at, from)
				SUBQ(Mem{Base: w.t, Disp: patchDst}, from)
				VADDPS(Mem{Base: residual, Index: from, Scale: 1}, v, v)
				Label(plain)
			}
			s.put(v, Mem{Base: at}, mask)
			if j+1 < len(y) {
				ADDQ(w.dstCol, at)
			}
		}
		if i+1 < k.out {
			ADDQ(w.dstRow, row)
		}
	}
}

// patchRow makes row i of one vector of channels.
func (s isa) patchRow(k transform, w *patchWalk, i int, mask Op) {
	col := GP64()
	MOVQ(w.done, col)
	half := make([]Op, k.in)
	for j := range half {
		v := s.vector()
		s.unlessOutside(k, w, j, fmt.Sprintf("%d%d%t", i, j, mask != nil), func() {
			VMOVAPS(k.point(w.lines, w.column(col), i), v)
		}, func() { VXORPS(v, v, v) })
		half[j] = v
		if j+1 < k.in {
			ADDQ(w.srcCol, col)
		}
	}
	at := GP64()
	MOVQ(w.to, at)
	ADDQ(w.done, at)
	y := k.line(w.lines, half)
	for j, v := range y {
		s.put(v, Mem{Base: at}, mask)
		if j+1 < len(y) {
			ADDQ(w.dstCol, at)
		}
	}
}

// column is the elements of the column of Src at col.
func (w *patchWalk) column(col reg.GPVirtual) []Op {
	x := make([]Op, len(w.src))
	for i := range x {
		x[i] = Mem{Base: w.src[i], Index: col, Scale: 1}
	}
	return x
}

// unlessOutside runs inside where column j lies within the limits, or else outside.
func (s isa) unlessOutside(k transform, w *patchWalk, j int, label string, inside, outside func()) {
	if !k.border {
		inside()
		return
	}
	zero, done := "zero"+label, "done"+label
	CMPQ(Mem{Base: w.t, Disp: patchColLo}, Imm(uint64(j)))
	JGT(LabelRef(zero))
	CMPQ(Mem{Base: w.t, Disp: patchColHi}, Imm(uint64(j)))
	JLE(LabelRef(zero))
	inside()
	JMP(LabelRef(done))
	Label(zero)
	outside()
	Label(done)
}

// patchColumn transforms column j of Src.
func (s isa) patchColumn(k transform, w *patchWalk, col reg.GPVirtual, j int, last bool) []Op {
	half := make([]Op, k.out)
	for i := range half {
		half[i] = Mem{Base: w.half, Disp: (i*k.in + j) * s.bytes()}
		if s.fits(k) {
			half[i] = s.vector()
		}
	}
	s.unlessOutside(k, w, j, fmt.Sprintf("%d%t", j, last), func() {
		for i, v := range k.line(w.lines, w.column(col)) {
			VMOVAPS(v, half[i])
		}
	}, func() {
		v := s.vector()
		VXORPS(v, v, v)
		for i := range half {
			VMOVAPS(v, half[i])
		}
	})
	return half
}
