package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of Grid in bytes.
const (
	gridX, gridY, gridDst      = 0, 24, 48
	gridA                      = 72 // A, B, C, D: 24 bytes each
	gridSum                    = 168
	gridRows, gridCols, gridLD = 216, 224, 232
	gridBits, gridKeep         = 240, 264
)

// farRows is the logarithm of how many rows ahead the kernels with sums, the first
// to look at their operands, fetch from memory.
const farRows, cacheLine = 4, 64

// column is a kernel on a Grid: which row operands it reads, how many vectors of
// column parameters and of sums it has, whether it writes Dst, and what it does
// to a row of one vector's width.
type column struct {
	name, doc string
	y, dst    bool
	silu      bool // uses exp(-x)
	drop      bool // times the mask
	params    int
	sums      int
	wide, few int // vectors of columns at a time, of AVX-512 and AVX2
	row       func(v columnVector) reg.VecVirtual
}

// columnVector is what a row function works on: x and y are its own, p and sum
// the columns'. drop multiplies with the mask where the kernel has one.
type columnVector struct {
	e      exponential
	x, y   reg.VecVirtual
	p, sum []reg.VecVirtual
	drop   func(v reg.VecVirtual)
}

// centre is x = x - A.
func (v columnVector) centre() { VSUBPS(v.p[0], v.x, v.x) }

// affine is (x-A) B + C for x-A.
func (v columnVector) affine(to reg.VecVirtual) { VFMADD213PS(v.p[2], v.p[1], to) }

// columns are the kernels that treat every column alike.
func (s isa) columns() {
	silu := column{
		name: "colAffineSiLU", doc: "Dst = silu((X-A) B + C)", dst: true, params: 3, silu: true, wide: 4, few: 1,
		row: func(v columnVector) reg.VecVirtual {
			v.centre()
			v.affine(v.x)
			v.e.silu(v.x)
			v.drop(v.x)
			return v.x
		},
	}
	grad := column{
		name: "colAffineSiLUGrad", doc: "Dst = Y silu'((X-A) B + C), Sum[0] = the sum of Dst, Sum[1] = the sum of Dst (X-A)",
		y: true, dst: true, params: 3, sums: 2, silu: true, wide: 2, few: 1,
		row: func(v columnVector) reg.VecVirtual {
			v.centre()
			u := v.e.vector()
			VMOVAPS(v.x, u)
			v.affine(u)
			g := v.e.siluSlope(u)
			v.drop(v.y)
			VMULPS(v.y, g, g)
			VADDPS(g, v.sum[0], v.sum[0])
			VFMADD231PS(v.x, g, v.sum[1])
			return g
		},
	}
	for _, c := range []column{
		{
			name: "colSums", doc: "Sum[0] = the sum of X", sums: 1, wide: 4, few: 4,
			row: func(v columnVector) reg.VecVirtual {
				VADDPS(v.x, v.sum[0], v.sum[0])
				return nil
			},
		},
		{
			name: "colMoments", doc: "Sum[0] = the sum of X-A, Sum[1] = the sum of (X-A)^2", params: 1, sums: 2, wide: 4, few: 4,
			row: func(v columnVector) reg.VecVirtual {
				v.centre()
				VADDPS(v.x, v.sum[0], v.sum[0])
				VFMADD231PS(v.x, v.x, v.sum[1])
				return nil
			},
		},
		{
			name: "colGrads", doc: "Sum[0] = the sum of Y, Sum[1] = the sum of Y (X-A)", y: true, params: 1, sums: 2, wide: 4, few: 4,
			row: func(v columnVector) reg.VecVirtual {
				VADDPS(v.y, v.sum[0], v.sum[0])
				v.centre()
				VFMADD231PS(v.x, v.y, v.sum[1])
				return nil
			},
		},
		{
			name: "colAffine", doc: "Dst = (X-A) B + C", dst: true, params: 3, wide: 4, few: 4,
			row: func(v columnVector) reg.VecVirtual {
				v.centre()
				v.affine(v.x)
				return v.x
			},
		},
		{
			name: "colNormGrad", doc: "Dst = Y B - (X-A) C - D", y: true, dst: true, params: 4, wide: 4, few: 2,
			row: func(v columnVector) reg.VecVirtual {
				v.centre()
				VFNMSUB213PS(v.p[3], v.p[2], v.x)
				VFMADD231PS(v.y, v.p[1], v.x)
				return v.x
			},
		},
		silu, silu.dropped(), grad, grad.dropped(),
	} {
		s.column(c)
	}
}

// dropped is the kernel with dropout behind it.
func (c column) dropped() column {
	c.name += "Drop"
	c.doc += ", under the mask"
	c.drop = true
	return c
}

// column writes one kernel: some vectors of columns at a time, down all rows.
func (s isa) column(c column) {
	TEXT(c.name+s.name, NOSPLIT, "func(t *byte)")
	Doc(c.name + s.name + " is " + c.doc + ".")
	g := Load(Param("t"), GP64())
	var e exponential
	if c.silu {
		e = s.exponential(-1)
	}
	cols, at := load(g, gridCols), GP64()
	XORQ(at, at)
	vecs := c.few
	if s.wide {
		vecs = c.wide
	}
	for n := vecs; n > 0; n /= 2 {
		label := string(rune('0' + n))
		JMP(LabelRef("check" + label))
		Label("full" + label)
		s.chunk(c, e, g, at, n, nil, "rows"+label)
		ADDQ(U32(uint32(n*s.bytes())), at)
		SUBQ(Imm(uint64(n*s.lanes)), cols)
		Label("check" + label)
		CMPQ(cols, Imm(uint64(n*s.lanes)))
		JGE(LabelRef("full" + label))
	}
	TESTQ(cols, cols)
	JZ(LabelRef("done"))
	s.chunk(c, e, g, at, 1, s.masks(cols, 1)[0], "rowsMasked")
	Label("done")
	VZEROUPPER()
	RET()
}

// chunk does n vectors of columns, which begin at bytes into the rows. Loads of
// rows may pass the end of the columns; parameters and results do not.
func (s isa) chunk(c column, e exponential, g reg.Register, at reg.GPVirtual, n int, mask Op, label string) {
	field := func(off int) reg.GPVirtual {
		p := load(g, off)
		ADDQ(at, p)
		return p
	}
	params, sums := make([][]reg.VecVirtual, n), make([][]reg.VecVirtual, n)
	for i := range c.params {
		p := field(gridA + 24*i)
		for j := range n {
			params[j] = append(params[j], s.get(Mem{Base: p, Disp: j * s.bytes()}, mask))
		}
	}
	for range c.sums {
		for j := range n {
			v := s.vector()
			VXORPS(v, v, v)
			sums[j] = append(sums[j], v)
		}
	}
	x, ld, rows := field(gridX), load(g, gridLD), load(g, gridRows)
	SHLQ(Imm(2), ld)
	var y, dst reg.GPVirtual
	if c.y {
		y = field(gridY)
	}
	if c.dst {
		dst = field(gridDst)
	}
	drop, next := s.bitMask(c, g, at)
	far := GP64() // bytes to the row that is fetched now
	MOVQ(ld, far)
	SHLQ(Imm(farRows), far)
	Label(label)
	for j := range n {
		// Rows of a part of the channels are no run of memory that the processor
		// sees by itself. Kernels without sums find their operands in the cache.
		if c.sums > 0 && j*s.bytes()%cacheLine == 0 {
			for _, p := range []reg.GPVirtual{x, y, dst} {
				if p != nil {
					PREFETCHT0(Mem{Base: p, Index: far, Scale: 1, Disp: j * s.bytes()})
				}
			}
		}
		v := columnVector{e: e, x: s.get(Mem{Base: x, Disp: j * s.bytes()}, nil), p: params[j], sum: sums[j]}
		v.drop = func(v reg.VecVirtual) { drop(v, j) }
		if c.y {
			v.y = s.get(Mem{Base: y, Disp: j * s.bytes()}, nil)
		}
		if r := c.row(v); r != nil {
			s.put(r, Mem{Base: dst, Disp: j * s.bytes()}, mask)
		}
	}
	for _, p := range []reg.GPVirtual{x, y, dst} {
		if p != nil {
			ADDQ(ld, p)
		}
	}
	next()
	DECQ(rows)
	JNZ(LabelRef(label))
	for i := range c.sums {
		p := field(gridSum + 24*i)
		for j := range n {
			s.put(sums[j][i], Mem{Base: p, Disp: j * s.bytes()}, mask)
		}
	}
}

// bitMask returns what multiplies vector j of the row with its mask, and what goes
// on to the next row, whose bits follow at once.
func (s isa) bitMask(c column, g reg.Register, at reg.GPVirtual) (drop func(v reg.VecVirtual, j int), next func()) {
	if !c.drop {
		return func(reg.VecVirtual, int) {}, func() {}
	}
	bits, step, keep := load(g, gridBits), load(g, gridCols), s.vector()
	SHRQ(Imm(3), step)
	off := GP64()
	MOVQ(at, off)
	SHRQ(Imm(5), off) // 4 bytes an element become a bit
	ADDQ(off, bits)
	VBROADCASTSS(Mem{Base: g, Disp: gridKeep}, keep)
	lane := s.vector()
	if !s.wide { // bit l in lane l
		VMOVUPS(bitTable, lane)
	}
	return func(v reg.VecVirtual, j int) {
		from, f := Mem{Base: bits, Disp: j * s.lanes / 8}, s.vector()
		if s.wide {
			k := K()
			KMOVW(from, k)
			VMOVUPS_Z(keep, k, f)
		} else {
			VPBROADCASTB(from, f)
			VPAND(lane, f, f)
			VPCMPEQD(lane, f, f)
			VANDPS(keep, f, f)
		}
		VMULPS(f, v, v)
	}, func() { ADDQ(step, bits) }
}
