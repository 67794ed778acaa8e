package bench

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
)

func TestStep(t *testing.T) {
	r, err := Step(StepConfig{Preset: "digits", Batch: 2, Threads: 1, Precision: "f32", Steps: 2})
	require.NoError(t, err)
	require.Equal(t, 701345, r.Parameters)
	require.Positive(t, r.ImagesPerS)
	require.GreaterOrEqual(t, r.RSSMB, 4*3*0.7, "at least the parameters, gradients and average")
	require.InDelta(t, r.StepMillis, r.ComputeMillis+r.UpdateMillis, r.StepMillis)
	for _, bad := range []StepConfig{
		{Preset: "huge", Batch: 1, Threads: 1, Precision: "f32", Steps: 1},
		{Preset: "digits", Batch: 0, Threads: 1, Precision: "f32", Steps: 1},
		{Preset: "digits", Batch: 1, Threads: 1, Precision: "f8", Steps: 1},
	} {
		_, err := Step(bad)
		require.Error(t, err)
	}
}

func TestAllReduce(t *testing.T) {
	for _, order := range []allreduce.Order{allreduce.OrderTree, allreduce.OrderRing} {
		var got []int64
		err := AllReduce(t.Context(), AllReduceConfig{World: 3, From: 4, To: 4096, Factor: 32, Iterations: 2, Order: order}, func(r AllReduceResult) {
			require.Positive(t, r.AlgBW)
			require.InEpsilon(t, r.AlgBW*4/3, r.BusBW, 1e-9)
			got = append(got, r.Bytes)
		})
		require.NoError(t, err)
		require.Equal(t, []int64{4, 128, 4096}, got)
	}
	require.Error(t, AllReduce(t.Context(), AllReduceConfig{}, nil))
}

func TestMedian(t *testing.T) {
	require.Equal(t, 2.0, median([]float64{3, 1, 2}))
	require.Equal(t, 2.5, median([]float64{4, 1, 2, 3}))
}
