//go:build !amd64 && !arm64

package kernel

// SoftmaxRows is Dst = softmax(Scale X), with the largest Scale X of each row in Top
// and the sum of exp(Scale X - Top) in Sum.
func (s Set) SoftmaxRows(t *Rows) { s.softmaxRowsPlain(t) }

// SoftmaxGradRows is Dst = exp(Scale X - Top) over its sum, which goes to Sum, and
// Y = Scale Dst (Y - the sum of Y Dst).
func (s Set) SoftmaxGradRows(t *Rows) { s.softmaxGradRowsPlain(t) }
