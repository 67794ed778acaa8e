package tensortest

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/tensor"
)

// operand is an input: F32 values, or I64 values where i is set.
type operand struct {
	shape tensor.Shape
	f     []float32
	i     []int64
}

// result is an output. It starts as NaN, or as the values of input starts-1.
// mayBe lists the inputs whose buffer it may be.
type result struct {
	shape  tensor.Shape
	starts int
	mayBe  []int
}

// testCase is one call of one operation.
type testCase struct {
	name string
	in   []operand
	out  []result
	run  func(be tensor.Backend, in, out []tensor.Tensor)
	// want is the reference: the outputs for the inputs, in float64. It may leave
	// out the last outputs, whose content is the backend's own affair.
	want func(in [][]float64) [][]float64
	// reference is want on the case's inputs, evaluated once.
	reference func() [][]float64
	// numeric, where set, is want by finite differences of the forward
	// reference.
	numeric func(in [][]float64) [][]float64
	// tol is the error allowed to an F32 backend, relative to the largest
	// magnitude of the output. Zero means equality with the reference rounded to
	// F32.
	tol float64
	// relative makes tol one of each element's own magnitude.
	relative bool
	// multiplies are the inputs whose products the first output sums: a backend of
	// another precision rounds them (Options.Operands).
	multiplies []int
	// normal marks Gaussian output, where Options.NormalULP applies.
	normal bool
	// missing, where set, says that the backend does not have the operation.
	missing func(be tensor.Backend) bool
}

// Tolerances of F32 arithmetic.
const (
	tolElement = 1e-6 // a handful of roundings
	tolSum     = 1e-5 // a long sum
)

// shape is short for tensor.Of.
func shape(dims ...int) tensor.Shape { return tensor.Of(dims...) }

// dataSeed makes the operands of all cases.
const dataSeed = 20

// values returns standard normal test data; different ids give different data.
func values(id int, dims ...int) operand {
	s := shape(dims...)
	f := make([]float32, s.Len())
	rng.New(dataSeed, rng.StreamNoise).Normal(f, uint64(id))
	return operand{shape: s, f: f}
}

// mapped returns the operand with f applied to every value.
func (o operand) mapped(f func(v float32) float32) operand {
	for i, v := range o.f {
		o.f[i] = f(v)
	}
	return o
}

// with returns the operand with one value replaced.
func (o operand) with(index int, v float32) operand {
	o.f[index] = v
	return o
}

// integers is an I64 operand.
func integers(v ...int64) operand { return operand{shape: shape(len(v)), i: v} }

// float64s returns the operand's values as the references want them.
func (o operand) float64s() []float64 {
	out := make([]float64, o.shape.Len())
	for i := range out {
		if o.i != nil {
			out[i] = float64(o.i[i])
		} else {
			out[i] = float64(o.f[i])
		}
	}
	return out
}

// float64s are the case's inputs as the references want them.
func (c *testCase) float64s() [][]float64 {
	in := make([][]float64, len(c.in))
	for i, o := range c.in {
		in[i] = o.float64s()
	}
	return in
}

// expected is the reference for a backend that rounds the inputs of matmuls and convolutions.
func (c *testCase) expected(operands tensor.DType) [][]float64 {
	want := c.reference()
	if operands == tensor.F32 || len(c.multiplies) == 0 {
		return want
	}
	in := c.float64s()
	for _, i := range c.multiplies {
		for j, v := range c.in[i].f {
			in[i][j] = float64(bf16(v))
		}
	}
	return append(c.want(in)[:1], want[1:]...)
}

// bf16 rounds to the nearest bf16, ties to even.
func bf16(v float32) float32 {
	u := math.Float32bits(v)
	if v != v {
		return v
	}
	return math.Float32frombits((u + 0x7fff + u>>16&1) &^ 0xffff)
}

// variant says which output shares which input's buffer; -1, -1 for none.
type variant struct{ out, in int }

func (c *testCase) variants() []variant {
	v := []variant{{-1, -1}}
	for o, r := range c.out {
		for _, i := range r.mayBe {
			v = append(v, variant{o, i})
		}
	}
	return v
}

func (v variant) String() string {
	if v.out < 0 {
		return "apart"
	}
	return fmt.Sprintf("out%d=in%d", v.out, v.in)
}

// guard is the number of elements on each side of an operand.
const guard = 64

// guardValue is a NaN that no arithmetic makes.
var guardValue = math.Float32frombits(0x7fc0_beef)

// region is an operand's buffer and the allocation around it.
type region struct {
	whole, view tensor.Buffer
	host        []float32
}

func newRegion(tb testing.TB, be tensor.Backend, n int) *region {
	tb.Helper()
	whole, err := be.Alloc(tensor.F32, n+2*guard)
	require.NoError(tb, err)
	return &region{whole: whole, view: be.Slice(whole, guard, n), host: make([]float32, n+2*guard)}
}

// fill uploads the values, or NaN where there are none, and the guards.
func (r *region) fill(be tensor.Backend, values []float32) {
	for i := range r.host {
		r.host[i] = guardValue
	}
	copy(r.host[guard:], values)
	be.Upload(r.whole, r.host)
}

// read downloads the values and checks the guards.
func (r *region) read(tb testing.TB, be tensor.Backend) []float32 {
	tb.Helper()
	require.NoError(tb, be.Download(r.host, r.whole))
	n := len(r.host) - guard
	for i, v := range r.host {
		if (i < guard || i >= n) && math.Float32bits(v) != math.Float32bits(guardValue) {
			require.FailNow(tb, "write outside of a result", "element %d of %d became %v", i-guard, n-guard, v)
		}
	}
	return append([]float32(nil), r.host[guard:n]...)
}

// prepared is a case with its operands on a backend.
type prepared struct {
	c       *testCase
	v       variant
	be      tensor.Backend
	regions []*region // of the inputs, nil for I64, then of the outputs
	in, out []tensor.Tensor
}

func (c *testCase) prepare(tb testing.TB, be tensor.Backend, v variant) *prepared {
	tb.Helper()
	p := &prepared{c: c, v: v, be: be}
	for _, o := range c.in {
		if o.i != nil {
			buf, err := be.Alloc(tensor.I64, len(o.i))
			require.NoError(tb, err)
			tb.Cleanup(func() { be.Free(buf) })
			be.UploadInt64(buf, o.i)
			p.regions = append(p.regions, nil)
			p.in = append(p.in, tensor.Tensor{Buf: buf, Shape: o.shape})
			continue
		}
		p.add(tb, &p.in, o.shape)
	}
	for i, r := range c.out {
		if i == v.out {
			p.regions = append(p.regions, p.regions[v.in])
			p.out = append(p.out, p.in[v.in].View(r.shape))
			continue
		}
		p.add(tb, &p.out, r.shape)
	}
	return p
}

func (p *prepared) add(tb testing.TB, list *[]tensor.Tensor, s tensor.Shape) {
	tb.Helper()
	r := newRegion(tb, p.be, s.Len())
	tb.Cleanup(func() { p.be.Free(r.whole) })
	p.regions = append(p.regions, r)
	*list = append(*list, tensor.Tensor{Buf: r.view, Shape: s})
}

// run uploads the operands, calls the operation and downloads the results.
// Inputs that no result shares must come back unchanged.
func (p *prepared) run(tb testing.TB) [][]float32 {
	tb.Helper()
	for i, r := range p.regions {
		switch {
		case r == nil:
		case i < len(p.in):
			r.fill(p.be, p.c.in[i].f)
		case i-len(p.in) != p.v.out:
			r.fill(p.be, p.initial(i-len(p.in)))
		}
	}
	p.c.run(p.be, p.in, p.out)
	got := make([][]float32, len(p.out))
	for i := range p.out {
		got[i] = p.regions[len(p.in)+i].read(tb, p.be)
	}
	for i, o := range p.c.in {
		if p.regions[i] != nil && i != p.v.in {
			requireBits(tb, o.f, p.regions[i].read(tb, p.be), "input %d was written", i)
		}
	}
	return got
}

func (p *prepared) initial(out int) []float32 {
	r := p.c.out[out]
	if r.starts > 0 {
		return p.c.in[r.starts-1].f
	}
	poison := make([]float32, r.shape.Len())
	for i := range poison {
		poison[i] = guardValue
	}
	return poison
}
