package main

import (
	"unsafe"

	"github.com/agrdist/agrdist/internal/neon"
)

// The tiles of pairs are those of float32, 6 rows of 16 columns, but a register has the sums
// of two rows and two columns: BFMMLA adds to them the products of four values of each row
// with four of each column. So B lies in quads: of two rows of pairs, the two pairs of a
// column side by side, and those of two columns in a register.

// grid are the sums by pairs of rows and of columns, all zero.
func (f fn) grid() [][]neon.V {
	acc := make([][]neon.V, rows/2)
	for i := range acc {
		acc[i] = make([]neon.V, 2*vecs)
		for j := range acc[i] {
			acc[i][j] = f.Vector()
			f.Zero(acc[i][j])
		}
	}
	return acc
}

// byRows are the sums of a grid by row.
func (f fn) byRows(acc [][]neon.V) (out [][]neon.V) {
	for _, two := range acc {
		var upper, lower []neon.V
		for j := 0; j < len(two); j += 2 {
			upper = append(upper, f.New("zip1.2d", two[j], two[j+1]))
			lower = append(lower, f.New("zip2.2d", two[j], two[j+1]))
		}
		out = append(out, upper, lower)
	}
	return out
}

// multiply adds to a grid the products of pairs of rows with the quads at b + off.
func (f fn) multiply(acc [][]neon.V, a []neon.V, b neon.R, off int) {
	for j := 0; j < 2*vecs; j += 2 {
		x, y := f.Vector(), f.Vector()
		f.LoadPair(x, y, b, off+j*bytes)
		for i := range acc {
			f.Do("bfmmla.4s", acc[i][j], a[i], x)
			f.Do("bfmmla.4s", acc[i][j+1], a[i], y)
		}
	}
}

// quadBytes are two rows of pairs of B.
const quadBytes = 2 * vecs * bytes

// nnBF16 is Tile of pairs.
func nnBF16() fn {
	f := begin("nnBF16", "C = [C +] A B [+ Init] [+ Residual] on one tile of pairs", "t")
	t := f.Arg("t")
	acc := f.grid()
	var p, q [rows]neon.R
	base, table := f.Read(t, unsafe.Offsetof(tile.A)), f.Read(t, unsafe.Offsetof(tile.ARow))
	for i := range p {
		p[i], q[i] = f.start(base, table, i), f.Int()
	}
	b := f.Read(t, unsafe.Offsetof(tile.B))
	tap, taps := f.Read(t, unsafe.Offsetof(tile.Tap)), f.Read(t, unsafe.Offsetof(tile.Tap)+8)
	k, depth := f.Int(), f.Read(t, unsafe.Offsetof(tile.K))
	// part adds what the next 4 or 8 bytes of each row give.
	part := func(size byte, step int) {
		var a []neon.V
		for i := 0; i < rows; i += 2 {
			x, y := f.Vector(), f.Vector()
			f.Load(size, x, q[i], 0)
			f.Load(size, y, q[i+1], 0)
			f.Do2("ADD", step, q[i], q[i])
			f.Do2("ADD", step, q[i+1], q[i+1])
			a = append(a, f.New("zip1.2d", x, y))
		}
		f.multiply(acc, a, b, 0)
		f.Do2("ADD", quadBytes, b, b)
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
	var first, second []neon.V
	for i := 0; i < rows; i += 2 {
		x, y := f.Vector(), f.Vector()
		f.LoadNext(x, q[i], bytes)
		f.LoadNext(y, q[i+1], bytes) //nolint:gosec // rows is even
		first, second = append(first, f.New("zip1.2d", x, y)), append(second, f.New("zip2.2d", x, y))
	}
	f.multiply(acc, first, b, 0)
	f.multiply(acc, second, b, quadBytes)
	f.Do2("ADD", 2*quadBytes, b, b)
	f.Do2("SUBS", lanes, k, k)
	f.Jump("BGE", "four")
	f.Label("rest")
	f.JumpBit("TBZ", 1, k, "one") // k - 4 has the lower bits of k
	part('d', 8)
	f.Label("one")
	f.JumpBit("TBZ", 0, k, "next")
	part('s', 4)
	f.Label("next")
	f.Do2("SUBS", 1, taps, taps)
	f.Jump("BNE", "tap")
	f.finish(t, f.byRows(acc))
	return f
}

// tnBF16 is TileT of pairs.
func tnBF16() fn {
	f := begin("tnBF16", "C = [C +] A^T B on one tile of pairs", "t")
	t := f.Arg("t")
	acc := f.grid()
	astep := f.times4(f.Read(t, unsafe.Offsetof(tileT.AStep)))
	baseA, baseB := f.Read(t, unsafe.Offsetof(tileT.A)), f.Read(t, unsafe.Offsetof(tileT.B))
	aseg, bseg := f.Read(t, unsafe.Offsetof(tileT.ASeg)), f.Read(t, unsafe.Offsetof(tileT.BSeg))
	segs, n, depth := f.Read(t, unsafe.Offsetof(tileT.ASeg)+8), f.Int(), f.Read(t, unsafe.Offsetof(tileT.P))
	f.Label("segment")
	a, b := f.start(baseA, aseg, 0), f.start(baseB, bseg, 0)
	f.Do2("ADD", 8, aseg, aseg)
	f.Do2("ADD", 8, bseg, bseg)
	// row loads the six pairs of a row of A; it may read two more, into the slack.
	row := func() (x, y neon.V) {
		x, y = f.Vector(), f.Vector()
		f.LoadPair(x, y, a, 0)
		f.Do2("ADD", astep, a, a)
		return x, y
	}
	update := func(x, y, nextX, nextY neon.V, off int) {
		last := f.New("zip1.4s", y, nextY)
		f.multiply(acc, []neon.V{f.New("zip1.4s", x, nextX), f.New("zip2.4s", x, nextX), last}, b, off)
	}
	two := func(off int) {
		x, y := row()
		nextX, nextY := row()
		update(x, y, nextX, nextY, off)
	}
	f.Do2("SUBS", lanes, depth, n)
	f.Jump("BLT", "rest")
	f.Label("four")
	two(0)
	two(quadBytes)
	f.Do2("ADD", 2*quadBytes, b, b)
	f.Do2("SUBS", lanes, n, n)
	f.Jump("BGE", "four")
	f.Label("rest")
	f.JumpBit("TBZ", 1, n, "one") // n - 4 has the lower bits of n
	two(0)
	f.Do2("ADD", quadBytes, b, b)
	f.Label("one")
	f.JumpBit("TBZ", 0, n, "next")
	x, y := row()
	zero := f.Vector()
	f.Zero(zero)
	update(x, y, zero, zero, 0)
	f.Label("next")
	f.Do2("SUBS", 1, segs, segs)
	f.Jump("BNE", "segment")
	f.finishT(t, f.byRows(acc))
	return f
}

// pair is Pair on whole vectors.
func pair() fn {
	f := begin("pairBF16", "dst[i] = (x[2i], x[2i+1]) in bf16, for n vectors of dst; n is positive", "dst", "x", "n")
	dst, x, n := f.Arg("dst"), f.Arg("x"), f.Arg("n")
	f.Label("turn")
	low, high, v := f.Vector(), f.Vector(), f.Vector()
	f.LoadPair(low, high, x, 0)
	f.Do2("ADD", 2*bytes, x, x)
	f.Do("bfcvtn.4h", v, low)
	f.Do("bfcvtn2.8h", v, high)
	f.Do("rev32.8h", v, v) // the first of a pair to the upper half
	f.Store('q', v, dst, 0)
	f.Do2("ADD", bytes, dst, dst)
	f.Do2("SUBS", 1, n, n)
	f.Jump("BNE", "turn")
	f.End()
	return f
}

// pairRows is PairRows on whole vectors.
func pairRows() fn {
	f := begin("pairRowsBF16", "dst[r, i] = (x[r, i], y[r, i]) in bf16; rows and cols, in vectors, are positive, dstRow and srcRow in bytes",
		"dst", "x", "y", "rows", "cols", "dstRow", "srcRow")
	dst, x, y := f.Arg("dst"), f.Arg("x"), f.Arg("y")
	left, cols, dstRow, srcRow := f.Arg("rows"), f.Arg("cols"), f.Arg("dstRow"), f.Arg("srcRow")
	at, n := f.Int(), f.Int()
	f.Label("row")
	f.Set(0, at)
	f.Move(cols, n)
	f.Label("vector")
	first, second := f.Vector(), f.Vector()
	f.LoadIndex(first, x, at)
	f.LoadIndex(second, y, at)
	f.Do("bfcvtn.4h", first, first)
	f.Do("bfcvtn.4h", second, second)
	f.StoreIndex(f.New("zip1.8h", second, first), dst, at)
	f.Do2("ADD", bytes, at, at)
	f.Do2("SUBS", 1, n, n)
	f.Jump("BNE", "vector")
	f.Do2("ADD", srcRow, x, x)
	f.Do2("ADD", srcRow, y, y)
	f.Do2("ADD", dstRow, dst, dst)
	f.Do2("SUBS", 1, left, left)
	f.Jump("BNE", "row")
	f.End()
	return f
}

// quads is Quads, in place.
func quads() fn {
	f := begin("quadsBF16", "the order of B for n times two rows of pairs; n is positive", "dst", "n")
	dst, n := f.Arg("dst"), f.Arg("n")
	f.Label("turn")
	all := make([]neon.V, 2*vecs)
	for i := range all {
		all[i] = f.Vector()
	}
	for i := 0; i < len(all); i += 2 {
		f.LoadPair(all[i], all[i+1], dst, i*bytes) //nolint:gosec // the length is even
	}
	for i := range vecs {
		f.StorePair(f.New("zip1.4s", all[i], all[vecs+i]), f.New("zip2.4s", all[i], all[vecs+i]), dst, 2*i*bytes)
	}
	f.Do2("ADD", quadBytes, dst, dst)
	f.Do2("SUBS", 1, n, n)
	f.Jump("BNE", "turn")
	f.End()
	return f
}
