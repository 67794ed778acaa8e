//go:build amd64 || arm64

package agr

import "github.com/agrdist/agrdist/optim"

// normsVector makes a twin of optim.Norms of a kernel that adds count elements,
// a multiple of vectorLen, to the lanes.
func normsVector(add func(abs, squares *[optim.Lanes]float64, x *float32, count int)) func(x []float32) (l1, sq float64) {
	return func(x []float32) (l1, sq float64) {
		var abs, squares [optim.Lanes]float64
		whole := len(x) &^ (vectorLen - 1)
		if whole > 0 {
			add(&abs, &squares, &x[0], whole)
		}
		optim.AddNorms(&abs, &squares, x[whole:])
		return optim.SumLanes(&abs), optim.SumLanes(&squares)
	}
}
