package cpu_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/isa"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu"
	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
	"github.com/agrdist/agrdist/tensor/tensortest"
)

// bf16Sets lists the kernel sets to test in precision BF16.
func bf16Sets() []kernel.Set {
	all := sets()
	for _, set := range []kernel.Set{kernel.AVX512BF16, kernel.NEONBF16} {
		if isa.Set(set).Runs() && !race {
			all = append(all, set)
		}
	}
	return all
}

// bf16Backend makes a backend of precision BF16.
func bf16Backend(set kernel.Set, threads int) func(testing.TB) tensor.Backend {
	return func(testing.TB) tensor.Backend {
		return cpu.New(cpu.Config{Threads: threads, Kernels: set.String(), Precision: tensor.BF16})
	}
}

// The operands round as the suite's references do, and the errors of the sums are
// those of float32.
func TestBF16Conformance(t *testing.T) {
	if race {
		t.Skip("the loops that are precision BF16's own run in the other tests")
	}
	for _, set := range bf16Sets() {
		t.Run(set.String(), func(t *testing.T) {
			tensortest.RunOptions(t, tensortest.Options{New: bf16Backend(set, 2), Operands: tensor.BF16})
		})
	}
}

func TestBF16ThreadsChangeNoBit(t *testing.T) {
	if race {
		t.Skip("as in TestBF16Conformance")
	}
	for _, set := range bf16Sets()[len(sets())-1:] { // the two forms of the copies
		for _, n := range []int{2, 3} {
			t.Run(fmt.Sprintf("%v/1=%d", set, n), func(t *testing.T) {
				tensortest.RunSame(t, bf16Backend(set, 1), bf16Backend(set, n))
			})
		}
	}
}

func TestBF16AllocatesNothing(t *testing.T) {
	if race {
		t.Skip("allocations are no race")
	}
	for _, set := range bf16Sets()[len(sets())-1:] { // the two forms of the copies
		t.Run(set.String(), func(t *testing.T) { tensortest.RunAllocs(t, bf16Backend(set, 2)) })
	}
}

func TestBF16Config(t *testing.T) {
	t.Setenv(isa.Env, "")
	err := cpu.Config{Threads: 1, Precision: tensor.I64}.Validate()
	require.ErrorIs(t, err, cpu.ErrConfig)
	require.EqualError(t, err, "cpu: bad configuration: Precision is I64, want F32 or BF16")
	for _, set := range bf16Sets() {
		c := cpu.Config{Threads: 1, Kernels: set.String()}
		be := cpu.New(c)
		require.Equal(t, "cpu/"+set.F32().String(), be.Name(), "the set of another precision is no other set in F32")
		require.NoError(t, be.Close())
		c.Precision = tensor.BF16
		be = cpu.New(c)
		require.Equal(t, "cpu/"+set.String()+" bf16", be.Name())
		require.NoError(t, be.Close())
	}
	be := cpu.New(cpu.Config{Threads: 1, Precision: tensor.BF16})
	require.Equal(t, "cpu/"+kernel.BestBF16().String()+" bf16", be.Name())
	require.NoError(t, be.Close())
}

// products are the operations that round their operands, on fresh tensors of a
// backend: their results, by name. value gives element i of operand id.
func products(t *testing.T, be tensor.Backend, s tensor.Shape, co int, c tensor.Conv, value func(id, i int) float32) map[string][]float32 {
	t.Helper()
	of := func(id int, dims ...int) tensor.Tensor {
		s := tensor.Of(dims...)
		buf, err := be.Alloc(tensor.F32, s.Len())
		require.NoError(t, err)
		host := make([]float32, s.Len())
		for i := range host {
			host[i] = value(id, i)
		}
		be.Upload(buf, host)
		return tensor.Tensor{Buf: buf, Shape: s}
	}
	n, h, w, ci := s.Dim(0), s.Dim(1), s.Dim(2), s.Dim(3)
	x, weight := of(1, n, h, w, ci), of(2, c.Kernel, c.Kernel, ci, co)
	dy := of(3, n, c.OutSize(h), c.OutSize(w), co)
	y, dx, dw := of(4, dy.Shape.Dims()...), of(4, n, h, w, ci), of(4, c.Kernel, c.Kernel, ci, co)
	var none tensor.Tensor
	be.Conv2D(y, x, weight, none, none, none, c)
	be.Conv2DInputGrad(dx, dy, weight, c)
	be.Conv2DWeightGrad(dw, none, x, dy, c)
	pixels := tensor.Of(n*h*w, ci)
	xx, xw, wide := of(4, ci, ci), of(4, n*h*w, co), of(2, ci, co)
	be.MatMul(xx, x.View(pixels), x.View(pixels), tensor.MatMulArgs{TransA: true, Alpha: 1})
	be.MatMul(xw, x.View(pixels), wide, tensor.MatMulArgs{Alpha: 1})
	all := map[string][]float32{}
	for name, r := range map[string]tensor.Tensor{"y": y, "dx": dx, "dw": dw, "x'x": xx, "xw": xw} {
		all[name] = append([]float32(nil), r.Buf.(tensor.Host).Float32s()...)
	}
	return all
}

var bf16Convs = []tensor.Conv{
	{Kernel: 3, Stride: 1, PadLo: 1, PadHi: 1},
	{Kernel: 3, Stride: 2, PadLo: 0, PadHi: 1},
	{Kernel: 1, Stride: 1},
}

// Small integers are bf16 already, their sums exact in any order: all sets and both
// precisions give the same bits, but for filtering (winograd), which these images
// are too small for.
func TestBF16IsExactOnIntegers(t *testing.T) {
	value := func(id, i int) float32 { return float32((i*7+i/11*5+id*3)%17 - 8) }
	for _, c := range bf16Convs {
		for _, s := range []tensor.Shape{tensor.Of(2, 9, 5, 5), tensor.Of(3, 5, 5, 64)} {
			for _, co := range []int{3, 40, 64} {
				be := backend(kernel.Go, 1)(t)
				want := products(t, be, s, co, c, value)
				require.NoError(t, be.Close())
				for _, set := range bf16Sets() {
					be := bf16Backend(set, 2)(t)
					require.Equal(t, want, products(t, be, s, co, c, value), "%s: %v to %d channels, %+v", be.Name(), s, co, c)
					require.NoError(t, be.Close())
				}
			}
		}
	}
}

// Values that differ in what bf16 does not hold are the same operand.
func TestBF16SeesOnlyBF16(t *testing.T) {
	exact := func(id, i int) float32 { return float32((i*37+id*11)%101)/64 + 1 } // 1 to 2.6 in steps of 1/64
	near := func(id, i int) float32 {
		v := exact(id, i)
		return v + float32(i%3-1)*0x1p-10
	}
	for _, set := range bf16Sets() {
		be := bf16Backend(set, 1)(t)
		for _, c := range bf16Convs {
			s := tensor.Of(2, 7, 6, 33)
			require.Equal(t, products(t, be, s, 35, c, exact), products(t, be, s, 35, c, near), "%s: %+v", be.Name(), c)
		}
		require.NoError(t, be.Close())
		be = backend(set.F32(), 1)(t)
		require.NotEqual(t, products(t, be, tensor.Of(1, 4, 4, 8), 8, bf16Convs[0], exact), products(t, be, tensor.Of(1, 4, 4, 8), 8, bf16Convs[0], near))
		require.NoError(t, be.Close())
	}
}

// An image's result does not depend on the others of its batch.
func TestBF16ImagesAreIndependent(t *testing.T) {
	const ci, co, size = 33, 40, 9
	one := tensor.Of(1, size, size, ci)
	value := func(shift int) func(id, i int) float32 {
		return func(id, i int) float32 {
			if id != 2 {
				i += shift * size * size * map[int]int{1: ci, 3: co}[id]
			}
			return float32(math.Sin(float64(i*id + id)))
		}
	}
	for _, set := range bf16Sets() {
		be := bf16Backend(set, 2)(t)
		all := products(t, be, tensor.Of(3, size, size, ci), co, bf16Convs[0], value(0))
		for i := range 3 {
			got := products(t, be, one, co, bf16Convs[0], value(i))
			for name, c := range map[string]int{"y": co, "dx": ci, "xw": co} {
				n := size * size * c
				require.Equal(t, all[name][i*n:(i+1)*n], got[name], "%s: %s of image %d", be.Name(), name, i)
			}
		}
		require.NoError(t, be.Close())
	}
}

// What float32 sums spoil, bf16 ones spoil: NaN and Inf reach the same results. The
// largest float32 is Inf in bf16.
func TestBF16KeepsNaNAndInf(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for i, bad := range [][2]float32{{nan, nan}, {inf, inf}, {inf, math.MaxFloat32}, {nan, nan}} {
		at := 141
		if i == 3 {
			at = 5*2*16 - 1 // in the last pixel of an odd row, which no pair but its own may meet
		}
		with := func(bad float32) func(id, i int) float32 {
			return func(id, i int) float32 {
				if id != 2 && i == at {
					return bad
				}
				return float32(math.Sin(float64(i*id + id)))
			}
		}
		for _, c := range bf16Convs {
			s := tensor.Of(1, 5, 5, 16) // too small for Winograd, which spreads them
			be := backend(kernel.Go, 1)(t)
			want := products(t, be, s, 32, c, with(bad[0]))
			require.NoError(t, be.Close())
			for _, set := range bf16Sets() {
				be := bf16Backend(set, 1)(t)
				for name, got := range products(t, be, s, 32, c, with(bad[1])) {
					for i, g := range got {
						finite := math.Abs(float64(want[name][i])) < 1e30
						require.Equal(t, finite, math.Abs(float64(g)) < 1e30, "%s: %v in %s, %+v: element %d is %v", be.Name(), bad, name, c, i, g)
					}
				}
				require.NoError(t, be.Close())
			}
		}
	}
}

// The gradient of a weight goes over bands: several images, the last band with fewer,
// or rows of one image.
func TestBF16WeightGradByBands(t *testing.T) {
	const ci, co = 5, 7
	value := func(id, i int) float32 { return float32((i*7+i/11*5+id*3)%17 - 8) }
	for _, s := range []tensor.Shape{
		tensor.Of(19, 24, 32, ci), tensor.Of(16, 24, 33, ci), tensor.Of(1, 347, 126, ci), tensor.Of(2, 345, 125, ci), tensor.Of(0, 24, 32, ci),
	} {
		for _, c := range bf16Convs {
			want := weightGrad(s, co, c, value)
			for _, set := range bf16Sets()[len(sets())-1:] {
				be := bf16Backend(set, 2)(t)
				got := products(t, be, s, co, c, value)["dw"]
				require.NoError(t, be.Close())
				tolerance := 0.0 // pairs sum small integers
				if set == set.F32() {
					// Filtering rounds, in the measure of the mean sum of magnitudes.
					tolerance = 5e-6 * 18 * float64(s.Dim(0)*s.Dim(1)*s.Dim(2))
				}
				for i, w := range want {
					require.InDelta(t, w, got[i], tolerance, "%v: %v, %+v: element %d", set, s, c, i)
				}
			}
		}
	}
}

// Bands that several threads make are those of one.
func TestBF16BandsOfThreads(t *testing.T) {
	value := func(id, i int) float32 { return float32(math.Sin(float64(i*id + id))) }
	for _, set := range bf16Sets()[len(sets())-1:] {
		for _, s := range []tensor.Shape{tensor.Of(19, 24, 32, 5), tensor.Of(1, 347, 126, 5)} {
			var want map[string][]float32
			for threads := range 3 {
				be := bf16Backend(set, threads+1)(t)
				got := products(t, be, s, 7, bf16Convs[0], value)
				require.NoError(t, be.Close())
				if threads == 0 {
					want = got
				}
				require.Equal(t, want, got, "%v: %v on %d threads", set, s, threads+1)
			}
		}
	}
}

// weightGrad is the gradient of a weight by the definition.
func weightGrad(s tensor.Shape, co int, c tensor.Conv, value func(id, i int) float32) []float64 {
	n, h, w, ci := s.Dim(0), s.Dim(1), s.Dim(2), s.Dim(3)
	oh, ow := c.OutSize(h), c.OutSize(w)
	dw := make([]float64, c.Kernel*c.Kernel*ci*co)
	for y := range n * oh {
		for x := range ow {
			for t := range c.Kernel * c.Kernel {
				iy, ix := y%oh*c.Stride+t/c.Kernel-c.PadLo, x*c.Stride+t%c.Kernel-c.PadLo
				if iy < 0 || iy >= h || ix < 0 || ix >= w {
					continue
				}
				for i := range ci {
					for o := range co {
						dw[(t*ci+i)*co+o] += float64(value(1, ((y/oh*h+iy)*w+ix)*ci+i)) * float64(value(3, (y*ow+x)*co+o))
					}
				}
			}
		}
	}
	return dw
}
