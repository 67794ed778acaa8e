package main

import (
	"fmt"
	"unsafe"

	"github.com/agrdist/agrdist/internal/neon"
	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
)

var grid kernel.Grid

// column is a kernel on a Grid: which row operands it reads, how many vectors of column
// parameters and of sums it has, whether it writes Dst, and what it does to a row of one
// vector's width.
type column struct {
	name, doc string
	y, dst    bool
	silu      bool // uses exp(-x)
	drop      bool // times the mask
	params    int
	sums      int
	wide      int // vectors of columns at a time
	row       func(v columnVector) neon.V
}

// columnVector is what a row function works on: x and y are its own, p and sum the
// columns'. drop multiplies with the mask where the kernel has one.
type columnVector struct {
	fn
	e      exponential
	x, y   neon.V
	p, sum []neon.V
	drop   func(v neon.V)
}

// centre is x = x - A.
func (v columnVector) centre() { v.Do("fsub.4s", v.x, v.x, v.p[0]) }

// affine is (x-A) B + C for x-A.
func (v columnVector) affine() neon.V { return v.madd(v.x, v.p[1], v.p[2]) }

// add adds y to the first sum.
func (v columnVector) add(y neon.V) { v.Do("fadd.4s", v.sum[0], v.sum[0], y) }

// columns are the kernels that treat every column alike.
func columns() []fn {
	silu := column{
		name: "colAffineSiLU", doc: "Dst = silu((X-A) B + C)", dst: true, params: 3, silu: true, wide: 2,
		row: func(v columnVector) neon.V {
			v.centre()
			y := v.e.silu(v.affine())
			v.drop(y)
			return y
		},
	}
	grad := column{
		name: "colAffineSiLUGrad", doc: "Dst = Y silu'((X-A) B + C), Sum[0] = the sum of Dst, Sum[1] = the sum of Dst (X-A)",
		y: true, dst: true, params: 3, sums: 2, silu: true, wide: 2,
		row: func(v columnVector) neon.V {
			v.centre()
			g := v.e.siluSlope(v.affine())
			v.drop(v.y)
			v.Do("fmul.4s", g, g, v.y)
			v.add(g)
			v.Do("fmla.4s", v.sum[1], g, v.x)
			return g
		},
	}
	var all []fn
	for _, c := range []column{
		{
			name: "colSums", doc: "Sum[0] = the sum of X", sums: 1, wide: 4,
			row: func(v columnVector) neon.V {
				v.add(v.x)
				return v.x
			},
		},
		{
			name: "colMoments", doc: "Sum[0] = the sum of X-A, Sum[1] = the sum of (X-A)^2", params: 1, sums: 2, wide: 4,
			row: func(v columnVector) neon.V {
				v.centre()
				v.add(v.x)
				v.Do("fmla.4s", v.sum[1], v.x, v.x)
				return v.x
			},
		},
		{
			name: "colGrads", doc: "Sum[0] = the sum of Y, Sum[1] = the sum of Y (X-A)", y: true, params: 1, sums: 2, wide: 4,
			row: func(v columnVector) neon.V {
				v.add(v.y)
				v.centre()
				v.Do("fmla.4s", v.sum[1], v.y, v.x)
				return v.x
			},
		},
		{
			name: "colAffine", doc: "Dst = (X-A) B + C", dst: true, params: 3, wide: 4,
			row: func(v columnVector) neon.V {
				v.centre()
				return v.affine()
			},
		},
		{
			name: "colNormGrad", doc: "Dst = Y B - (X-A) C - D", y: true, dst: true, params: 4, wide: 2,
			row: func(v columnVector) neon.V { // Y B - ((X-A) C + D), each product fused
				v.centre()
				u := v.New("fneg.4s", v.madd(v.x, v.p[2], v.p[3]))
				v.Do("fmla.4s", u, v.y, v.p[1])
				return u
			},
		},
		silu, silu.dropped(), grad, grad.dropped(),
	} {
		all = append(all, c.write())
	}
	return all
}

// dropped is the kernel with dropout behind it.
func (c column) dropped() column {
	c.name += "Drop"
	c.doc += ", under the mask"
	c.drop = true
	return c
}

// write writes one kernel: some vectors of columns at a time, down all rows.
func (c column) write() fn {
	f := begin(c.name, c.doc, "t")
	g := f.Arg("t")
	var e exponential
	if c.silu {
		e = f.sigmoid()
	}
	cols, at := f.Read(g, unsafe.Offsetof(grid.Cols)), f.Int()
	f.Set(0, at)
	for n := c.wide; n > 0; n /= 2 {
		check, full := fmt.Sprintf("check%d", n), fmt.Sprintf("full%d", n)
		f.Jump("B", check)
		f.Label(full)
		c.chunk(f, e, g, at, n, nil)
		f.Do2("ADD", n*bytes, at, at)
		f.Do2("SUB", n*lanes, cols, cols)
		f.Label(check)
		f.Do2("CMP", n*lanes, cols)
		f.Jump("BGE", full)
		if c.drop { // their columns are a multiple of 16
			f.End()
			return f
		}
	}
	f.JumpZero("CBZ", cols, "done")
	c.chunk(f, e, g, at, 1, &cols)
	f.Label("done")
	f.End()
	return f
}

// chunk does n vectors of columns, which begin at bytes into the rows. Loads of rows may
// pass the end of the columns; parameters and results do not.
func (c column) chunk(f fn, e exponential, g, at neon.R, n int, left *neon.R) {
	field := func(off uintptr) neon.R {
		p := f.Read(g, off)
		f.Do2("ADD", at, p, p)
		return p
	}
	params, sums := make([][]neon.V, n), make([][]neon.V, n)
	for i := range c.params {
		p := field(unsafe.Offsetof(grid.A) + uintptr(i)*unsafe.Sizeof(grid.A))
		for j := range n {
			params[j] = append(params[j], f.get(place{p, j * bytes, left}))
		}
	}
	for range c.sums {
		for j := range n {
			v := f.Vector()
			f.Zero(v)
			sums[j] = append(sums[j], v)
		}
	}
	x, ld, left2 := field(unsafe.Offsetof(grid.X)), f.times4(f.Read(g, unsafe.Offsetof(grid.LD))), f.Read(g, unsafe.Offsetof(grid.Rows))
	walked := []neon.R{x}
	var y, dst neon.R
	if c.y {
		y = field(unsafe.Offsetof(grid.Y))
		walked = append(walked, y)
	}
	if c.dst {
		dst = field(unsafe.Offsetof(grid.Dst))
		walked = append(walked, dst)
	}
	drop, next := c.mask(f, g, at)
	label := f.Unique("rows")
	f.Label(label)
	for j := range n {
		v := columnVector{fn: f, e: e, x: f.get(place{base: x, off: j * bytes}), p: params[j], sum: sums[j]}
		v.drop = func(v neon.V) { drop(v, j) }
		if c.y {
			v.y = f.get(place{base: y, off: j * bytes})
		}
		if r := c.row(v); c.dst {
			f.put(r, place{dst, j * bytes, left})
		}
	}
	for _, p := range walked {
		f.Do2("ADD", ld, p, p)
	}
	next()
	f.Do2("SUBS", 1, left2, left2)
	f.Jump("BNE", label)
	for i := range c.sums {
		p := field(unsafe.Offsetof(grid.Sum) + uintptr(i)*unsafe.Sizeof(grid.A))
		for j := range n {
			f.put(sums[j][i], place{p, j * bytes, left})
		}
	}
}

// mask returns what multiplies vector j of two with its mask, and what goes on to the next
// row, whose bits follow at once.
func (c column) mask(f fn, g, at neon.R) (drop func(v neon.V, j int), next func()) {
	if !c.drop {
		return func(neon.V, int) {}, func() {}
	}
	bits, step, keep := f.Read(g, unsafe.Offsetof(grid.Bits)), f.Read(g, unsafe.Offsetof(grid.Cols)), f.Field(g, unsafe.Offsetof(grid.Keep))
	f.Do2("LSR", 3, step, step)
	off := f.Int()
	f.Do2("LSR", 5, at, off) // 4 bytes an element become a bit
	f.Do2("ADD", off, bits, bits)
	table := f.Address("nibbles")
	return func(v neon.V, j int) {
		kept, lane := f.Vector(), f.Vector()
		f.Load('q', lane, table, j*bytes)
		f.Every("16b", kept, bits)
		f.Do("cmtst.4s", kept, kept, lane)
		f.Do("and.16b", kept, kept, keep)
		f.Do("fmul.4s", v, v, kept)
	}, func() { f.Do2("ADD", step, bits, bits) }
}
