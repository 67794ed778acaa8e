package kernel

// The loops that both sets of plain Go have, each with its own roundings.

func (s Set) nnPlain(t *Tile) {
	if s == PortableGo {
		nnPortable(t)
		return
	}
	nnGo(t)
}

func (s Set) tnPlain(t *TileT) {
	if s == PortableGo {
		tnPortable(t)
		return
	}
	tnGo(t)
}

func (s Set) blendPlain(dst, x, y []float32, alpha, beta float32) {
	if s == PortableGo {
		blendPortable(dst, x, y, alpha, beta)
		return
	}
	blendGo(dst, x, y, alpha, beta)
}

func (s Set) siluPlain(dst, x []float32) {
	if s == PortableGo {
		siluPortable(dst, x)
		return
	}
	siluGo(dst, x)
}

func (s Set) siluGradPlain(dst, x, y []float32) {
	if s == PortableGo {
		siluGradPortable(dst, x, y)
		return
	}
	siluGradGo(dst, x, y)
}

func (s Set) dotPlain(x, y []float32) float32 {
	if s == PortableGo {
		return dotPortable(x, y)
	}
	return dotGo(x, y)
}

func (s Set) expSumPlain(dst, x []float32, scale, top float32) float32 {
	if s == PortableGo {
		return expSumPortable(dst, x, scale, top)
	}
	return expSumGo(dst, x, scale, top)
}

func (s Set) colMomentsPlain(g *Grid) {
	if s == PortableGo {
		colMomentsPortable(g)
		return
	}
	colMomentsGo(g)
}

func (s Set) colGradsPlain(g *Grid) {
	if s == PortableGo {
		colGradsPortable(g)
		return
	}
	colGradsGo(g)
}

func (s Set) colAffinePlain(g *Grid) {
	if s == PortableGo {
		colAffinePortable(g)
		return
	}
	colAffineGo(g)
}

func (s Set) colAffineSiLUPlain(g *Grid) {
	if s == PortableGo {
		colAffineSiLUPortable(g)
		return
	}
	colAffineSiLUGo(g)
}

func (s Set) colAffineSiLUGradPlain(g *Grid) {
	if s == PortableGo {
		colAffineSiLUGradPortable(g)
		return
	}
	colAffineSiLUGradGo(g)
}

func (s Set) colAffineSiLUDropPlain(g *Grid) {
	if s == PortableGo {
		colAffineSiLUDropPortable(g)
		return
	}
	colAffineSiLUDropGo(g)
}

func (s Set) colAffineSiLUGradDropPlain(g *Grid) {
	if s == PortableGo {
		colAffineSiLUGradDropPortable(g)
		return
	}
	colAffineSiLUGradDropGo(g)
}

func (s Set) colNormGradPlain(g *Grid) {
	if s == PortableGo {
		colNormGradPortable(g)
		return
	}
	colNormGradGo(g)
}

func (s Set) softmaxRowsPlain(t *Rows) {
	if s == PortableGo {
		softmaxRowsPortable(t)
		return
	}
	softmaxRowsGo(t)
}

func (s Set) softmaxGradRowsPlain(t *Rows) {
	if s == PortableGo {
		softmaxGradRowsPortable(t)
		return
	}
	softmaxGradRowsGo(t)
}

func (s Set) patchPlain(tr Transform, p *Patch) {
	if s == PortableGo {
		patchPortable(tr, p)
		return
	}
	patchGo(tr, p)
}
