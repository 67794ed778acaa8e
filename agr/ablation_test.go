package agr_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/tensor"
)

// ablations are all combinations of what a configuration can vary.
func ablations() (out []agr.Config) {
	for _, tensors := range []agr.Tensors{"", agr.TensorsAll, agr.TensorsVectors, agr.TensorsWeights} {
		for _, order := range []agr.Order{agr.AfterClip, agr.BeforeClip} {
			for _, scope := range []agr.Scope{agr.ScopeTensor, agr.ScopeGroup} {
				out = append(out, agr.Config{Tensors: tensors, Order: order, Scope: scope})
			}
		}
	}
	return out
}

// ablationLayout is the layout with two of its tensors vectors.
func ablationLayout() ([]optim.Segment, int) {
	segments, n := layout()
	for i := range segments {
		segments[i].Vector = segments[i].Name == "bias" || segments[i].Name == "linear"
	}
	return segments, n
}

// referenceGradient is what an optimizer sees, in float64 and straight from the words:
// clip and AGR, one after the other, in the order that is asked for.
func referenceGradient(c agr.Config, segments []optim.Segment, g []float64, maxNorm float64) (out []float64, clip float64) {
	out = slices.Clone(g)
	scale := func() {
		var sq float64
		for _, s := range segments {
			for _, v := range out[s.Off : s.Off+s.Len] {
				sq += v * v
			}
		}
		clip = math.Min(1, maxNorm/(math.Sqrt(sq)+1e-6))
		for i := range out {
			out[i] *= clip
		}
	}
	if c.Order != agr.BeforeClip {
		scale()
	}
	var group float64
	norms := make([]float64, len(segments))
	applies := func(s optim.Segment) bool {
		return c.Tensors == agr.TensorsVectors && s.Vector || c.Tensors == agr.TensorsWeights && !s.Vector || c.Tensors == agr.TensorsAll || c.Tensors == ""
	}
	for i, s := range segments {
		for _, v := range out[s.Off : s.Off+s.Len] {
			norms[i] += math.Abs(v)
		}
		if applies(s) {
			group += norms[i]
		}
	}
	for i, s := range segments {
		if !applies(s) {
			continue
		}
		norm := norms[i]
		if c.Scope == agr.ScopeGroup {
			norm = group
		}
		for j := s.Off; j < s.Off+s.Len && norm > 0; j++ {
			out[j] *= 1 - math.Abs(out[j])/norm
		}
	}
	if c.Order == agr.BeforeClip {
		scale()
	}
	return out, clip
}

// With plain SGD and a learning rate of 1 the parameters lose the gradient that the
// optimizer saw: it is the reference's, for every ablation, and no two ablations are
// the same.
func TestAblationsMatchTheWords(t *testing.T) {
	segments, n := ablationLayout()
	o, err := optim.DefaultConfig("sgdm")
	require.NoError(t, err)
	o.Momentum = 0
	const maxNorm = 20.0
	g := gradient(n, 1)
	seen := map[string]agr.Config{}
	for _, c := range ablations() {
		p, err := agr.NewPassWith(o, &c, segments, n, goroutines(2))
		require.NoError(t, err)
		want, clip := referenceGradient(c, segments, float64s(g), maxNorm)
		w := make([]float32, n)
		stats := apply(p, optim.Update{Params: tensor.Floats(w), Grads: tensor.Floats(slices.Clone(g)), LR: 1, T: 1, MaxGradNorm: maxNorm})
		require.InEpsilon(t, clip, stats.Clip, 1e-7, "%+v", c)
		require.Less(t, stats.Clip, 1.0)
		for _, s := range segments {
			for i := s.Off; i < s.Off+s.Len; i++ { // float32 rounds 1 - alpha by up to 6e-8
				require.InDelta(t, -want[i], float64(w[i]), 3e-7*clip*math.Abs(float64(g[i])), "%+v, %s, element %d", c, s.Name, i)
			}
		}
		if c.Tensors == "" {
			continue // the same as all
		}
		key := fmt.Sprint(stats.Clip, w)
		require.NotContains(t, seen, key, "%+v is %+v", c, seen[key])
		seen[key] = c
	}
}

// On every kernel and for every thread count the fused pass has the bits of the
// separate loops.
func TestAblationsFusedEqualsUnfused(t *testing.T) {
	segments, n := ablationLayout()
	o, err := optim.DefaultConfig("adan")
	require.NoError(t, err)
	j := job{decay: 0.99, clip: 1}
	for _, c := range ablations() {
		reference, err := agr.NewUnfusedPassWith(o, &c, segments, n, nil)
		require.NoError(t, err)
		want := newState(n)
		var stats []optim.Stats
		for i := int64(1); i <= 3; i++ {
			stats = append(stats, apply(reference, j.update(want, i)))
		}
		for _, kernel := range agr.KernelNames() {
			t.Setenv("AGRDIST_CPU", kernel)
			p, err := agr.NewPassWith(o, &c, segments, n, goroutines(3))
			require.NoError(t, err)
			got := newState(n)
			for i := int64(1); i <= 3; i++ {
				require.Equal(t, stats[i-1], apply(p, j.update(got, i)))
			}
			for slot, want := range bits(reference, want) {
				require.True(t, slices.Equal(want, bits(p, got)[slot]), "%+v on %s: %s", c, kernel, slot)
			}
		}
	}
}

func TestAblationRefusals(t *testing.T) {
	require.ErrorContains(t, agr.Config{Tensors: "biases"}.Validate(), `tensors is "biases", want one of all, vectors, weights`)
	require.ErrorContains(t, agr.Config{Order: "first"}.Validate(), `order is "first", want one of after_clip, before_clip`)
}
