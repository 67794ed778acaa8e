package kernel

// The plain Go kernels add eight rows of B at a time to a row of C. The loop over
// the columns has no bounds checks, eight values of A in registers and one load
// and store of C for sixteen operations: faster than blocks of C in registers,
// which the compiler spills.

func nnGo(t *Tile) {
	var at [8]int
	for k := range at {
		at[k] = k * t.LDB
	}
	for i := range t.Rows {
		c := t.C[t.CRow[i]:][:t.Cols]
		t.startGo(i, c)
		b := t.B
		for _, off := range t.Tap {
			a := t.A[t.ARow[i]+off:][:t.K]
			for len(a) >= 8 {
				addRows(c, (*[8]float32)(a), b, &at)
				a, b = a[8:], b[min(8*t.LDB, len(b)):]
			}
			for _, x := range a {
				addRow(c, x, b)
				b = b[min(t.LDB, len(b)):]
			}
		}
	}
}

// startGo makes c, row i of C, what the sums are added to.
func (t *Tile) startGo(i int, c []float32) {
	switch {
	case t.Residual == nil && t.Fresh:
		clear(c)
	case t.Residual != nil && t.Fresh:
		copy(c, t.Residual[t.CRow[i]:])
	case t.Residual != nil:
		addGo(c, c, t.Residual[t.CRow[i]:])
	}
	if t.Init != nil {
		addGo(c, c, t.Init[t.IRow[i]:])
	}
}

func tnGo(t *TileT) {
	var x [8]float32
	var at [8]int
	for i := range t.Rows {
		c := t.C[i*t.LDC:][:t.Cols]
		if t.Fresh {
			clear(c)
		}
		n := 0
		for s, seg := range t.ASeg {
			a, b := seg+i, t.BSeg[s]
			for range t.P {
				x[n&7], at[n&7] = t.A[a], b
				if n++; n == 8 {
					addRows(c, &x, t.B, &at)
					n = 0
				}
				a += t.AStep
				b += t.BStep
			}
		}
		for k := range n {
			addRow(c, x[k], t.B[at[k]:])
		}
	}
}

// addRows adds x[k] times the row of B that begins at at[k], for all k in order.
func addRows(c []float32, x *[8]float32, b []float32, at *[8]int) {
	n := len(c)
	b0, b1, b2, b3 := b[at[0]:][:n], b[at[1]:][:n], b[at[2]:][:n], b[at[3]:][:n]
	b4, b5, b6, b7 := b[at[4]:][:n], b[at[5]:][:n], b[at[6]:][:n], b[at[7]:][:n]
	x0, x1, x2, x3, x4, x5, x6, x7 := x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]
	for j, s := range c {
		s += float32(x0 * b0[j])
		s += float32(x1 * b1[j])
		s += float32(x2 * b2[j])
		s += float32(x3 * b3[j])
		s += float32(x4 * b4[j])
		s += float32(x5 * b5[j])
		s += float32(x6 * b6[j])
		s += float32(x7 * b7[j])
		c[j] = s
	}
}

func addRow(c []float32, x float32, b []float32) {
	b = b[:len(c)]
	for j := range c {
		c[j] += float32(x * b[j])
	}
}
