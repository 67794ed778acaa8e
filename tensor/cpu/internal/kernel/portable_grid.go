package kernel

func colMomentsPortable(g *Grid) {
	s0, s1, a := g.Sum[0][:g.Cols], g.Sum[1][:g.Cols], g.A[:g.Cols]
	clear(s0)
	clear(s1)
	for r := range g.Rows {
		for j, v := range g.row(g.X, r) {
			v -= a[j]
			s0[j] += v
			s1[j] = fma(v, v, s1[j])
		}
	}
}

func colGradsPortable(g *Grid) {
	s0, s1, a := g.Sum[0][:g.Cols], g.Sum[1][:g.Cols], g.A[:g.Cols]
	clear(s0)
	clear(s1)
	for r := range g.Rows {
		x := g.row(g.X, r)
		for j, y := range g.row(g.Y, r) {
			s0[j] += y
			s1[j] = fma(y, x[j]-a[j], s1[j])
		}
	}
}

// affine is Dst = f((X-A) B + C).
func (g *Grid) affine(f func(float32) float32) {
	a, b, c := g.A[:g.Cols], g.B[:g.Cols], g.C[:g.Cols]
	for r := range g.Rows {
		dst := g.row(g.Dst, r)
		for j, v := range g.row(g.X, r) {
			dst[j] = f(fma(v-a[j], b[j], c[j]))
		}
	}
}

func colAffinePortable(g *Grid)     { g.affine(func(v float32) float32 { return v }) }
func colAffineSiLUPortable(g *Grid) { g.affine(siluOnce) }

func colAffineSiLUDropPortable(g *Grid) {
	colAffineSiLUPortable(g)
	for r := range g.Rows {
		for j, dst := 0, g.row(g.Dst, r); j < g.Cols; j++ {
			dst[j] *= g.mask(r, j)
		}
	}
}

func colAffineSiLUGradPortable(g *Grid) {
	g.affineSiLUGrad(func(_, _ int, y float32) float32 { return y })
}

func colAffineSiLUGradDropPortable(g *Grid) {
	g.affineSiLUGrad(func(r, j int, y float32) float32 { return y * g.mask(r, j) })
}

// affineSiLUGrad is ColAffineSiLUGrad for drop(Y).
func (g *Grid) affineSiLUGrad(drop func(r, j int, y float32) float32) {
	s0, s1 := g.Sum[0][:g.Cols], g.Sum[1][:g.Cols]
	a, b, c := g.A[:g.Cols], g.B[:g.Cols], g.C[:g.Cols]
	clear(s0)
	clear(s1)
	for r := range g.Rows {
		dst, y := g.row(g.Dst, r), g.row(g.Y, r)
		for j, v := range g.row(g.X, r) {
			v -= a[j]
			slope := float32(siluSlopeOnce(fma(v, b[j], c[j])) * drop(r, j, y[j]))
			s0[j] += slope
			s1[j] = fma(slope, v, s1[j])
			dst[j] = slope
		}
	}
}

func colNormGradPortable(g *Grid) {
	a, b, c, d := g.A[:g.Cols], g.B[:g.Cols], g.C[:g.Cols], g.D[:g.Cols]
	for r := range g.Rows {
		dst, y := g.row(g.Dst, r), g.row(g.Y, r)
		for j, v := range g.row(g.X, r) {
			dst[j] = fma(y[j], b[j], fma(-(v-a[j]), c[j], -d[j]))
		}
	}
}
