package agr_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/tensor"
)

var rewrite = flag.Bool("rewrite", false, "rewrite testdata/bits.json")

// TestBitsOnEveryArchitecture holds the pass, on every kernel, to digests in
// testdata/bits.json: what amd64 computes, arm64 and every later compiler must
// compute. Inputs come from package rng, which is integer arithmetic and exact
// scaling.
func TestBitsOnEveryArchitecture(t *testing.T) {
	segments, n := layout()
	uniform := func(draw uint64) []float32 {
		x := make([]float32, n)
		rng.New(2, rng.StreamSample).Uniform(x, draw)
		for i := range x {
			x[i] = (x[i] - 0.5) * float32(int(1)<<(i%20)) / 1024
		}
		return x
	}
	const file = "testdata/bits.json"
	got := map[string]string{}
	for label, a := range map[string]*agr.Config{
		"none": nil, "paper": {}, "keep": {ScalarTensors: agr.ScalarKeep}, "group": {Scope: agr.ScopeGroup},
	} {
		for _, kernel := range agr.KernelNames() {
			t.Setenv("AGRDIST_CPU", kernel)
			c, err := optim.DefaultConfig("adan")
			require.NoError(t, err)
			c.WeightDecay = 0.1
			p, err := agr.NewPassWith(c, a, segments, n, goroutines(2))
			require.NoError(t, err)
			s := state{params: uniform(0), ema: uniform(0)}
			h := sha256.New()
			for i := int64(1); i <= 5; i++ {
				stats := apply(p, optim.Update{
					Params: tensor.Floats(s.params), Grads: tensor.Floats(uniform(uint64(i))), EMA: tensor.Floats(s.ema),
					LR: 0.01, T: i, MaxGradNorm: 1000, EMADecay: 0.99,
				})
				require.NoError(t, binary.Write(h, binary.LittleEndian, []float64{stats.GradNorm, stats.Clip}))
			}
			for _, slot := range append(p.Slots(), optim.Slot{Name: "", Data: tensor.Floats(s.params)}, optim.Slot{Name: "", Data: tensor.Floats(s.ema)}) {
				require.NoError(t, binary.Write(h, binary.LittleEndian, slot.Float32s()))
			}
			digest := hex.EncodeToString(h.Sum(nil))
			if got[label] == "" {
				got[label] = digest
			}
			require.Equal(t, got[label], digest, "%s on %s", label, kernel)
		}
	}
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
