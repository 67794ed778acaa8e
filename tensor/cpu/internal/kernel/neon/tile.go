package main

import (
	"fmt"
	"unsafe"

	"github.com/agrdist/agrdist/internal/neon"
	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
)

// A tile is 6 rows of 4 vectors: 24 of the 32 registers are sums, and 24 multiply-adds
// need 4 vectors of B and 6 values of A.
const rows, vecs = 6, 4

var (
	tile  kernel.Tile
	tileT kernel.TileT
)

// sums are the registers of a tile, by row, all zero.
func (f fn) sums() [][]neon.V {
	acc := make([][]neon.V, rows)
	all := f.Fixed(0, rows*vecs)
	for i := range acc {
		acc[i] = all[i*vecs:][:vecs]
	}
	for _, v := range all {
		f.Zero(v)
	}
	return acc
}

// start is the address of row i of an operand: base plus the table's entry.
func (f fn) start(base, table neon.R, i int) neon.R {
	at := f.Read(table, uintptr(8*i))
	f.Do2("ADD", neon.Shifted{R: at, N: 2}, base, at)
	return at
}

// times4 makes a number of floats a number of bytes.
func (f fn) times4(r neon.R) neon.R {
	f.Do2("LSL", 2, r, r)
	return r
}

// nn is Tile: four values of each row of A are loaded at once, and every lane of them is
// multiplied with its row of B.
func nn() fn {
	f := begin("nn", "C = [C +] A B [+ Init] [+ Residual] on one tile", "t")
	t := f.Arg("t")
	acc := f.sums()
	a, b := f.Fixed(rows*vecs, rows), f.Fixed(rows*vecs+rows, 2)
	var p, q [rows]neon.R
	base, table := f.Read(t, unsafe.Offsetof(tile.A)), f.Read(t, unsafe.Offsetof(tile.ARow))
	for i := range p {
		p[i], q[i] = f.start(base, table, i), f.Int()
	}
	at, ldb := f.Read(t, unsafe.Offsetof(tile.B)), f.times4(f.Read(t, unsafe.Offsetof(tile.LDB)))
	tap, taps := f.Read(t, unsafe.Offsetof(tile.Tap)), f.Read(t, unsafe.Offsetof(tile.Tap)+8)
	k, depth := f.Int(), f.Read(t, unsafe.Offsetof(tile.K))
	update := func(lane int) {
		for j := vecs - 2; j >= 0; j -= 2 {
			if j > 0 {
				f.LoadPair(b[0], b[1], at, j*bytes)
			} else {
				f.LoadRun("1", b, at, ldb)
			}
			for i := range acc {
				f.Lane("fmla", acc[i][j], b[0], a[i], lane)
				f.Lane("fmla", acc[i][j+1], b[1], a[i], lane)
			}
		}
	}
	f.Label("tap")
	off := f.Read(tap, 0)
	f.Do2("ADD", 8, tap, tap)
	for i := range p {
		f.Do2("ADD", neon.Shifted{R: off, N: 2}, p[i], q[i])
	}
	f.Do2("SUBS", lanes, depth, k)
	f.Jump("BLT", "rest")
	f.Label("four")
	for i := range a {
		f.LoadNext(a[i], q[i], bytes)
	}
	for lane := range lanes {
		update(lane)
	}
	f.Do2("SUBS", lanes, k, k)
	f.Jump("BGE", "four")
	f.Label("rest")
	f.Do2("ADDS", lanes, k, k)
	f.Jump("BEQ", "next")
	f.Label("one")
	for i := range a {
		f.Load('s', a[i], q[i], 0)
		f.Do2("ADD", 4, q[i], q[i])
	}
	update(0)
	f.Do2("SUBS", 1, k, k)
	f.Jump("BNE", "one")
	f.Label("next")
	f.Do2("SUBS", 1, taps, taps)
	f.Jump("BNE", "tap")

	f.finish(t, acc)
	return f
}

// finish adds to the sums of nn what is to be added, and stores them.
func (f fn) finish(t neon.R, acc [][]neon.V) {
	c, crow := f.Read(t, unsafe.Offsetof(tile.C)), f.Read(t, unsafe.Offsetof(tile.CRow))
	first, irow := f.Read(t, unsafe.Offsetof(tile.Init)), f.Read(t, unsafe.Offsetof(tile.IRow))
	residual, fresh := f.Read(t, unsafe.Offsetof(tile.Residual)), f.Int()
	f.ReadTo(fresh, "MOVBU", t, unsafe.Offsetof(tile.Fresh))
	left, cols := f.Read(t, unsafe.Offsetof(tile.Rows)), f.Read(t, unsafe.Offsetof(tile.Cols))
	for i := range acc {
		f.unless("CBZ", first, func() { f.plus(acc[i], f.start(first, irow, i)) })
		f.unless("CBZ", residual, func() { f.plus(acc[i], f.start(residual, crow, i)) })
		to := f.start(c, crow, i)
		f.unless("CBNZ", fresh, func() { f.plus(acc[i], to) })
		f.save(acc[i], to, cols)
		if i+1 < rows {
			f.Do2("SUBS", 1, left, left)
			f.Jump("BEQ", "done")
		}
	}
	f.Label("done")
	f.End()
}

// unless runs body where a jump by a register is not taken.
func (f fn) unless(jump string, r neon.R, body func()) {
	label := f.Unique("skip")
	f.JumpZero(jump, r, label)
	body()
	f.Label(label)
}

// plus adds the row at from. It may read past the columns of the result, into the slack.
func (f fn) plus(acc []neon.V, from neon.R) {
	for j := 0; j < len(acc); j += 2 {
		x, y := f.Vector(), f.Vector()
		f.LoadPair(x, y, from, j*bytes)
		f.Do("fadd.4s", acc[j], acc[j], x)
		f.Do("fadd.4s", acc[j+1], acc[j+1], y)
	}
}

// save stores the first cols columns.
func (f fn) save(acc []neon.V, to, cols neon.R) {
	part, done := f.Unique("part"), f.Unique("saved")
	f.Do2("CMP", len(acc)*lanes, cols)
	f.Jump("BLT", part)
	for j := 0; j < len(acc); j += 2 {
		f.StorePair(acc[j], acc[j+1], to, j*bytes)
	}
	f.Jump("B", done)
	f.Label(part)
	left, at := f.Int(), f.Int()
	f.Move(cols, left)
	f.Move(to, at)
	for j, v := range acc {
		tail := fmt.Sprintf("%stail%d", part, j)
		f.Do2("SUBS", lanes, left, left)
		f.Jump("BLT", tail)
		f.Store('q', v, at, 0)
		f.Do2("ADD", bytes, at, at)
		f.Jump("BEQ", done) // the flags are still those of SUBS
		if j+1 < len(acc) {
			f.Jump("B", fmt.Sprintf("%snext%d", part, j))
		}
		f.Label(tail)
		f.StoreTail(v, at, left) // left - 4 has the lower bits of left
		f.Jump("B", done)
		if j+1 < len(acc) {
			f.Label(fmt.Sprintf("%snext%d", part, j))
		}
	}
	f.Label(done)
}

// tn is TileT: the six values of a row of A lie side by side.
func tn() fn {
	f := begin("tn", "C = [C +] A^T B on one tile", "t")
	t := f.Arg("t")
	acc := f.sums()
	a, b := f.Fixed(rows*vecs, 2), f.Fixed(rows*vecs+2, vecs)
	astep, bstep := f.times4(f.Read(t, unsafe.Offsetof(tileT.AStep))), f.times4(f.Read(t, unsafe.Offsetof(tileT.BStep)))
	baseA, baseB := f.Read(t, unsafe.Offsetof(tileT.A)), f.Read(t, unsafe.Offsetof(tileT.B))
	aseg, bseg := f.Read(t, unsafe.Offsetof(tileT.ASeg)), f.Read(t, unsafe.Offsetof(tileT.BSeg))
	segs, n, depth := f.Read(t, unsafe.Offsetof(tileT.ASeg)+8), f.Int(), f.Read(t, unsafe.Offsetof(tileT.P))
	f.Label("segment")
	pa, pb := f.start(baseA, aseg, 0), f.start(baseB, bseg, 0)
	f.Do2("ADD", 8, aseg, aseg)
	f.Do2("ADD", 8, bseg, bseg)
	update := func() {
		f.LoadRun("1", a, pa, astep)
		f.LoadRun("1", b, pb, bstep)
		for i := range acc {
			for j := range b {
				f.Lane("fmla", acc[i][j], b[j], a[i/lanes], i%lanes)
			}
		}
	}
	f.Do2("SUBS", lanes, depth, n)
	f.Jump("BLT", "rest")
	f.Label("four")
	for range lanes {
		update()
	}
	f.Do2("SUBS", lanes, n, n)
	f.Jump("BGE", "four")
	f.Label("rest")
	f.Do2("ADDS", lanes, n, n)
	f.Jump("BEQ", "next")
	f.Label("one")
	update()
	f.Do2("SUBS", 1, n, n)
	f.Jump("BNE", "one")
	f.Label("next")
	f.Do2("SUBS", 1, segs, segs)
	f.Jump("BNE", "segment")

	f.finishT(t, acc)
	return f
}

// finishT stores the sums of tn.
func (f fn) finishT(t neon.R, acc [][]neon.V) {
	c, ldc := f.Read(t, unsafe.Offsetof(tileT.C)), f.times4(f.Read(t, unsafe.Offsetof(tileT.LDC)))
	left, cols, fresh := f.Read(t, unsafe.Offsetof(tileT.Rows)), f.Read(t, unsafe.Offsetof(tileT.Cols)), f.Int()
	f.ReadTo(fresh, "MOVBU", t, unsafe.Offsetof(tileT.Fresh))
	for i := range acc {
		f.unless("CBNZ", fresh, func() { f.plus(acc[i], c) })
		f.save(acc[i], c, cols)
		if i+1 < rows {
			f.Do2("ADD", ldc, c, c)
			f.Do2("SUBS", 1, left, left)
			f.Jump("BEQ", "done")
		}
	}
	f.Label("done")
	f.End()
}
