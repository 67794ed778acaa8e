package agr_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/parallel"
	"github.com/agrdist/agrdist/tensor"
)

// bytesPerParam is what clip + AGR + Adan + EMA must move: 4 in the first pass,
// 28 read and 24 written in the second.
const bytesPerParam = 56

// unet has the size of the paper's UNet: 35.7M parameters in a few hundred
// tensors, of which the convolutions hold nearly all.
func unet() ([]optim.Segment, int) {
	var segments []optim.Segment
	off := 0
	add := func(n, count int) {
		for range count {
			segments = append(segments, optim.Segment{Name: fmt.Sprint("t", len(segments)), Off: off, Len: n})
			off += (n + 15) &^ 15
		}
	}
	add(3, 1)
	add(256, 265)
	add(3*3*256*256, 48)
	add(3*3*128*256, 25)
	return segments, off
}

// BenchmarkUpdate reports the MB/s of the bytes that must move: held against
// BenchmarkInPlace it is the share of the memory's speed. The composition moves
// more than it is credited with.
func BenchmarkUpdate(b *testing.B) {
	segments, n := unet()
	c, err := optim.DefaultConfig("adan")
	require.NoError(b, err)
	w, g, ema := make([]float32, n), make([]float32, n), make([]float32, n)
	for i := range g {
		g[i] = float32(i%13) - 6
	}
	run := func(name string, build func() (agr.Pass, error)) {
		b.Run(name, func(b *testing.B) {
			p, err := build()
			require.NoError(b, err)
			u := optim.Update{Params: tensor.Floats(w), Grads: tensor.Floats(g), EMA: tensor.Floats(ema), LR: 1e-4, MaxGradNorm: 1, EMADecay: 0.9999}
			update := func() { u.T++; apply(p, u) }
			update() // the first touch of the state's memory is the kernel's time
			b.SetBytes(int64(n) * bytesPerParam)
			b.ReportAllocs()
			for b.Loop() {
				update()
			}
		})
	}
	for _, threads := range []int{1, 2} {
		pool := parallel.New(threads)
		defer pool.Close()
		for _, kernel := range agr.KernelNames() {
			run(fmt.Sprintf("fused/%s/threads=%d", kernel, threads), func() (agr.Pass, error) {
				b.Setenv("AGRDIST_CPU", kernel)
				return agr.NewPass(c, true, segments, n, pool)
			})
		}
		run(fmt.Sprintf("unfused/threads=%d", threads), func() (agr.Pass, error) {
			return agr.NewUnfusedPass(c, true, segments, n, pool)
		})
	}
}

// BenchmarkInPlace is the yardstick: x += 1, a read and a write of the same
// lines, as the pass does to six of its seven streams.
func BenchmarkInPlace(b *testing.B) {
	_, n := unet()
	for _, threads := range []int{1, 2} {
		b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) {
			pool := parallel.New(threads)
			defer pool.Close()
			x := make([]float32, n)
			blocks := optim.Blocks(optim.Whole(n))
			visit := func(i int) {
				y := x[blocks[i].Lo:blocks[i].Hi]
				for ; len(y) >= 8; y = y[8:] {
					y[0]++
					y[1]++
					y[2]++
					y[3]++
					y[4]++
					y[5]++
					y[6]++
					y[7]++
				}
			}
			pool.Run(len(blocks), visit)
			b.SetBytes(int64(n) * 8)
			for b.Loop() {
				pool.Run(len(blocks), visit)
			}
		})
	}
}
