package kernel

import "github.com/agrdist/agrdist/internal/portable"

// The kernels of PortableGo: those of AVX2, operation by operation, whose multiply-adds
// round once (package portable). They are for machines without vector kernels, and the
// reference of those that have them.

// fma is x y + z, rounded once.
func fma(x, y, z float32) float32 { return portable.FMA(x, y, z) }

// sums are the sums of a row of a tile: values of float32, in the type that they are
// added in.
type sums [MaxCols]float64

// add adds x times a row of B, as portable.FMA does.
func (s *sums) add(x float32, b []float32) {
	w := float64(x)
	for j, v := range b {
		p, a := w*float64(v), s[j&(MaxCols-1)]
		sum := p + a
		if portable.Doubtful(sum) {
			s[j&(MaxCols-1)] = float64(portable.Settle(p, a, sum))
		} else {
			s[j&(MaxCols-1)] = float64(float32(sum))
		}
	}
}

// plus adds a row.
func (s *sums) plus(row []float32, cols int) {
	for j, v := range row[:cols] {
		s[j] = float64(float32(s[j]) + v)
	}
}

// save writes the sums to c.
func (s *sums) save(c []float32) {
	for j := range c {
		c[j] = float32(s[j])
	}
}

func nnPortable(t *Tile) {
	if t.K == 0 || len(t.Tap) == 0 {
		nnGo(t) // as all sets do
		return
	}
	for i := range t.Rows {
		var s sums
		b := t.B
		for _, off := range t.Tap {
			for _, x := range t.A[t.ARow[i]+off:][:t.K] {
				s.add(x, b[:t.Cols])
				b = b[min(t.LDB, len(b)):]
			}
		}
		if t.Init != nil {
			s.plus(t.Init[t.IRow[i]:], t.Cols)
		}
		if t.Residual != nil {
			s.plus(t.Residual[t.CRow[i]:], t.Cols)
		}
		c := t.C[t.CRow[i]:][:t.Cols]
		if !t.Fresh {
			s.plus(c, t.Cols)
		}
		s.save(c)
	}
}

func tnPortable(t *TileT) {
	for i := range t.Rows {
		var s sums
		for at, seg := range t.ASeg {
			a, b := seg+i, t.BSeg[at]
			for range t.P {
				s.add(t.A[a], t.B[b:][:t.Cols])
				a += t.AStep
				b += t.BStep
			}
		}
		c := t.C[i*t.LDC:][:t.Cols]
		if !t.Fresh {
			s.plus(c, t.Cols)
		}
		s.save(c)
	}
}
