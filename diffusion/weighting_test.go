package diffusion

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWeightingsMatchReferences(t *testing.T) {
	text, err := os.ReadFile("testdata/weighting_golden.json")
	require.NoError(t, err)
	var golden struct {
		Times []int
		Cases []struct {
			Kind, Prediction string
			Gamma            float64
			Weights          []float64
		}
	}
	require.NoError(t, json.Unmarshal(text, &golden))
	require.Len(t, golden.Cases, 8)
	s := mustSchedule(t, Linear, 1000)
	for _, c := range golden.Cases {
		w := Weighting{Kind: c.Kind, Gamma: c.Gamma}
		require.NoError(t, w.Validate())
		for i, at := range golden.Times {
			require.InEpsilon(t, c.Weights[i], w.At(s, at, Prediction(c.Prediction)), 1e-9, "%+v at %d", c, at)
		}
	}
}

// One weighting is one objective whatever the network predicts: the weighted squared
// error of one mistake is the same.
func TestWeightingsAgreeOverPredictions(t *testing.T) {
	s := mustSchedule(t, Cosine, 1000)
	xt, eps, wrong := []float32{0.3}, []float32{-0.2}, []float32{0.5}
	for _, w := range []Weighting{{WeightMinSNR, 5}, {WeightP2, 1}} {
		for _, at := range []int{50, 400, 900} {
			var want float64
			for i, p := range []Prediction{Epsilon, X0, V} {
				a, b := make([]float32, 1), make([]float32, 1)
				convert(a, xt, eps, Epsilon, p, s, at)
				convert(b, xt, wrong, Epsilon, p, s, at)
				d := float64(a[0]) - float64(b[0])
				got := w.At(s, at, p) * d * d
				if i == 0 {
					want = got
				}
				require.InEpsilon(t, want, got, 1e-4, "%v %s at %d", w, p, at)
			}
		}
	}
}

func TestWeightingValidate(t *testing.T) {
	require.NoError(t, Weighting{}.Validate())
	require.NoError(t, Weighting{Kind: WeightNone}.Validate())
	require.False(t, Weighting{Kind: WeightNone}.On())
	require.InDelta(t, 1, Weighting{}.At(mustSchedule(t, Linear, 100), 3, V), 0)
	require.ErrorContains(t, Weighting{Kind: "snr", Gamma: 1}.Validate(), `train.loss_weighting is "snr"; choose one of none, min_snr, p2`)
	require.ErrorContains(t, Weighting{Kind: WeightP2}.Validate(), "train.loss_gamma is 0; it must be above 0")
}
