package optim

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// The combination is numpy's, from explicit profiles in float64; applied to the averages
// of a training of one weight it gives what numpy's gives, and nearly the average that a
// power-function EMA would have kept.
func TestFitPowerEMA(t *testing.T) {
	text, err := os.ReadFile("testdata/posthoc.json")
	require.NoError(t, err)
	var cases []struct {
		At                                              []int64
		Decay, Length, Gamma, Residual, Power, Combined float64
		Weights, Path                                   []float64
	}
	require.NoError(t, json.Unmarshal(text, &cases))
	require.NotEmpty(t, cases)
	for _, c := range cases {
		gamma, err := PowerExponent(c.Length)
		require.NoError(t, err)
		require.InDelta(t, c.Gamma, gamma, 1e-9)
		p, err := FitPowerEMA(c.At, c.Decay, c.Length)
		require.NoError(t, err)
		require.InDelta(t, c.Residual, p.Residual, 1e-8)
		require.InDeltaSlice(t, c.Weights, p.Weights, 1e-9)
		sum := 0.0
		for _, w := range p.Weights {
			sum += w
		}
		require.InDelta(t, 1, sum, 1e-9)

		average, power, combined := c.Path[0], c.Path[0], 0.0
		next := 0
		for s := 1; s < len(c.Path); s++ {
			average += (1 - c.Decay) * (c.Path[s] - average)
			b := math.Pow(1-1/float64(s), gamma+1)
			power = b*power + (1-b)*c.Path[s]
			if c.At[next] == int64(s) {
				combined += p.Weights[next] * average
				next++
			}
		}
		require.InDelta(t, c.Power, power, 1e-9)
		require.InDelta(t, c.Combined, combined, 1e-8)
	}
	for _, bad := range []struct {
		at            []int64
		decay, length float64
	}{
		{nil, 0.9, 0.1},
		{[]int64{0, 5}, 0.9, 0.1},
		{[]int64{5, 5}, 0.9, 0.1},
		{[]int64{5}, 0, 0.1},
		{[]int64{5}, 1, 0.1},
		{[]int64{5}, 0.9, 0},
		{[]int64{5}, 0.9, 0.29},
		{[]int64{5}, 0.9, math.NaN()},
	} {
		_, err := FitPowerEMA(bad.at, bad.decay, bad.length)
		require.ErrorIs(t, err, ErrPostHoc)
		require.NotContains(t, err.Error(), "\n")
	}
}

// Stored averages that come often enough give any length well.
func TestFitPowerEMAIsClose(t *testing.T) {
	var at []int64
	for s := int64(390); s <= 7800; s += 390 {
		at = append(at, s)
	}
	p, err := FitPowerEMA(at, 0.999, 0.1)
	require.NoError(t, err)
	require.Less(t, p.Residual, 0.02)
	sparse, err := FitPowerEMA([]int64{3900, 7800}, 0.99, 0.1)
	require.NoError(t, err)
	require.Greater(t, sparse.Residual, 0.5, "and says so where they do not")
}
