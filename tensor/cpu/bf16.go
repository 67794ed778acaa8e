package cpu

import (
	"fmt"

	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
)

// form is how the operands of a product lie in the copies made of them: padded
// images, packed panels. In a backend of precision BF16 there is always a copy,
// and making it rounds.
type form uint8

const (
	asIs    form = iota // float32; operands that need no copy have none
	rounded             // float32 with the values of bf16
	paired              // two bf16 in a float32's place, for kernel.AVX512BF16 and NEONBF16
)

// slots is how many elements of a copy hold n values that are summed over.
func (f form) slots(n int) int {
	if f == paired {
		return kernel.Pairs(n)
	}
	return n
}

// put copies values that are summed over.
func (f form) put(set kernel.Set, dst, src []float32) {
	switch f {
	case rounded:
		set.RoundBF16(dst, src)
	case paired:
		set.Pair(dst, src)
	default:
		copy(dst, src)
	}
}

// precision is the form and the kernel set of the products, for a precision and
// the sets that the configuration means for it.
func precision(dt tensor.DType, set kernel.Set) (form, kernel.Set) {
	switch {
	case dt == tensor.F32:
		return asIs, set.F32()
	case set == kernel.AVX512BF16, set == kernel.NEONBF16:
		return paired, set
	default:
		return rounded, set
	}
}

func checkPrecision(dt tensor.DType) error {
	if dt != tensor.F32 && dt != tensor.BF16 {
		return fmt.Errorf("%w: Precision is %v, want F32 or BF16", ErrConfig, dt)
	}
	return nil
}

// filtered are the operands of a convolution that goes by minimal filtering, which
// has no copies of them to round: in precision BF16, copies made for it. The
// transforms are float32's, and so far more exact than the operands.
func (b *Backend) filtered(x, y []float32) (xr, yr []float32) {
	if b.form == asIs {
		return x, y
	}
	xr, yr = b.scratch.rounded[0].get(len(x)), b.scratch.rounded[1].get(len(y))
	b.tasks.round.run(b.pool, spans(len(x)), vecArgs{set: b.set, dst: xr, x: x})
	b.tasks.round.run(b.pool, spans(len(y)), vecArgs{set: b.set, dst: yr, x: y})
	return xr, yr
}

// filters says that a convolution whose sums have so many terms goes by minimal
// filtering: pairs do not.
func (b *Backend) filters(g *geometry, terms int) bool { return b.form != paired && minimal(g, terms) }

func roundSpan(a *vecArgs, i int) {
	lo, hi := bounds(i, len(a.dst))
	a.set.RoundBF16(a.dst[lo:hi], a.x[lo:hi])
}

// pairedOperands are A [k, m] and B of a transposed matrix product in pairs.
func (b *Backend) pairedOperands(a []float32, right packing, batch, m, k int) ([]float32, panels) {
	prep := b.prepare(right, padding{}, m)
	// The rows of A, in one panel.
	left := b.newPacking(max(1, m), a, k, m, right.taps)
	left.batch, left.step, left.quads = batch, m*k, false
	left.dst = b.scratch.image.get(left.size())
	rows := prepArgs{pack: left}
	items := rows.items()
	b.tasks.prep.run(b.pool, items, rows)
	return left.dst, prep.pack.result()
}

// pairedRows is how many rows of B that lie otherwise are brought in order before
// they become pairs.
const pairedRows = 16

// pair packs a panel of B under one tap in pairs.
func (p *packing) pair(dst, src []float32, left, cols int) {
	p.pairs(dst, src, left, cols)
	if p.quads {
		clear(dst[kernel.Pairs(p.k)*p.nr:])
		p.set.Quads(dst)
	}
}

func (p *packing) pairs(dst, src []float32, left, cols int) {
	if p.straight() {
		p.pairRows(dst, src[left:], p.n, p.k, cols)
		return
	}
	var rows [pairedRows * kernel.MaxCols]float32
	for lo := 0; lo < p.k; lo += pairedRows {
		hi := min(lo+pairedRows, p.k)
		p.fill(rows[:(hi-lo)*p.nr], src, left, cols, lo, hi)
		p.pairRows(dst[lo/2*p.nr:], rows[:], p.nr, hi-lo, p.nr)
	}
}

// pairRows pairs k rows of src, ld apart; cols columns, then zeros.
func (p *packing) pairRows(dst, src []float32, ld, k, cols int) {
	if k > 1 {
		p.set.PairRows(dst, src, src[ld:], kernel.Lines{Rows: k / 2, Cols: cols, Dst: p.nr, Src: 2 * ld})
	}
	if k%2 > 0 {
		p.set.PairRows(dst[k/2*p.nr:], src[(k-1)*ld:], p.zeros, kernel.Lines{Rows: 1, Cols: cols})
	}
	if cols < p.nr {
		for i := range kernel.Pairs(k) {
			clear(dst[i*p.nr+cols : (i+1)*p.nr])
		}
	}
}
