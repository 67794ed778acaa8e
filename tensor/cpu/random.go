package cpu

import (
	"fmt"
	"math"

	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/tensor"
)

type randomArgs struct {
	dst, x    []float32
	draws     []int64
	per       int
	src       rng.Source
	threshold uint64
	keep      float32
	blocks    int // iterations a sample
}

// Normal fills dst[n,...] with the standard normal sequence of draws[n].
func (b *Backend) Normal(dst, draws tensor.Tensor, seed uint64, stream uint32) {
	const op = "Normal"
	n, per := samples(dst.Shape)
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
	if !(p >= 0 && p < 1) {
		panic(fmt.Sprintf("cpu: Dropout with p = %v", p))
	}
	n, per := samples(dst.Shape)
	want(op, "draws", draws, tensor.Of(n))
	a := randomArgs{
		dst: f32(op, dst), x: f32(op, x), draws: i64(op, draws), per: per,
		src:       rng.New(seed, rng.Stream(stream)),
		threshold: uint64(math.Round(float64(p) * (1 << 32))),
		keep:      1 / (1 - p),
		blocks:    spans(per),
	}
	b.tasks.dropout.run(b.pool, n*a.blocks, a)
}

func dropoutSpan(a *randomArgs, i int) {
	n := i / a.blocks
	lo, hi := bounds(i%a.blocks, a.per)
	d, x := a.dst[n*a.per+lo:n*a.per+hi], a.x[n*a.per+lo:n*a.per+hi]
	draw := uint64(a.draws[n])
	for j := 0; j < len(d); j += 4 {
		words := a.src.Block(draw, uint32((lo+j)/4))
		for k, w := range words[:min(4, len(d)-j)] {
			var m float32
			if uint64(w) >= a.threshold {
				m = a.keep
			}
			d[j+k] = x[j+k] * m
		}
	}
}
