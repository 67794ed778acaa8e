package optim_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/rng"
)

var rewrite = flag.Bool("rewrite", false, "rewrite testdata/bits.json")

// TestBitsOnEveryArchitecture holds the results of every optimizer, and the
// learning rate, to digests in testdata/bits.json: what amd64 computes, arm64
// and every later compiler must compute. Inputs come from package rng, which is
// integer arithmetic and exact scaling.
func TestBitsOnEveryArchitecture(t *testing.T) {
	const n, steps = 301, 14
	uniform := func(draw uint64) []float32 {
		x := make([]float32, n)
		rng.New(1, rng.StreamSample).Uniform(x, draw)
		for i := range x {
			x[i] = (x[i] - 0.5) * float32(int(1)<<(i%20)) / 1024
		}
		return x
	}
	lr := optim.LRConfig{Base: 0.02, WarmupSteps: 5, Schedule: optim.Cosine, TotalSteps: 20, Min: 1e-4}
	got := map[string]string{}
	for label, c := range variants(t) {
		o, err := optim.New(c, nil, n, nil)
		require.NoError(t, err)
		w := uniform(0)
		average := append([]float32(nil), w...)
		h := sha256.New()
		for step := int64(1); step <= steps; step++ {
			g := uniform(uint64(step))
			norm, finite := optim.NewMeter(optim.Whole(n), nil, nil).Measure(g)
			require.True(t, finite)
			rate := lr.At(step)
			o.Step(w, g, rate, step)
			optim.EMA(average, w, optim.EMAConfig{Decay: 0.999, Warmup: true}.At(step))
			require.NoError(t, binary.Write(h, binary.LittleEndian, []float64{norm, rate, optim.ClipScale(norm, 1)}))
			require.NoError(t, binary.Write(h, binary.LittleEndian, w))
			require.NoError(t, binary.Write(h, binary.LittleEndian, average))
		}
		for _, slot := range o.Slots() {
			require.NoError(t, binary.Write(h, binary.LittleEndian, slot.Float32s()))
		}
		require.Less(t, maxAbs(w), math.Inf(1))
		got[label] = hex.EncodeToString(h.Sum(nil))
	}
	const file = "testdata/bits.json"
	if *rewrite {
		raw, err := json.MarshalIndent(got, "", "  ")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, append(raw, '\n'), 0o644))
	}
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	want := map[string]string{}
	require.NoError(t, json.Unmarshal(raw, &want))
	require.Equal(t, want, got)
}

func maxAbs(x []float32) float64 {
	var m float64
	for _, v := range x {
		m = math.Max(m, math.Abs(float64(v)))
	}
	return m
}
