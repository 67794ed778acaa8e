package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of Tile and TileT in bytes; a Go test in the kernel
// package holds them against unsafe.Offsetof.
const (
	tileA, tileARow, tileTap, tileTaps = 0, 24, 48, 56
	tileB, tileC, tileCRow             = 72, 96, 120
	tileK, tileLDB, tileRows, tileCols = 144, 152, 160, 168

	tA, tASeg, tSegs, tB, tBSeg, tC = 0, 24, 32, 48, 72, 96
	tP, tAStep, tBStep, tLDC        = 120, 128, 136, 144
	tRows, tCols                    = 152, 160
)

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
			VFMADD231PS(bs[j], x, acc[i][j])
		}
	}
}

// add adds the sums of row i to the row of C at c, under the masks.
func (s isa) add(acc []reg.VecVirtual, c reg.Register, m []Op) {
	for j, v := range acc {
		at := Mem{Base: c, Disp: j * s.bytes()}
		if s.wide {
			VADDPS(at, v, m[j], v)
			VMOVUPS(v, m[j], at)
			continue
		}
		old := s.vector()
		VMASKMOVPS(at, m[j], old)
		VADDPS(old, v, v)
		VMASKMOVPS(v, m[j], at)
	}
}

// nn is Tile: every row of A has a pointer, one index runs through all of them.
func (s isa) nn() {
	TEXT("nn"+s.name, NOSPLIT, "func(t *byte)")
	Doc("nn" + s.name + " is C += A B on one tile.")
	t := Load(Param("t"), GP64())
	p := make([]reg.GPVirtual, s.rows)
	base, table := load(t, tileA), load(t, tileARow)
	for i := range p {
		p[i] = GP64()
		MOVQ(Mem{Base: table, Disp: 8 * i}, p[i])
		LEAQ(Mem{Base: base, Index: p[i], Scale: 4}, p[i])
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
	Label("k")
	s.product(acc, func(i int) Mem { return Mem{Base: p[i], Index: at, Scale: 1} }, b)
	ADDQ(ldb, b)
	ADDQ(Imm(4), at)
	DECQ(k)
	JNZ(LabelRef("k"))
	DECQ(left)
	JNZ(LabelRef("tap"))

	m := s.masks(load(t, tileCols), s.vecs)
	base, table = load(t, tileC), load(t, tileCRow)
	rows := load(t, tileRows)
	for i := range acc {
		c := load(table, 8*i)
		LEAQ(Mem{Base: base, Index: c, Scale: 4}, c)
		s.add(acc[i], c, m)
		if i+1 < len(acc) {
			DECQ(rows)
			JZ(LabelRef("done"))
		}
	}
	Label("done")
	VZEROUPPER()
	RET()
}

// tn is TileT: the values of a row of A lie side by side.
func (s isa) tn() {
	TEXT("tn"+s.name, NOSPLIT, "func(t *byte)")
	Doc("tn" + s.name + " is C += A^T B on one tile.")
	t := Load(Param("t"), GP64())
	acc := s.zeros()
	astep, bstep := load(t, tAStep), load(t, tBStep)
	SHLQ(Imm(2), astep)
	SHLQ(Imm(2), bstep)
	a, b := load(t, tA), load(t, tB)
	aseg, bseg, segs := load(t, tASeg), load(t, tBSeg), load(t, tSegs)
	pa, pb, n := GP64(), GP64(), GP64()
	Label("segment")
	MOVQ(Mem{Base: aseg}, pa)
	LEAQ(Mem{Base: a, Index: pa, Scale: 4}, pa)
	MOVQ(Mem{Base: bseg}, pb)
	LEAQ(Mem{Base: b, Index: pb, Scale: 4}, pb)
	ADDQ(Imm(8), aseg)
	ADDQ(Imm(8), bseg)
	MOVQ(Mem{Base: t, Disp: tP}, n)
	Label("p")
	s.product(acc, func(i int) Mem { return Mem{Base: pa, Disp: 4 * i} }, pb)
	ADDQ(astep, pa)
	ADDQ(bstep, pb)
	DECQ(n)
	JNZ(LabelRef("p"))
	DECQ(segs)
	JNZ(LabelRef("segment"))

	m := s.masks(load(t, tCols), s.vecs)
	c, ldc, rows := load(t, tC), load(t, tLDC), load(t, tRows)
	SHLQ(Imm(2), ldc)
	for i := range acc {
		s.add(acc[i], c, m)
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
