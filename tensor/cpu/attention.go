package cpu

import (
	"fmt"

	"github.com/agrdist/agrdist/internal/portable"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
)

var _ tensor.Attention = (*Backend)(nil)

// attention is softmax(scale q k') v without the scores of all queries in memory
// (Dao et al., arXiv 2205.14135, without the rescaling: the scores of a block of
// queries fit the cache whole). One iteration is a sample, a head and a part of the
// queries; what it works on, the keys in panels and the scores, is its thread's.
//
// Every row of a result is summed over the keys in their order, and a gradient of
// keys or values over the queries in theirs, whatever the blocks.
type attention struct {
	set          kernel.Set
	scores       kernel.Shape // of the products with a column for each key
	values       kernel.Shape // and for each channel of a head
	y, lse       []float32
	q, k, v      []float32
	dq, dk, dv   []float32 // of the gradient
	dy           []float32
	l, c         int
	heads, width int // width is the channels of a head
	scale        float32
	parts, per   int // of the queries of a head: how many, and queries of each
	ld           int // of a row of scores
	slots        chan int
	slot         []float32
}

// queryBlock is how many queries' scores are in memory at a time: whole tiles of
// any shape. It changes no bit of a result but for the sums of dk and dv, which
// take a block in the tile and then the next.
const queryBlock = 96

func (b *Backend) newAttention(op string, y, lse, q, k, v tensor.Tensor, heads int, scale float32) attention {
	rank(op, "q", q, 3)
	same(op, k, q)
	same(op, v, q)
	same(op, y, q)
	n, l, c := q.Shape.Dim(0), q.Shape.Dim(1), q.Shape.Dim(2)
	if heads < 1 || c%heads != 0 {
		panic(fmt.Sprintf("cpu: %s of %v with %d heads", op, q.Shape, heads))
	}
	want(op, "lse", lse, tensor.Of(n, heads, l))
	return attention{
		set: b.set, scores: b.set.Shape(l), values: b.set.Shape(c / heads),
		y: f32(op, y), lse: f32(op, lse), q: f32(op, q), k: f32(op, k), v: f32(op, v),
		l: l, c: c, heads: heads, width: c / heads, scale: scale, parts: 1, per: l,
		ld: (l+15)/16*16 + apart, slots: b.slots,
	}
}

// Attention is y = softmax(scale q k') v for each head, and in lse the logarithm of
// the sum of exp(scale q k').
func (b *Backend) Attention(y, lse, q, k, v tensor.Tensor, heads int, scale float32) {
	a := b.newAttention("Attention", y, lse, q, k, v, heads, scale)
	// Parts of a head repeat the packing of its keys: no more than keep the
	// threads busy.
	all := q.Shape.Dim(0) * heads
	blocks := (a.l + queryBlock - 1) / queryBlock
	a.parts = max(1, min(blocks, (b.pool.Threads()+all-1)/max(1, all)))
	a.per = (blocks + a.parts - 1) / a.parts * queryBlock
	a.slot = b.scratch.slots.get(b.pool.Threads() * a.slotFloats(1))
	b.tasks.attention.run(b.pool, all*a.parts, a)
}

// AttentionGrad is the gradient of Attention: the probabilities are computed again
// from q, k and lse, which spares y.
func (b *Backend) AttentionGrad(dq, dk, dv, dy, y, lse, q, k, v tensor.Tensor, heads int, scale float32) {
	const op = "AttentionGrad"
	a := b.newAttention(op, y, lse, q, k, v, heads, scale)
	for _, t := range []tensor.Tensor{dq, dk, dv, dy} {
		same(op, t, q)
	}
	a.dq, a.dk, a.dv, a.dy = f32(op, dq), f32(op, dk), f32(op, dv), f32(op, dy)
	a.slot = b.scratch.slots.get(b.pool.Threads() * a.slotFloats(2))
	b.tasks.attentionGrad.run(b.pool, q.Shape.Dim(0)*heads, a)
}

// panelFloats is the size of keys or values in panels.
func (a *attention) panelFloats() int {
	nr := a.scores.Cols
	return (a.l + nr - 1) / nr * nr * a.width
}

func (a *attention) scoreFloats() int { return min(queryBlock, a.l) * a.ld }

// slotFloats is the memory of an item under way: one operand in panels and one block
// of scores, or two of each.
func (a *attention) slotFloats(each int) int {
	return (each*(a.panelFloats()+a.scoreFloats()) + 15) / 16 * 16
}

// pack transposes a head's keys or values to panels of [width][nr], filled up with
// zeros.
func (a *attention) pack(dst, src []float32) {
	nr := a.scores.Cols
	for left := 0; left < a.l; left += nr {
		panel, keys := dst[left*a.width:][:nr*a.width], min(nr, a.l-left)
		if keys < nr {
			clear(panel)
		}
		a.set.Transpose(panel, nr, src[left*a.c:], a.c, keys, a.width)
	}
}

// matrix is rows of memory at a distance ld.
type matrix struct {
	data []float32
	ld   int
}

// rows is the matrix from row r on.
func (m matrix) rows(r int) matrix { return matrix{m.data[r*m.ld:], m.ld} }

// multiply is dst = x y, [rows, n] = [rows, k] [k, n]; column panels of y are panel
// floats apart.
func multiply(shape kernel.Shape, dst, x, y matrix, panel, rows, k, n int) {
	mr, nr := shape.Rows, shape.Cols
	var tap [1]int
	var arow, crow [kernel.MaxRows]int
	t := kernel.Tile{Tap: tap[:], K: k, LDB: y.ld, Fresh: true}
	for p := 0; p*nr < n; p++ {
		t.B = y.data[p*panel:]
		t.Cols = min(nr, n-p*nr)
		for r := 0; r < rows; r += mr {
			t.Rows = min(mr, rows-r)
			for i := range mr {
				arow[i], crow[i] = min(i, t.Rows-1)*x.ld, i*dst.ld
			}
			t.A, t.C = x.data[r*x.ld:], dst.data[r*dst.ld+p*nr:]
			t.ARow, t.CRow = arow[:mr], crow[:t.Rows]
			shape.NN(&t)
		}
	}
}

// multiplyT is dst = [dst +] x' y, [m, n] = [rows, m]' [rows, n].
func multiplyT(shape kernel.Shape, dst, x, y matrix, rows, m, n int, fresh bool) {
	mr, nr := shape.Rows, shape.Cols
	var zero [1]int
	t := kernel.TileT{
		ASeg: zero[:], BSeg: zero[:], P: rows, AStep: x.ld, BStep: y.ld, LDC: dst.ld, Fresh: fresh,
	}
	for left := 0; left < n; left += nr {
		t.B, t.Cols = y.data[left:], min(nr, n-left)
		for i := 0; i < m; i += mr {
			t.A, t.C, t.Rows = x.data[i:], dst.data[i*dst.ld+left:], min(mr, m-i)
			shape.TN(&t)
		}
	}
}

// attentionHead is an item under way: a head's matrices, from the first query or key
// on, and its thread's memory.
type attentionHead struct {
	*attention
	at   int // of the head's first element
	lse  []float32
	free []float32
}

// begin finds the head of an item; the memory of slot is its thread's.
func (a *attention) begin(i, slot, floats int) attentionHead {
	n, head := i/a.heads, i%a.heads
	return attentionHead{
		attention: a, at: n*a.l*a.c + head*a.width, lse: a.lse[i*a.l:][:a.l],
		free: a.slot[slot*floats:][:floats],
	}
}

// head is an operand [L, C] of this head.
func (h *attentionHead) head(data []float32) matrix { return matrix{data[h.at:], h.c} }

// take cuts n floats off the memory.
func (h *attentionHead) take(n int) []float32 {
	m := h.free[:n]
	h.free = h.free[n:]
	return m
}

// rows is some queries' scores for the kernels, in place.
func (a *attention) rows(m matrix, rows int) kernel.Rows {
	return kernel.Rows{X: m.data, Dst: m.data, Rows: rows, Cols: a.l, LD: m.ld, Scale: a.scale}
}

func attentionItem(a *attention, i int) {
	part, i := i%a.parts, i/a.parts
	slot := <-a.slots
	h := a.begin(i, slot, a.slotFloats(1))
	keys := matrix{h.take(a.panelFloats()), a.scores.Cols}
	scores := matrix{h.take(a.scoreFloats()), a.ld}
	a.pack(keys.data, h.head(a.k).data)
	var sum [queryBlock]float32
	for lo := part * a.per; lo < min((part+1)*a.per, a.l); lo += queryBlock {
		rows := min(queryBlock, a.l-lo)
		multiply(a.scores, scores, h.head(a.q).rows(lo), keys, a.scores.Cols*a.width, rows, a.width, a.l)
		lse := h.lse[lo : lo+rows]
		t := a.rows(scores, rows)
		t.Top, t.Sum = lse, sum[:]
		a.set.SoftmaxRows(&t)
		for r := range lse {
			lse[r] += float32(portable.Log(float64(sum[r])))
		}
		multiply(a.values, h.head(a.y).rows(lo), scores, h.head(a.v), a.values.Cols, rows, a.l, a.width)
	}
	a.slots <- slot
}

// attentionGradItem: with p = softmax(scale q k') and dp = dy v', dv = p' dy,
// ds = scale p (dp - sum(dp p)), dq = ds k and dk = ds' q. The rounding of lse is
// taken out of p again by its sum.
func attentionGradItem(a *attention, i int) {
	slot := <-a.slots
	h := a.begin(i, slot, a.slotFloats(2))
	keys := matrix{h.take(a.panelFloats()), a.scores.Cols}
	values := matrix{h.take(a.panelFloats()), a.scores.Cols}
	p, ds := matrix{h.take(a.scoreFloats()), a.ld}, matrix{h.take(a.scoreFloats()), a.ld}
	a.pack(keys.data, h.head(a.k).data)
	a.pack(values.data, h.head(a.v).data)
	panel := a.scores.Cols * a.width
	var sum [queryBlock]float32
	for lo := 0; lo < a.l; lo += queryBlock {
		rows := min(queryBlock, a.l-lo)
		q, dy := h.head(a.q).rows(lo), h.head(a.dy).rows(lo)
		multiply(a.scores, p, q, keys, panel, rows, a.width, a.l)
		multiply(a.scores, ds, dy, values, panel, rows, a.width, a.l)
		t := a.rows(p, rows)
		t.Y, t.Top, t.Sum = ds.data, h.lse[lo:], sum[:]
		a.set.SoftmaxGradRows(&t)
		multiplyT(a.values, h.head(a.dv), p, dy, rows, a.l, a.width, lo == 0)
		multiplyT(a.values, h.head(a.dk), ds, q, rows, a.l, a.width, lo == 0)
		multiply(a.values, h.head(a.dq).rows(lo), ds, h.head(a.k), a.values.Cols, rows, a.l, a.width)
	}
	a.slots <- slot
}
