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
)

// column is a kernel on a Grid: which row operands it reads, how many vectors of
// column parameters and of sums it has, whether it writes Dst, and what it does
// to a row of one vector's width.
type column struct {
	name, doc    string
	y            bool
	params, sums int
	row          func(e exponential, x, y reg.VecVirtual, p, sum []reg.VecVirtual) reg.VecVirtual
}

// columns are the kernels that treat every column alike.
func (s isa) columns() {
	centred := func(x reg.VecVirtual, p []reg.VecVirtual) { VSUBPS(p[0], x, x) }
	affine := func(x reg.VecVirtual, p []reg.VecVirtual) {
		centred(x, p)
		VFMADD213PS(p[2], p[1], x)
	}
	for _, c := range []column{
		{
			name: "colSums", doc: "Sum[0] = the sum of X", sums: 1,
			row: func(_ exponential, x, _ reg.VecVirtual, _, sum []reg.VecVirtual) reg.VecVirtual {
				VADDPS(x, sum[0], sum[0])
				return nil
			},
		},
		{
			name: "colMoments", doc: "Sum[0] = the sum of X-A, Sum[1] = the sum of (X-A)^2", params: 1, sums: 2,
			row: func(_ exponential, x, _ reg.VecVirtual, p, sum []reg.VecVirtual) reg.VecVirtual {
				centred(x, p)
				VADDPS(x, sum[0], sum[0])
				VFMADD231PS(x, x, sum[1])
				return nil
			},
		},
		{
			name: "colGrads", doc: "Sum[0] = the sum of Y, Sum[1] = the sum of Y (X-A)", y: true, params: 1, sums: 2,
			row: func(_ exponential, x, y reg.VecVirtual, p, sum []reg.VecVirtual) reg.VecVirtual {
				VADDPS(y, sum[0], sum[0])
				centred(x, p)
				VFMADD231PS(x, y, sum[1])
				return nil
			},
		},
		{
			name: "colAffine", doc: "Dst = (X-A) B + C", params: 3,
			row: func(_ exponential, x, _ reg.VecVirtual, p, _ []reg.VecVirtual) reg.VecVirtual {
				affine(x, p)
				return x
			},
		},
		{
			name: "colAffineSiLU", doc: "Dst = silu((X-A) B + C)", params: 3,
			row: func(e exponential, x, _ reg.VecVirtual, p, _ []reg.VecVirtual) reg.VecVirtual {
				affine(x, p)
				g := e.sigmoid(x)
				VMULPS(g, x, x)
				return x
			},
		},
		{
			name: "colAffineSiLUGrad", doc: "Dst = Y silu'((X-A) B + C)", y: true, params: 3,
			row: func(e exponential, x, y reg.VecVirtual, p, _ []reg.VecVirtual) reg.VecVirtual {
				affine(x, p)
				g := e.siluSlope(x)
				VMULPS(y, g, g)
				return g
			},
		},
		{
			name: "colNormGrad", doc: "Dst = Y B - (X-A) C - D", y: true, params: 4,
			row: func(_ exponential, x, y reg.VecVirtual, p, _ []reg.VecVirtual) reg.VecVirtual {
				centred(x, p)
				VFNMSUB213PS(p[3], p[2], x)
				VFMADD231PS(y, p[1], x)
				return x
			},
		},
	} {
		s.column(c)
	}
}

// column writes one kernel: a vector of columns at a time, down all rows.
func (s isa) column(c column) {
	TEXT(c.name+s.name, NOSPLIT, "func(t *byte)")
	Doc(c.name + s.name + " is " + c.doc + ".")
	g := Load(Param("t"), GP64())
	var e exponential
	if c.name == "colAffineSiLU" || c.name == "colAffineSiLUGrad" {
		e = s.exponential()
	}
	cols, at := load(g, gridCols), GP64()
	XORQ(at, at)
	JMP(LabelRef("check"))
	Label("full")
	s.chunk(c, e, g, at, nil, "rows")
	ADDQ(Imm(uint64(s.bytes())), at)
	SUBQ(Imm(uint64(s.lanes)), cols)
	Label("check")
	CMPQ(cols, Imm(uint64(s.lanes)))
	JGE(LabelRef("full"))
	TESTQ(cols, cols)
	JZ(LabelRef("done"))
	s.chunk(c, e, g, at, s.masks(cols, 1)[0], "rowsMasked")
	Label("done")
	VZEROUPPER()
	RET()
}

// chunk does one vector of columns, which begins at bytes into the rows. Loads
// of rows may pass the end of the columns; parameters and results do not.
func (s isa) chunk(c column, e exponential, g reg.Register, at reg.GPVirtual, mask Op, label string) {
	field := func(off int) reg.GPVirtual {
		p := load(g, off)
		ADDQ(at, p)
		return p
	}
	params, sums := make([]reg.VecVirtual, c.params), make([]reg.VecVirtual, c.sums)
	for i := range params {
		params[i] = s.get(Mem{Base: field(gridA + 24*i)}, mask)
	}
	for i := range sums {
		sums[i] = s.vector()
		VXORPS(sums[i], sums[i], sums[i])
	}
	x, ld, rows := field(gridX), load(g, gridLD), load(g, gridRows)
	SHLQ(Imm(2), ld)
	var y, dst reg.GPVirtual
	if c.y {
		y = field(gridY)
	}
	if c.sums == 0 {
		dst = field(gridDst)
	}
	Label(label)
	vx := s.get(Mem{Base: x}, nil)
	var vy reg.VecVirtual
	ADDQ(ld, x)
	if c.y {
		vy = s.get(Mem{Base: y}, nil)
		ADDQ(ld, y)
	}
	if v := c.row(e, vx, vy, params, sums); v != nil {
		s.put(v, Mem{Base: dst}, mask)
		ADDQ(ld, dst)
	}
	DECQ(rows)
	JNZ(LabelRef(label))
	for i, v := range sums {
		s.put(v, Mem{Base: field(gridSum + 24*i)}, mask)
	}
}
