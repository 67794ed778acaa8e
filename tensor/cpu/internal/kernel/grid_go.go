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
			s1[j] += float32(v * v)
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
			s1[j] += float32(y * (x[j] - a[j]))
		}
	}
}

func colAffineGo(g *Grid) {
	a, b, c := g.A[:g.Cols], g.B[:g.Cols], g.C[:g.Cols]
	for r := range g.Rows {
		dst := g.row(g.Dst, r)
		for j, v := range g.row(g.X, r) {
			dst[j] = float32((v-a[j])*b[j]) + c[j]
		}
	}
}

func colAffineSiLUGo(g *Grid) {
	a, b, c := g.A[:g.Cols], g.B[:g.Cols], g.C[:g.Cols]
	for r := range g.Rows {
		dst := g.row(g.Dst, r)
		for j, v := range g.row(g.X, r) {
			dst[j] = silu(float32((v-a[j])*b[j]) + c[j])
		}
	}
}

func colAffineSiLUGradGo(g *Grid) {
	s0, s1 := g.Sum[0][:g.Cols], g.Sum[1][:g.Cols]
	a, b, c := g.A[:g.Cols], g.B[:g.Cols], g.C[:g.Cols]
	clear(s0)
	clear(s1)
	for r := range g.Rows {
		dst, y := g.row(g.Dst, r), g.row(g.Y, r)
		for j, v := range g.row(g.X, r) {
			v -= a[j]
			slope := float32(y[j] * siluSlope(float32(v*b[j])+c[j]))
			s0[j] += slope
			s1[j] += float32(slope * v)
			dst[j] = slope
		}
	}
}

func colAffineSiLUDropGo(g *Grid) {
	colAffineSiLUGo(g)
	for r := range g.Rows {
		for j, dst := 0, g.row(g.Dst, r); j < g.Cols; j++ {
			dst[j] *= g.mask(r, j)
		}
	}
}

func colAffineSiLUGradDropGo(g *Grid) {
	for r := range g.Rows {
		dst := g.row(g.Dst, r)
		for j, v := range g.row(g.Y, r) {
			dst[j] = v * g.mask(r, j)
		}
	}
	masked := *g
	masked.Y = g.Dst
	colAffineSiLUGradGo(&masked)
}

// mask is what element j of row r is multiplied with.
func (g *Grid) mask(r, j int) float32 {
	at := r*g.Cols + j
	if g.Bits[at/64]>>(at%64)&1 == 0 {
		return 0
	}
	return g.Keep
}

func colNormGradGo(g *Grid) {
	a, b, c, d := g.A[:g.Cols], g.B[:g.Cols], g.C[:g.Cols], g.D[:g.Cols]
	for r := range g.Rows {
		dst, y := g.row(g.Dst, r), g.row(g.Y, r)
		for j, v := range g.row(g.X, r) {
			dst[j] = float32(y[j]*b[j]) - (float32((v-a[j])*c[j]) + d[j])
		}
	}
}

// keep calls f with the place and the verdict of each of n elements of the mask.
func (m *Mask) keep(n int, f func(i int, keep bool)) {
	for i := 0; i < n; i += 4 {
		words := rng.Philox4x32([4]uint32{m.Block + uint32(i/4), m.Stream, m.Draw[0], m.Draw[1]}, m.Key)
		for k, w := range words[:min(4, n-i)] {
			f(i+k, w >= m.Limit)
		}
	}
}

func dropoutGo(dst, x []float32, m *Mask) {
	x = x[:len(dst)]
	m.keep(len(dst), func(i int, keep bool) {
		var scale float32
		if keep {
			scale = m.Keep
		}
		dst[i] = x[i] * scale
	})
}

func maskBitsGo(dst []uint64, words, rows, skip int, m *Mask) {
	row := *m
	for r := range rows {
		bits := dst[r*words:][:words]
		clear(bits)
		row.keep(64*words, func(i int, keep bool) {
			if keep {
				bits[i/64] |= 1 << (i % 64)
			}
		})
		row.Block += uint32(16*words + skip)
	}
}
