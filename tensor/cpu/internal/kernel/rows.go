package kernel

// Rows is a matrix of which every row is treated alike: scores, a row a query. Row
// r of X, Y and Dst begins at r*LD. The assembly knows the offsets of the fields.
type Rows struct {
	X, Y, Dst []float32
	Top, Sum  []float32 // a value for each row

	Rows, Cols, LD int
	Scale          float32
}

func (t *Rows) row(m []float32, r int) []float32 { return m[r*t.LD:][:t.Cols] }

func softmaxRowsGo(t *Rows) {
	for r := range t.Rows {
		x, dst := t.row(t.X, r), t.row(t.Dst, r)
		t.Top[r] = maxScaledGo(x, t.Scale)
		t.Sum[r] = expSumGo(dst, x, t.Scale, t.Top[r])
		scaleGo(dst, dst, 1/t.Sum[r])
	}
}

func softmaxGradRowsGo(t *Rows) {
	for r := range t.Rows {
		x, y, dst := t.row(t.X, r), t.row(t.Y, r), t.row(t.Dst, r)
		t.Sum[r] = expSumGo(dst, x, t.Scale, t.Top[r])
		scaleGo(dst, dst, 1/t.Sum[r])
		softmaxGradGo(y, y, dst, t.Scale, dotGo(dst, y)) // zero in sum, but for rounding
	}
}
