package main

import (
	"unsafe"

	"github.com/agrdist/agrdist/internal/neon"
	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
)

var rowsT kernel.Rows

// along is a row under way: where it begins in X, Y and Dst.
type along struct {
	fn
	t, x, y, dst, cols neon.R
	off                neon.R // in bytes of Top and Sum
	scale              neon.V
	e                  exponential
}

// copies are fresh registers with the values of others, for a walk to use up.
func (a along) copies(r ...neon.R) []neon.R {
	all := make([]neon.R, len(r))
	for i := range r {
		all[i] = a.Int()
		a.Move(r[i], all[i])
	}
	return all
}

// at is where the row's element of the field begins.
func (a along) at(field uintptr) neon.R {
	r := a.Read(a.t, field)
	a.Do2("ADD", a.off, r, r)
	return r
}

// inverse folds a sum, stores it and returns 1/sum in every lane.
func (a along) inverse(acc []neon.V) neon.V {
	sum := a.fold(acc)
	a.Store('s', sum, a.at(unsafe.Offsetof(rowsT.Sum)), 0)
	return a.New("fdiv.4s", a.e.one, sum)
}

// exponents writes exp(scale X - top) to Dst, and returns the lanes of its sum.
func (a along) exponents(top neon.V) []neon.V {
	r := a.copies(a.x, a.dst, a.cols)
	return a.expSum(r[0], r[1], r[2], a.scale, top, a.e)
}

// softmax are the kernels on Rows.
func softmax() []fn {
	return []fn{
		rowwise("softmaxRows", "Dst = softmax(Scale X), Top and Sum what each row's exponents are less and their sum", func(a along) {
			r := a.copies(a.x, a.cols)
			top := a.maximum(r[0], r[1], a.scale)
			a.Store('s', top, a.at(unsafe.Offsetof(rowsT.Top)), 0)
			inverse := a.inverse(a.exponents(top))
			r = a.copies(a.dst, a.cols)
			a.walk(r[:1], r[1], 4, func(at []place, _ int) { a.put(a.New("fmul.4s", a.get(at[0]), inverse), at[0]) })
		}),
		rowwise("softmaxGradRows", "Dst = softmax(Scale X) for exponents less Top, and Y = Scale Dst (Y - the sum of Y Dst)", func(a along) {
			top := a.Vector()
			a.Every("4s", top, a.at(unsafe.Offsetof(rowsT.Top)))
			inverse := a.inverse(a.exponents(top))
			acc, r := a.pair(), a.copies(a.dst, a.y, a.cols)
			a.walk(r[:2], r[2], 2, func(at []place, lane int) {
				p := a.New("fmul.4s", a.get(at[0]), inverse)
				a.put(p, at[0])
				a.Do("fmla.4s", acc[lane], p, a.get(at[1]))
			})
			dot := a.fold(acc)
			r = a.copies(a.dst, a.y, a.cols)
			a.walk(r[:2], r[2], 2, func(at []place, _ int) {
				p, g := a.get(at[0]), a.get(at[1])
				a.Do("fsub.4s", g, g, dot)
				a.Do("fmul.4s", p, p, a.scale)
				a.put(a.New("fmul.4s", g, p), at[1])
			})
		}),
	}
}

// rowwise writes a kernel that does row for each row of a Rows.
func rowwise(name, doc string, row func(a along)) fn {
	f := begin(name, doc, "t")
	t := f.Arg("t")
	a := along{
		fn: f, t: t, x: f.Read(t, unsafe.Offsetof(rowsT.X)), y: f.Read(t, unsafe.Offsetof(rowsT.Y)),
		dst: f.Read(t, unsafe.Offsetof(rowsT.Dst)), cols: f.Read(t, unsafe.Offsetof(rowsT.Cols)), off: f.Int(),
		scale: f.Field(t, unsafe.Offsetof(rowsT.Scale)), e: f.exponential(1),
	}
	left, ld := f.Read(t, unsafe.Offsetof(rowsT.Rows)), f.times4(f.Read(t, unsafe.Offsetof(rowsT.LD)))
	f.Set(0, a.off)
	f.Label("row")
	row(a)
	for _, p := range []neon.R{a.x, a.y, a.dst} {
		f.Do2("ADD", ld, p, p)
	}
	f.Do2("ADD", 4, a.off, a.off)
	f.Do2("SUBS", 1, left, left)
	f.Jump("BNE", "row")
	f.End()
	return f
}
