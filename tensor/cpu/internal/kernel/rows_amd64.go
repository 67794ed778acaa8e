package kernel

// SoftmaxRows is Dst = softmax(Scale X), with the largest Scale X of each row in Top
// and the sum of exp(Scale X - Top) in Sum.
func (s Set) SoftmaxRows(t *Rows) {
	switch {
	case s.plain() || t.Rows == 0 || t.Cols == 0:
		s.softmaxRowsPlain(t)
	case s.eight():
		softmaxRowsAVX2(t)
	default:
		softmaxRowsAVX512(t)
	}
}

// SoftmaxGradRows is Dst = exp(Scale X - Top) over its sum, which goes to Sum, and
// Y = Scale Dst (Y - the sum of Y Dst).
func (s Set) SoftmaxGradRows(t *Rows) {
	switch {
	case s.plain() || t.Rows == 0 || t.Cols == 0:
		s.softmaxGradRowsPlain(t)
	case s.eight():
		softmaxGradRowsAVX2(t)
	default:
		softmaxGradRowsAVX512(t)
	}
}

// The assembly, written by gen.

//go:noescape
func softmaxRowsAVX2(t *Rows)

//go:noescape
func softmaxRowsAVX512(t *Rows)

//go:noescape
func softmaxGradRowsAVX2(t *Rows)

//go:noescape
func softmaxGradRowsAVX512(t *Rows)
