package cpu

import (
	"fmt"

	"github.com/agrdist/agrdist/tensor"
)

type matMulArgs struct {
	dst, a, b []float32
	m, n, k   int
	tensor.MatMulArgs
}

// MatMul is dst = Alpha op(a) op(b) + Beta dst.
func (b *Backend) MatMul(dst, x, y tensor.Tensor, args tensor.MatMulArgs) {
	const op = "MatMul"
	batch, m, n, k := matMulShape(dst.Shape, x.Shape, y.Shape, args)
	b.tasks.matMul.run(b.pool, batch*m, matMulArgs{f32(op, dst), f32(op, x), f32(op, y), m, n, k, args})
}

// matMulShape checks the shapes and returns the sizes: dst is [m, n], the inner
// dimension k.
func matMulShape(dst, x, y tensor.Shape, args tensor.MatMulArgs) (batch, m, n, k int) {
	fail := func() {
		panic(fmt.Sprintf("cpu: MatMul: %v = %v (transposed %t) x %v (transposed %t)", dst, x, args.TransA, y, args.TransB))
	}
	r := dst.Rank()
	if r < 2 || r > 3 || x.Rank() != r || y.Rank() != r {
		fail()
	}
	batch = 1
	if r == 3 {
		batch = dst.Dim(0)
		if x.Dim(0) != batch || y.Dim(0) != batch {
			fail()
		}
	}
	m, k = x.Dim(-2), x.Dim(-1)
	if args.TransA {
		m, k = k, m
	}
	ky, n := y.Dim(-2), y.Dim(-1)
	if args.TransB {
		ky, n = n, ky
	}
	if k != ky || dst.Dim(-2) != m || dst.Dim(-1) != n {
		fail()
	}
	return batch, m, n, k
}

func matMulRow(a *matMulArgs, i int) {
	s, r := i/a.m, i%a.m
	x, y := a.a[s*a.m*a.k:][:a.m*a.k], a.b[s*a.k*a.n:][:a.k*a.n]
	d := a.dst[i*a.n:][:a.n]
	for j := range d {
		var sum float32
		for k := range a.k {
			xi, yi := r*a.k+k, k*a.n+j
			if a.TransA {
				xi = k*a.m + r
			}
			if a.TransB {
				yi = j*a.k + k
			}
			sum += x[xi] * y[yi]
		}
		sum *= a.Alpha
		if a.Beta != 0 {
			sum += a.Beta * d[j]
		}
		d[j] = sum
	}
}
