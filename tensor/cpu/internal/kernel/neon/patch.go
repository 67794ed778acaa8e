package main

import (
	"fmt"
	"unsafe"

	"github.com/agrdist/agrdist/internal/neon"
	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
)

var patch kernel.Patch

// transform is a kernel on a Patch: from squares of in elements to squares of out, by line
// along one dimension and then the other.
type transform struct {
	name, doc string
	in, out   int
	line      func(l lines, x []neon.V) []neon.V
	constants []float64 // of the line, without their signs
	border    bool      // rows and columns outside of the limits are zero
	output    bool      // adds Bias and Residual

	// point is one element of the line; a kernel with it makes row Row alone.
	point func(l lines, x func(j int) neon.V, i int) neon.V
}

// patches are the transforms of Winograd's convolutions.
func patches() []fn {
	input := []float64{a, b, a2, b2, a2 * b2, a2 + b2}
	filter := []float64{norm0, normA, normA * a, normA * a2, normB, normB * b, normB * b2}
	output := []float64{a, b, a2, b2, a2 * a, b2 * b}
	var all []fn
	for _, k := range []transform{
		{name: "winogradInput", doc: "Dst = B^T Src B", in: 6, out: 6, line: lines.input, constants: input, border: true},
		{name: "winogradFilter", doc: "Dst = G Src G^T", in: 3, out: 6, line: lines.filter, constants: filter},
		{name: "winogradOutput", doc: "Dst = A^T Src A + Bias + Residual", in: 6, out: 4, line: lines.output, constants: output, output: true},
		{name: "winogradGrad", doc: "Dst = A Src A^T", in: 4, out: 6, line: lines.grad, constants: output, border: true},
		{name: "winogradFilterGrad", doc: "Dst = G^T Src G", in: 6, out: 3, line: lines.filterGrad, constants: filter},
		{name: "winogradInputRow", doc: "Dst = row Row of B^T Src B", in: 6, out: 6, line: lines.input, point: lines.inputPoint, constants: input, border: true},
		{name: "winogradGradRow", doc: "Dst = row Row of A Src A^T", in: 4, out: 6, line: lines.grad, point: lines.gradPoint, constants: output, border: true},
	} {
		all = append(all, k.write())
	}
	return all
}

// patchWalk is what a patch kernel keeps in registers: where each row of a patch of Src
// begins, where Dst does, the channels done in bytes, the distances in bytes, the memory of
// the elements between the two dimensions, and a bit for each column inside of the limits.
type patchWalk struct {
	lines
	k                      transform
	t                      neon.R
	src                    []neon.R
	to, done, half, inside neon.R
	srcCol, dstRow, dstCol neon.R
	end                    neon.R // of the channels, in bytes
}

// write writes one kernel: patch by patch, a vector of channels at a time.
func (k transform) write() fn {
	f := begin(k.name, k.doc+" on a run of patches", "t")
	t := f.Arg("t")
	w := patchWalk{lines: f.lines(k.constants), k: k, t: t, done: f.Int(), inside: f.Int()}
	scaled := func(off uintptr) neon.R { return f.times4(f.Read(t, off)) }
	w.srcCol, w.dstCol = scaled(unsafe.Offsetof(patch.SrcCol)), scaled(unsafe.Offsetof(patch.DstCol))
	if k.point == nil {
		w.dstRow = scaled(unsafe.Offsetof(patch.DstRow))
		w.half = f.Local(k.in * k.out * bytes)
	}
	w.end = scaled(unsafe.Offsetof(patch.Cols))
	w.to = f.Read(t, unsafe.Offsetof(patch.Dst))
	from, left := scaled(unsafe.Offsetof(patch.SrcAt)), f.Read(t, unsafe.Offsetof(patch.N))
	f.Do2("ADD", f.Read(t, unsafe.Offsetof(patch.Src)), from, from)
	for range k.in {
		w.src = append(w.src, f.Int())
	}
	w.limits()
	f.Label("patch")
	f.Move(from, w.src[0])
	row := f.Read(t, unsafe.Offsetof(patch.SrcRow))
	for i := range k.in - 1 {
		f.Do2("ADD", neon.Shifted{R: row, N: 2}, w.src[i], w.src[i+1])
	}
	w.border()
	w.rows()
	f.Do2("ADD", neon.Shifted{R: f.Read(t, unsafe.Offsetof(patch.SrcStep)), N: 2}, from, from)
	f.Do2("ADD", neon.Shifted{R: f.Read(t, unsafe.Offsetof(patch.DstStep)), N: 2}, w.to, w.to)
	f.Do2("SUBS", 1, left, left)
	f.Jump("BNE", "patch")
	f.End()
	return f
}

// limits sets the bits of the columns inside.
func (w *patchWalk) limits() {
	if !w.k.border {
		return
	}
	w.Set(0, w.inside)
	low, high := w.Read(w.t, unsafe.Offsetof(patch.ColLo)), w.Read(w.t, unsafe.Offsetof(patch.ColHi))
	for j := range w.k.in {
		outside := w.Unique("outside")
		w.Do2("CMP", j, low)
		w.Jump("BGT", outside)
		w.Do2("CMP", j, high)
		w.Jump("BLE", outside)
		w.Do2("ORR", 1<<j, w.inside, w.inside)
		w.Label(outside)
	}
}

// border makes the rows outside rows of zeros.
func (w *patchWalk) border() {
	if !w.k.border {
		return
	}
	zeros := w.Read(w.t, unsafe.Offsetof(patch.Zeros))
	low, high := w.Read(w.t, unsafe.Offsetof(patch.RowLo)), w.Read(w.t, unsafe.Offsetof(patch.RowHi))
	for i, r := range w.src {
		w.Do2("CMP", i, low)
		w.Select("GT", zeros, r, r)
		w.Do2("CMP", i, high)
		w.Select("LE", zeros, r, r)
	}
}

// rows transforms a patch, or one row of it.
func (w *patchWalk) rows() {
	if w.k.point == nil {
		w.vectors(w.vector)
		return
	}
	row := w.Read(w.t, unsafe.Offsetof(patch.Row))
	for i := 1; i < w.k.out; i++ {
		w.Do2("CMP", i, row)
		w.Jump("BEQ", fmt.Sprintf("row%d", i))
	}
	for i := range w.k.out {
		w.Label(fmt.Sprintf("row%d", i))
		w.vectors(func(left *neon.R) { w.row(i, left) })
		if i+1 < w.k.out {
			w.Jump("B", "rowDone")
		}
	}
	w.Label("rowDone")
}

// vectors transforms all channels of a patch.
func (w *patchWalk) vectors(vector func(left *neon.R)) {
	check, full, done := w.Unique("check"), w.Unique("full"), w.Unique("done")
	left := w.Int()
	w.Set(0, w.done)
	w.Jump("B", check)
	w.Label(full)
	vector(nil)
	w.Do2("ADD", bytes, w.done, w.done)
	w.Label(check)
	w.Do2("SUB", w.done, w.end, left)
	w.Do2("CMP", bytes, left)
	w.Jump("BGE", full)
	w.JumpZero("CBZ", left, done)
	w.Do2("LSR", 2, left, left)
	vector(&left)
	w.Label(done)
}

// column loads elements of the column of Src at col, each once.
func (w *patchWalk) column(col neon.R) func(i int) neon.V {
	return func(i int) neon.V {
		v := w.Vector()
		w.LoadIndex(v, w.src[i], col)
		return v
	}
}

// unlessOutside runs inside where column j lies within the limits, or else outside.
func (w *patchWalk) unlessOutside(j int, inside, outside func()) {
	if !w.k.border {
		inside()
		return
	}
	zero, done := w.Unique("zero"), w.Unique("within")
	w.JumpBit("TBZ", j, w.inside, zero)
	inside()
	w.Jump("B", done)
	w.Label(zero)
	outside()
	w.Label(done)
}

// fits says that the elements between the two dimensions fit in registers.
func (k transform) fits() bool { return k.in*k.out <= 18 }

// vector transforms one vector of channels: the columns of Src, one by one, then the rows
// of what they make.
func (w *patchWalk) vector(left *neon.R) {
	k := w.k
	col := w.Int()
	w.Move(w.done, col)
	half := make([][]neon.V, k.in) // by column of Src, then row of Dst, where they fit
	for j := range half {
		w.unlessOutside(j, func() {
			x := make([]neon.V, k.in)
			for i := range x {
				x[i] = w.column(col)(i)
			}
			half[j] = k.line(w.lines, x)
			w.keep(j, half[j])
		}, func() {
			v := w.Vector()
			w.Zero(v)
			zeros := make([]neon.V, k.out)
			for i := range zeros {
				zeros[i] = v
			}
			w.keep(j, zeros)
		})
		if j+1 < k.in {
			w.Do2("ADD", w.srcCol, col, col)
		}
	}
	row := w.Int()
	w.Do2("ADD", w.done, w.to, row)
	add := w.addition()
	for i := range k.out {
		x := make([]neon.V, k.in)
		for j := range x {
			if k.fits() {
				x[j] = half[j][i]
				continue
			}
			x[j] = w.Vector()
			if j%2 == 1 {
				w.LoadPair(x[j-1], x[j], w.half, (i*k.in+j-1)*bytes)
			}
		}
		at := w.Int()
		w.Move(row, at)
		y := k.line(w.lines, x)
		for j, v := range y {
			add(v, at)
			w.put(v, place{at, 0, left})
			if j+1 < len(y) {
				w.Do2("ADD", w.dstCol, at, at)
			}
		}
		if i+1 < k.out {
			w.Do2("ADD", w.dstRow, row, row)
		}
	}
}

// keep stores a column between the two dimensions, unless it stays in registers.
func (w *patchWalk) keep(j int, column []neon.V) {
	if w.k.fits() {
		return
	}
	for i, v := range column {
		w.Store('q', v, w.half, (i*w.k.in+j)*bytes)
	}
}

// addition returns what adds Bias and Residual to an element of Dst at some place.
func (w *patchWalk) addition() func(v neon.V, at neon.R) {
	if !w.k.output {
		return func(neon.V, neon.R) {}
	}
	bias := w.Vector()
	w.LoadIndex(bias, w.Read(w.t, unsafe.Offsetof(patch.Bias)), w.done)
	residual, base := w.Read(w.t, unsafe.Offsetof(patch.Residual)), w.Read(w.t, unsafe.Offsetof(patch.Dst))
	return func(v neon.V, at neon.R) {
		w.Do("fadd.4s", v, v, bias)
		w.unless("CBZ", residual, func() {
			from, r := w.Int(), w.Vector()
			w.Do2("SUB", base, at, from)
			w.LoadIndex(r, residual, from)
			w.Do("fadd.4s", v, v, r)
		})
	}
}

// row makes row i of one vector of channels.
func (w *patchWalk) row(i int, left *neon.R) {
	col := w.Int()
	w.Move(w.done, col)
	half := make([]neon.V, w.k.in)
	for j := range half {
		half[j] = w.Vector()
		w.unlessOutside(j, func() {
			w.Do("mov.16b", half[j], w.k.point(w.lines, w.column(col), i))
		}, func() { w.Zero(half[j]) })
		if j+1 < w.k.in {
			w.Do2("ADD", w.srcCol, col, col)
		}
	}
	at := w.Int()
	w.Do2("ADD", w.done, w.to, at)
	y := w.k.line(w.lines, half)
	for j, v := range y {
		w.put(v, place{at, 0, left})
		if j+1 < len(y) {
			w.Do2("ADD", w.dstCol, at, at)
		}
	}
}
