package kernel

// The transforms of patch_amd64.s, written by gen.

//go:noescape
func winogradInputAVX2(t *Patch)

//go:noescape
func winogradInputAVX512(t *Patch)

//go:noescape
func winogradFilterAVX2(t *Patch)

//go:noescape
func winogradFilterAVX512(t *Patch)

//go:noescape
func winogradOutputAVX2(t *Patch)

//go:noescape
func winogradOutputAVX512(t *Patch)

//go:noescape
func winogradGradAVX2(t *Patch)

//go:noescape
func winogradGradAVX512(t *Patch)

//go:noescape
func winogradFilterGradAVX2(t *Patch)

//go:noescape
func winogradFilterGradAVX512(t *Patch)

//go:noescape
func winogradInputRowAVX2(t *Patch)

//go:noescape
func winogradGradRowAVX2(t *Patch)

//go:noescape
func winogradInputRowAVX512(t *Patch)

//go:noescape
func winogradGradRowAVX512(t *Patch)

// Transform runs a transform on the patches.
func (s Set) Transform(tr Transform, p *Patch) {
	switch {
	case s.plain() || p.N == 0:
		s.patchPlain(tr, p)
	case s == AVX2:
		transformAVX2(tr, p)
	default:
		transformAVX512(tr, p)
	}
}

func transformAVX2(tr Transform, p *Patch) {
	switch tr {
	case WinogradInput:
		winogradInputAVX2(p)
	case WinogradFilter:
		winogradFilterAVX2(p)
	case WinogradOutput:
		winogradOutputAVX2(p)
	case WinogradGrad:
		winogradGradAVX2(p)
	case WinogradFilterGrad:
		winogradFilterGradAVX2(p)
	case WinogradInputRow:
		winogradInputRowAVX2(p)
	case WinogradGradRow:
		winogradGradRowAVX2(p)
	}
}

func transformAVX512(tr Transform, p *Patch) {
	switch tr {
	case WinogradInput:
		winogradInputAVX512(p)
	case WinogradFilter:
		winogradFilterAVX512(p)
	case WinogradOutput:
		winogradOutputAVX512(p)
	case WinogradGrad:
		winogradGradAVX512(p)
	case WinogradFilterGrad:
		winogradFilterGradAVX512(p)
	case WinogradInputRow:
		winogradInputRowAVX512(p)
	case WinogradGradRow:
		winogradGradRowAVX512(p)
	}
}
