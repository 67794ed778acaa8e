package eval

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/eval/npz"
)

// golden is what testdata/golden.py computed with torch-fidelity, pytorch-fid and
// prdc.
type golden struct {
	FID         float64 `json:"fid"`
	FIDFew      float64 `json:"fid_few"`
	KIDMean     float64 `json:"kid_mean"`
	KIDStd      float64 `json:"kid_std"`
	ISMean      float64 `json:"is_mean"`
	ISStd       float64 `json:"is_std"`
	Precision   float64 `json:"precision"`
	Recall      float64 `json:"recall"`
	Density     float64 `json:"density"`
	Coverage    float64 `json:"coverage"`
	Permutation []int   `json:"permutation"`
}

func readGolden(t *testing.T) (g golden, generated, reference, logits Features) {
	t.Helper()
	text, err := os.ReadFile("testdata/golden.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &g))
	f, err := npz.Open("testdata/features.npz")
	require.NoError(t, err)
	defer f.Close()
	return g, readFeatures(t, f, "generated"), readFeatures(t, f, "reference"), readFeatures(t, f, "logits")
}

func readFeatures(t *testing.T, f *npz.File, name string) Features {
	t.Helper()
	a, err := f.Open(name)
	require.NoError(t, err)
	defer a.Close()
	values := make([]float64, a.Len())
	require.NoError(t, a.Read(values))
	x := Features{Dim: a.Shape[1], Data: make([]float32, len(values))}
	for i, v := range values {
		x.Data[i] = float32(v)
	}
	return x
}

func statisticsOf(t *testing.T, f Features) Statistics {
	t.Helper()
	m := NewMoments(f.Dim)
	m.Add(f.Data)
	s, err := m.Statistics()
	require.NoError(t, err)
	return s
}

func TestGoldenFrechet(t *testing.T) {
	want, generated, reference, _ := readGolden(t)
	g, r := statisticsOf(t, generated), statisticsOf(t, reference)
	fid, err := Frechet(g, r)
	require.NoError(t, err)
	require.InDelta(t, want.FID, fid, 1e-9*want.FID)
	back, err := Frechet(r, g)
	require.NoError(t, err)
	require.InDelta(t, fid, back, 1e-9*fid)

	few := Features{Dim: generated.Dim, Data: generated.Data[:10*generated.Dim]}
	fid, err = Frechet(statisticsOf(t, few), r)
	require.NoError(t, err)
	require.InDelta(t, want.FIDFew, fid, 1e-3, "a singular covariance; pytorch-fid adds 1e-6")

	self, err := Frechet(r, r)
	require.NoError(t, err)
	require.InDelta(t, 0, self, 1e-9)
}

func TestGoldenStatisticsFile(t *testing.T) {
	_, _, reference, _ := readGolden(t)
	f, err := npz.Open("testdata/statistics.npz")
	require.NoError(t, err)
	defer f.Close()
	published, err := ReadStatistics(f)
	require.NoError(t, err)
	own := statisticsOf(t, reference)
	require.InDeltaSlice(t, published.Mu, own.Mu, 1e-12)
	for i := range own.Mu {
		for j := range own.Mu {
			require.InDelta(t, published.Sigma.At(i, j), own.Sigma.At(i, j), 1e-11)
		}
	}

	var out bytes.Buffer
	require.NoError(t, WriteStatistics(&out, own))
	again, err := npz.New(bytes.NewReader(out.Bytes()), int64(out.Len()))
	require.NoError(t, err)
	read, err := ReadStatistics(again)
	require.NoError(t, err)
	require.Equal(t, own, read)
}

func TestGoldenKID(t *testing.T) {
	want, generated, reference, _ := readGolden(t)
	require.Equal(t, want.Permutation, newRandomState(2020).permutation(300)[:len(want.Permutation)])
	mean, std, err := KID(generated, reference, KIDConfig{Subsets: 20, SubsetSize: 100, Seed: 2020})
	require.NoError(t, err)
	require.InDelta(t, want.KIDMean, mean, 1e-9*want.KIDMean)
	require.InDelta(t, want.KIDStd, std, 1e-9*want.KIDStd)
}

func TestGoldenScore(t *testing.T) {
	want, _, _, logits := readGolden(t)
	s, err := NewScore(logits.Len(), DefaultSplits, logits.Dim)
	require.NoError(t, err)
	s.Add(logits.Data)
	mean, std, err := s.Result()
	require.NoError(t, err)
	require.InDelta(t, want.ISMean, mean, 1e-9)
	require.InDelta(t, want.ISStd, std, 1e-9)
}

func TestGoldenPrecisionRecall(t *testing.T) {
	want, generated, reference, _ := readGolden(t)
	got, err := PrecisionRecall(generated, reference, DefaultPRConfig())
	require.NoError(t, err)
	require.InDelta(t, want.Precision, got.Precision, 1e-6)
	require.InDelta(t, want.Recall, got.Recall, 1e-6)
	require.InDelta(t, want.Density, got.Density, 1e-6)
	require.InDelta(t, want.Coverage, got.Coverage, 1e-6)
}
