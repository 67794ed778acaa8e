package kernel

import "github.com/agrdist/agrdist/rng"

// row returns row r of the grid's operands, and its parameters, all of one
// length.
func (g *Grid) row(m []float32, r int) []float32 { return m[r*g.LD:][:g.Cols] }

func colSumsGo(g *Grid) {
	sum := g.Sum[0][:g.Cols]
	clear(sum)
	for r := range g.Rows {
		addGo(sum, sum, g.row(g.X, r))
	}
}

func colMomentsGo(g *Grid) {
	s0, s1, a := g.Sum[0][:g.Cols], g.Sum[1][:g.Cols], g.A[:g.Cols]
	clear(s0)
	clear(s1)
	for r := range g.Rows {
		for j, v := range g.row(g.X, r) {
			v -= a[j]
			s0[j] += v
			s1[j] += v * v
		}
	}
}

func colGradsGo(g *Grid) {
	s0, s1, a := g.Sum[0][:g.Cols], g.Sum[1][:g.Cols], g.A[:g.Cols]
	clear(s0)
	clear(s1)
	for r := range g.Rows {
		x := g.row(g.X, r)
		for j, y := range g.row(g.Y, r) {
			s0[j] += y
			s1[j] += y * (x[j] - a[j])
		}
	}
}

func colAffineGo(g *Grid) {
	a, b, c := g.A[:g.Cols], g.B[:g.Cols], g.C[:g.Cols]
	for r := range g.Rows {
		dst := g.row(g.Dst, r)
		for j, v := range g.row(g.X, r) {
			dst[j] = (v-a[j])*b[j] + c[j]
		}
	}
}

func colAffineSiLUGo(g *Grid) {
	a, b, c := g.A[:g.Cols], g.B[:g.Cols], g.C[:g.Cols]
	for r := range g.Rows {
		dst := g.row(g.Dst, r)
		for j, v := range g.row(g.X, r) {
			v = (v-a[j])*b[j] + c[j]
			dst[j] = v * sigmoid(v)
		}
	}
}

func colAffineSiLUGradGo(g *Grid) {
	a, b, c := g.A[:g.Cols], g.B[:g.Cols], g.C[:g.Cols]
	for r := range g.Rows {
		dst, y := g.row(g.Dst, r), g.row(g.Y, r)
		for j, v := range g.row(g.X, r) {
			dst[j] = y[j] * siluSlope((v-a[j])*b[j]+c[j])
		}
	}
}

func colNormGradGo(g *Grid) {
	a, b, c, d := g.A[:g.Cols], g.B[:g.Cols], g.C[:g.Cols], g.D[:g.Cols]
	for r := range g.Rows {
		dst, y := g.row(g.Dst, r), g.row(g.Y, r)
		for j, v := range g.row(g.X, r) {
			dst[j] = y[j]*b[j] - ((v-a[j])*c[j] + d[j])
		}
	}
}

func dropoutGo(dst, x []float32, m *Mask) {
	x = x[:len(dst)]
	block := m.Block
	for i := 0; i < len(dst); i += 4 {
		words := rng.Philox4x32([4]uint32{block, m.Stream, m.Draw[0], m.Draw[1]}, m.Key)
		block++
		for k, w := range words[:min(4, len(dst)-i)] {
			var keep float32
			if w >= m.Limit {
				keep = m.Keep
			}
			dst[i+k] = x[i+k] * keep
		}
	}
}
