package kernel

// The plain Go kernels work on 3x2 elements at a time: six sums, three values of
// A and two of B are what sixteen SSE registers hold without spilling.

func nnGo(t *Tile) {
	for i := 0; i < t.Rows; i += 3 {
		for j := 0; j < t.Cols; j += 2 {
			if i+3 <= t.Rows && j+2 <= t.Cols {
				nn3x2(t, i, j)
				continue
			}
			for r := i; r < min(i+3, t.Rows); r++ {
				for c := j; c < min(j+2, t.Cols); c++ {
					nn1x1(t, r, c)
				}
			}
		}
	}
}

func nn3x2(t *Tile, i, j int) {
	var c00, c01, c10, c11, c20, c21 float32
	ldb, b := t.LDB, t.B[j:]
	for _, off := range t.Tap {
		a0 := t.A[t.ARow[i]+off:][:t.K]
		a1 := t.A[t.ARow[i+1]+off:][:len(a0)]
		a2 := t.A[t.ARow[i+2]+off:][:len(a0)]
		at := 0
		for k, x := range a0 {
			row := b[at:]
			u, v := row[0], row[1]
			c00 += x * u
			c01 += x * v
			x = a1[k]
			c10 += x * u
			c11 += x * v
			x = a2[k]
			c20 += x * u
			c21 += x * v
			at += ldb
		}
		b = b[min(at, len(b)):]
	}
	add2(t.C[t.CRow[i]+j:], c00, c01)
	add2(t.C[t.CRow[i+1]+j:], c10, c11)
	add2(t.C[t.CRow[i+2]+j:], c20, c21)
}

func add2(c []float32, u, v float32) {
	c[1] += v
	c[0] += u
}

func nn1x1(t *Tile, i, j int) {
	var sum float32
	at := j
	for _, off := range t.Tap {
		for _, x := range t.A[t.ARow[i]+off:][:t.K] {
			sum += x * t.B[at]
			at += t.LDB
		}
	}
	t.C[t.CRow[i]+j] += sum
}

func tnGo(t *TileT) {
	for i := 0; i < t.Rows; i += 3 {
		for j := 0; j < t.Cols; j += 2 {
			if i+3 <= t.Rows && j+2 <= t.Cols {
				tn3x2(t, i, j)
				continue
			}
			for r := i; r < min(i+3, t.Rows); r++ {
				for c := j; c < min(j+2, t.Cols); c++ {
					tn1x1(t, r, c)
				}
			}
		}
	}
}

func tn3x2(t *TileT, i, j int) {
	var c00, c01, c10, c11, c20, c21 float32
	for s, seg := range t.ASeg {
		a, b := t.A[seg+i:], t.B[t.BSeg[s]+j:]
		ai, bi := 0, 0
		for range t.P {
			ra, rb := a[ai:], b[bi:]
			z, v := ra[2], rb[1]
			x, y, u := ra[0], ra[1], rb[0]
			c00 += x * u
			c01 += x * v
			c10 += y * u
			c11 += y * v
			c20 += z * u
			c21 += z * v
			ai += t.AStep
			bi += t.BStep
		}
	}
	add2(t.C[i*t.LDC+j:], c00, c01)
	add2(t.C[(i+1)*t.LDC+j:], c10, c11)
	add2(t.C[(i+2)*t.LDC+j:], c20, c21)
}

func tn1x1(t *TileT, i, j int) {
	var sum float32
	for s, seg := range t.ASeg {
		for p := range t.P {
			sum += t.A[seg+p*t.AStep+i] * t.B[t.BSeg[s]+p*t.BStep+j]
		}
	}
	t.C[i*t.LDC+j] += sum
}
