package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of Tile and TileT in bytes; a Go test in the kernel
// package checks them against unsafe.Offsetof.
const (
	tileA, tileARow, tileTap, tileTaps = 0, 24, 48, 56
	tileB, tileC, tileCRow             = 72, 96, 120
	tileInit, tileIRow, tileResidual   = 144, 168, 192
	tileK, tileLDB, tileRows, tileCols = 216, 224, 232, 240
	tileFresh                          = 248

	tA, tASeg, tSegs, tB, tBSeg, tC = 0, 24, 32, 48, 72, 96
	tP, tAStep, tBStep, tLDC        = 120, 128, 136, 144
	tRows, tCols, tFresh            = 152, 160, 168
)

// unroll is how many rank-one updates one turn of the inner loop does: the
// counters of a turn take the place of multiplications.
const unroll = 4

// zeros are the sums of a tile.
func (s isa) zeros() [][]reg.VecVirtual {
	acc := make([][]reg.VecVirtual, s.rows)
	for i := range acc {
		for range s.vecs {
			v := s.vector()
			VXORPS(v, v, v)
			acc[i] = append(acc[i], v)
		}
	}
	return acc
}

// product adds one rank-one update to the tile: row(i) is the memory operand of
// row i's value of A, b where the row of B begins.
func (s isa) product(acc [][]reg.VecVirtual, row func(i int) Mem, b reg.Register) {
	bs := make([]reg.VecVirtual, s.vecs)
	for j := range bs {
		bs[j] = s.vector()
		VMOVUPS(Mem{Base: b, Disp: j * s.bytes()}, bs[j])
	}
	for i := range acc {
		x := s.vector()
		VBROADCASTSS(row(i), x)
		for j := range bs {
			s.multiplyAdd(bs[j], x, acc[i][j])
		}
	}
}

// start is the address of row i of an operand: base plus the table's entry.
func start(base, table reg.Register, i int) reg.GPVirtual {
	at := load(table, 8*i)
	LEAQ(Mem{Base: base, Index: at, Scale: 4}, at)
	return at
}

// plus adds the row at from to sums, under the masks.
func (s isa) plus(acc []reg.VecVirtual, from reg.Register, m []Op) {
	for j, v := range acc {
		at := Mem{Base: from, Disp: j * s.bytes()}
		if s.wide {
			VADDPS(at, v, m[j], v)
			continue
		}
		old := s.vector()
		VMASKMOVPS(at, m[j], old)
		VADDPS(old, v, v)
	}
}

// save stores sums, under the masks.
func (s isa) save(acc []reg.VecVirtual, c reg.Register, m []Op) {
	for j, v := range acc {
		s.put(v, Mem{Base: c, Disp: j * s.bytes()}, m[j])
	}
}

// turns runs update n times, unroll of them in a turn: u counts within the turn,
// and next moves on by some updates.
func turns(label string, n reg.GPVirtual, update func(u int), next func(updates int)) {
	SUBQ(Imm(unroll), n)
	JLT(LabelRef(label + "_rest"))
	Label(label + "_turn")
	for u := range unroll {
		update(u)
	}
	next(unroll)
	SUBQ(Imm(unroll), n)
	JGE(LabelRef(label + "_turn"))
	Label(label + "_rest")
	ADDQ(Imm(unroll), n)
	JZ(LabelRef(label + "_done"))
	Label(label + "_one")
	update(0)
	next(1)
	DECQ(n)
	JNZ(LabelRef(label + "_one"))
	Label(label + "_done")
}

// nn is Tile: every row of A has a pointer, one index runs through all of them.
func (s isa) nn() {
	TEXT("nn"+s.name, NOSPLIT, "func(t *byte)")
	Doc("nn" + s.name + " is C = [C +] A B [+ Init] [+ Residual] on one tile.")
	t := Load(Param("t"), GP64())
	p := make([]reg.GPVirtual, s.rows)
	base, table := load(t, tileA), load(t, tileARow)
	for i := range p {
		p[i] = start(base, table, i)
	}
	acc := s.zeros()
	b, ldb := load(t, tileB), load(t, tileLDB)
	SHLQ(Imm(2), ldb)
	tap, left := load(t, tileTap), AllocLocal(8)
	taps, k, at := load(t, tileTaps), GP64(), GP64()
	MOVQ(taps, left)
	Label("tap")
	MOVQ(Mem{Base: tap}, at)
	SHLQ(Imm(2), at)
	ADDQ(Imm(8), tap)
	MOVQ(Mem{Base: t, Disp: tileK}, k)
	turns("k", k, func(u int) {
		s.product(acc, func(i int) Mem { return Mem{Base: p[i], Index: at, Scale: 1, Disp: 4 * u} }, b)
		ADDQ(ldb, b)
	}, func(updates int) { ADDQ(Imm(uint64(4*updates)), at) })
	DECQ(left)
	JNZ(LabelRef("tap"))

	m := s.masks(load(t, tileCols), s.vecs)
	c, crow := load(t, tileC), load(t, tileCRow)
	first, irow := load(t, tileInit), load(t, tileIRow)
	residual, fresh := load(t, tileResidual), loadBool(t, tileFresh)
	rows := load(t, tileRows)
	for i := range acc {
		when(fmt.Sprintf("init%d", i), first, func() { s.plus(acc[i], start(first, irow, i), m) })
		when(fmt.Sprintf("residual%d", i), residual, func() { s.plus(acc[i], start(residual, crow, i), m) })
		to := start(c, crow, i)
		unless(fmt.Sprintf("old%d", i), fresh, func() { s.plus(acc[i], to, m) })
		s.save(acc[i], to, m)
		if i+1 < len(acc) {
			DECQ(rows)
			JZ(LabelRef("done"))
		}
	}
	Label("done")
	VZEROUPPER()
	RET()
}

// when runs f where a register is not zero.
func when(label string, r reg.Register, f func()) {
	TESTQ(r, r)
	JZ(LabelRef(label))
	f()
	Label(label)
}

// unless runs f where a register is zero.
func unless(label string, r reg.Register, f func()) {
	TESTQ(r, r)
	JNZ(LabelRef(label))
	f()
	Label(label)
}

// fetch fetches C.
func (s isa) fetch(t reg.Register) {
	c, ldc := load(t, tC), load(t, tLDC)
	SHLQ(Imm(2), ldc)
	for i := range s.rows {
		for j := 0; j < s.vecs*s.bytes(); j += cacheLine {
			PREFETCHT0(Mem{Base: c, Disp: j})
		}
		if i+1 < s.rows {
			ADDQ(ldc, c)
		}
	}
}

// tn is TileT: the values of a row of A lie side by side.
func (s isa) tn() {
	TEXT("tn"+s.name, NOSPLIT, "func(t *byte)")
	Doc("tn" + s.name + " is C = [C +] A^T B on one tile.")
	t := Load(Param("t"), GP64())
	acc := s.zeros()
	astep, bstep := load(t, tAStep), load(t, tBStep)
	SHLQ(Imm(2), astep)
	SHLQ(Imm(2), bstep)
	a, b := load(t, tA), load(t, tB)
	s.fetch(t)
	aseg, bseg, segs := load(t, tASeg), load(t, tBSeg), load(t, tSegs)
	n := GP64()
	Label("segment")
	pa, pb := start(a, aseg, 0), start(b, bseg, 0)
	ADDQ(Imm(8), aseg)
	ADDQ(Imm(8), bseg)
	MOVQ(Mem{Base: t, Disp: tP}, n)
	turns("p", n, func(int) {
		s.product(acc, func(i int) Mem { return Mem{Base: pa, Disp: 4 * i} }, pb)
		ADDQ(astep, pa)
		ADDQ(bstep, pb)
	}, func(int) {})
	DECQ(segs)
	JNZ(LabelRef("segment"))

	m := s.masks(load(t, tCols), s.vecs)
	c, ldc, rows, fresh := load(t, tC), load(t, tLDC), load(t, tRows), loadBool(t, tFresh)
	SHLQ(Imm(2), ldc)
	for i := range acc {
		unless(fmt.Sprintf("old%d", i), fresh, func() { s.plus(acc[i], c, m) })
		s.save(acc[i], c, m)
		if i+1 < len(acc) {
			ADDQ(ldc, c)
			DECQ(rows)
			JZ(LabelRef("done"))
		}
	}
	Label("done")
	VZEROUPPER()
	RET()
}
