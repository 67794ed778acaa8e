package cpu

import (
	"fmt"
	"math"

	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
	"github.com/agrdist/agrdist/tensor/internal/shapes"
)

type randomArgs struct {
	set    kernel.Set
	dst, x []float32
	draws  []int64
	per    int
	src    rng.Source  // of Normal
	mask   kernel.Mask // of Dropout
	blocks int         // iterations a sample
}

// Normal fills dst[n,...] with the standard normal sequence of draws[n].
func (b *Backend) Normal(dst, draws tensor.Tensor, seed uint64, stream uint32) {
	const op = "Normal"
	n, per := shapes.Samples(dst.Shape)
	want(op, "draws", draws, tensor.Of(n))
	b.tasks.normal.run(b.pool, n, randomArgs{
		dst: f32(op, dst), draws: i64(op, draws), per: per, src: rng.New(seed, rng.Stream(stream)),
	})
}

func normalOne(a *randomArgs, n int) {
	a.src.Normal(a.dst[n*a.per:][:a.per], uint64(a.draws[n]))
}

// Dropout is dst = x m/(1-p); element j of a sample is kept when word j of its
// sequence is >= round(p 2^32).
func (b *Backend) Dropout(dst, x, draws tensor.Tensor, p float32, seed uint64, stream uint32) {
	const op = "Dropout"
	same(op, dst, x)
	n, per := shapes.Samples(dst.Shape)
	want(op, "draws", draws, tensor.Of(n))
	a := randomArgs{
		set: b.set, dst: f32(op, dst), x: f32(op, x), draws: i64(op, draws), per: per, blocks: spans(per),
		mask: newMask(op, p, seed, stream),
	}
	b.tasks.dropout.run(b.pool, n*a.blocks, a)
}

// newMask is the mask of Dropout, of no draw yet.
func newMask(op string, p float32, seed uint64, stream uint32) kernel.Mask {
	if !(p >= 0 && p < 1) {
		panic(fmt.Sprintf("cpu: %s with p = %v", op, p))
	}
	m := kernel.Mask{
		Stream: stream,
		Limit:  uint32(math.Round(float64(p) * (1 << 32))), // p < 1 in float32: below 2^32
		Keep:   1 / (1 - p),
	}
	m.SetKey(seed)
	return m
}

func dropoutSpan(a *randomArgs, i int) {
	n := i / a.blocks
	lo, hi := bounds(i%a.blocks, a.per)
	mask := a.mask
	draw := uint64(a.draws[n])
	mask.Block, mask.Draw = uint32(lo/4), [2]uint32{uint32(draw), uint32(draw >> 32)}
	a.set.Dropout(a.dst[n*a.per+lo:n*a.per+hi], a.x[n*a.per+lo:n*a.per+hi], &mask)
}
