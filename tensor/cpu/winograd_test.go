package cpu_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu"
	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
)

// filtered is a convolution that goes by Winograd's filtering.
type filtered struct{ n, h, w, ci, co int }

func (f filtered) String() string { return fmt.Sprintf("%dx%dx%dx%d-%d", f.n, f.h, f.w, f.ci, f.co) }

var margin1 = tensor.Conv{Kernel: 3, Stride: 1, PadLo: 1, PadHi: 1}

// each calls f with the indices of every product.
func (f filtered) each(do func(y, x, w int)) {
	for p := range f.n * f.h * f.w {
		n, oy, ox := p/(f.h*f.w), p/f.w%f.h, p%f.w
		for t := range 9 {
			iy, ix := oy+t/3-1, ox+t%3-1
			if iy < 0 || iy >= f.h || ix < 0 || ix >= f.w {
				continue
			}
			for i := range f.ci {
				for o := range f.co {
					do(p*f.co+o, ((n*f.h+iy)*f.w+ix)*f.ci+i, (t*f.ci+i)*f.co+o)
				}
			}
		}
	}
}

// layer is such a convolution's operands and results on a backend.
type layer struct {
	filtered
	be                             *cpu.Backend
	x, weight, bias, per, residual tensor.Tensor
	y, dx, dw, db                  tensor.Tensor
}

func newLayer(tb testing.TB, be *cpu.Backend, f filtered) *layer {
	tb.Helper()
	of := func(id int64, dims ...int) tensor.Tensor {
		s := tensor.Of(dims...)
		buf, err := be.Alloc(tensor.F32, s.Len())
		require.NoError(tb, err)
		draws, err := be.Alloc(tensor.I64, 1)
		require.NoError(tb, err)
		be.UploadInt64(draws, []int64{id})
		t := tensor.Tensor{Buf: buf, Shape: s}
		be.Normal(t.View(tensor.Of(1, s.Len())), tensor.Tensor{Buf: draws, Shape: tensor.Of(1)}, 1, 1)
		return t
	}
	return &layer{
		filtered: f, be: be,
		x: of(1, f.n, f.h, f.w, f.ci), weight: of(2, 3, 3, f.ci, f.co), bias: of(3, f.co), per: of(4, f.n, f.co),
		residual: of(5, f.n, f.h, f.w, f.co), y: of(6, f.n, f.h, f.w, f.co), dx: of(7, f.n, f.h, f.w, f.ci),
		dw: of(8, 3, 3, f.ci, f.co), db: of(9, f.co),
	}
}

// run computes the three products; the residual is also the outputs' gradient.
func (l *layer) run() {
	l.be.Conv2D(l.y, l.x, l.weight, l.bias, l.per, l.residual, margin1)
	l.be.Conv2DInputGrad(l.dx, l.residual, l.weight, margin1)
	l.be.Conv2DWeightGrad(l.dw, l.db, l.x, l.residual, margin1)
}

// results are the values of y, dx, dw and db.
func (l *layer) results() [4][]float32 {
	return [4][]float32{host(l.y), host(l.dx), host(l.dw), host(l.db)}
}

// references are results in float64.
func (l *layer) references() [4][]float64 {
	x, w, dy := host(l.x), host(l.weight), host(l.residual)
	y, dx := make([]float64, len(dy)), make([]float64, len(x))
	dw, db := make([]float64, len(w)), make([]float64, l.co)
	for i, v := range dy {
		o := i % l.co
		y[i] = float64(v) + float64(host(l.bias)[o]) + float64(host(l.per)[i/(l.h*l.w*l.co)*l.co+o])
		db[o] += float64(v)
	}
	l.each(func(yi, xi, wi int) {
		y[yi] += float64(x[xi]) * float64(w[wi])
		dx[xi] += float64(dy[yi]) * float64(w[wi])
		dw[wi] += float64(x[xi]) * float64(dy[yi])
	})
	return [4][]float64{y, dx, dw, db}
}

func host(t tensor.Tensor) []float32 { return t.Buf.(tensor.Host).Float32s()[:t.Shape.Len()] }

// wrong is the root mean square of the errors of got and the largest one, over
// the root mean square of want.
func wrong(want []float64, got []float32) (rms, largest float64) {
	var sum, scale float64
	for i, v := range want {
		e := float64(got[i]) - v
		sum, scale, largest = sum+e*e, scale+v*v, max(largest, math.Abs(e))
	}
	scale = math.Sqrt(scale / float64(len(want)))
	return math.Sqrt(sum/float64(len(want))) / scale, largest / scale
}

// Tiles that end inside and outside of the image, runs of tiles of every kind, sums
// of several passes, and channels that fill their vectors and panels and that do not.
func TestWinogradAgainstFloat64(t *testing.T) {
	shapes := []filtered{
		{1, 7, 7, 32, 32},
		{2, 9, 7, 40, 33},
		{1, 33, 17, 32, 35},
		{3, 8, 8, 33, 64},
		{5, 8, 8, 32, 96},
		{4, 10, 7, 65, 36},
		{2, 33, 33, 8, 9},
		{2, 16, 12, 8, 3},
		{2, 8, 9, 1, 40},
		{1, 6, 6, 3, 1},
		{2, 6, 7, 192, 20},
	}
	if race {
		shapes = shapes[:2]
	}
	for _, f := range shapes {
		for _, set := range sets() {
			be := cpu.New(cpu.Config{Threads: 2, Kernels: set.String()})
			l := newLayer(t, be, f)
			l.run()
			want := l.references()
			for i, got := range l.results() {
				rms, largest := wrong(want[i], got)
				what := fmt.Sprintf("%v: %s of %v", set, []string{"y", "dx", "dw", "db"}[i], f)
				require.Less(t, rms, 1.5e-6, what)
				require.Less(t, largest, 2e-5, what)
			}
			require.NoError(t, be.Close())
		}
	}
}

// Sizes whose tiles take several passes and items.
func TestWinogradThreadsChangeNoBit(t *testing.T) {
	for _, f := range []filtered{{1, 7, 7, 64, 32}, {2, 33, 17, 40, 70}, {3, 9, 8, 33, 96}, {4, 13, 12, 32, 48}, {3, 12, 20, 100, 136}, {5, 32, 32, 32, 32}} {
		for _, set := range sets() {
			if set == kernel.Go && f.n > 2 {
				continue
			}
			var want [4][]float32
			for _, threads := range []int{1, 2, 3, 5} {
				be := cpu.New(cpu.Config{Threads: threads, Kernels: set.String()})
				l := newLayer(t, be, f)
				l.run()
				if threads == 1 {
					want = l.results()
				} else {
					require.Equal(t, want, l.results(), "%v: %v, %d threads", set, f, threads)
				}
				require.NoError(t, be.Close())
			}
		}
	}
}

// So many tiles take more than one pass of the filtering, which divides them in
// the middle of an image and of a row; one image alone takes fewer.
func TestImagesOfABatchAreIndependent(t *testing.T) {
	for _, set := range sets() {
		be := cpu.New(cpu.Config{Threads: 2, Kernels: set.String()})
		f := filtered{2, 26, 51, 256, 32}
		if set == kernel.Go {
			f = filtered{2, 26, 51, 40, 32}
		}
		l := newLayer(t, be, f)
		image := func(v tensor.Tensor, i int) tensor.Tensor {
			per := v.Shape.Len() / f.n
			dims := append([]int{1}, v.Shape.Dims()[1:]...)
			return tensor.Tensor{Buf: be.Slice(v.Buf, i*per, per), Shape: tensor.Of(dims...)}
		}
		l.run()
		for i := range f.n {
			one := newLayer(t, be, filtered{1, f.h, f.w, f.ci, f.co})
			one.x, one.per, one.residual = image(l.x, i), image(l.per, i), image(l.residual, i)
			one.run()
			require.Equal(t, host(image(l.y, i)), host(one.y), "%v: Conv2D, image %d", set, i)
			require.Equal(t, host(image(l.dx, i)), host(one.dx), "%v: Conv2DInputGrad, image %d", set, i)
		}
		require.NoError(t, be.Close())
	}
}
