package kernel

// SoftmaxRows is Dst = softmax(Scale X), with the largest Scale X of each row in Top
// and the sum of exp(Scale X - Top) in Sum.
func (s Set) SoftmaxRows(t *Rows) {
	if s.plain() || t.Rows == 0 || t.Cols == 0 {
		s.softmaxRowsPlain(t)
		return
	}
	softmaxRowsNEON(t)
}

// SoftmaxGradRows is Dst = exp(Scale X - Top) over its sum, which goes to Sum, and
// Y = Scale Dst (Y - the sum of Y Dst).
func (s Set) SoftmaxGradRows(t *Rows) {
	if s.plain() || t.Rows == 0 || t.Cols == 0 {
		s.softmaxGradRowsPlain(t)
		return
	}
	softmaxGradRowsNEON(t)
}
