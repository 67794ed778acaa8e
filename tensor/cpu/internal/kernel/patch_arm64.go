package kernel

// Transform runs a transform on the patches.
func (s Set) Transform(tr Transform, p *Patch) {
	if s.plain() || p.N == 0 {
		s.patchPlain(tr, p)
		return
	}
	switch tr {
	case WinogradInput:
		winogradInputNEON(p)
	case WinogradFilter:
		winogradFilterNEON(p)
	case WinogradOutput:
		winogradOutputNEON(p)
	case WinogradGrad:
		winogradGradNEON(p)
	case WinogradFilterGrad:
		winogradFilterGradNEON(p)
	case WinogradInputRow:
		winogradInputRowNEON(p)
	case WinogradGradRow:
		winogradGradRowNEON(p)
	}
}
