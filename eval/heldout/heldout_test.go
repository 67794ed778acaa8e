package heldout

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/diffusion"
)

// constant are images of one value each.
type constant int

func (c constant) Name() string                        { return "constant" }
func (c constant) Len() int                            { return int(c) }
func (c constant) Size() (height, width, channels int) { return 4, 4, 1 }
func (c constant) Read(dst []float32, i int) error {
	for j := range dst {
		dst[j] = float32(i)/10 - 0.5
	}
	return nil
}

// model predicts the noise of constant images exactly, times scale; it keeps the
// timesteps that it is asked for.
type model struct {
	schedule *diffusion.Schedule
	scale    float64
	asked    []int64
	value    func(call, i int) float64 // the image behind x_t
	calls    int
}

func (m *model) Predict(dst, x []float32, t []int64) error {
	pixels := len(x) / len(t)
	for i := range t {
		s, n := m.schedule.QSampleCoefficients(int(t[i]))
		for j := i * pixels; j < (i+1)*pixels; j++ {
			dst[j] = float32(m.scale * (float64(x[j]) - s*m.value(m.calls, i)) / n)
		}
	}
	m.asked = append(m.asked, t...)
	m.calls++
	return nil
}

func process(t *testing.T) Process {
	t.Helper()
	s, err := diffusion.NewSchedule(diffusion.Linear, 1000)
	require.NoError(t, err)
	return Process{Schedule: s, Prediction: diffusion.Epsilon}
}

func TestLosses(t *testing.T) {
	p, c := process(t), Config{Strata: 4, Seed: 3, Batch: 8}
	perfect := &model{schedule: p.Schedule, scale: 1}
	perfect.value = func(call, i int) float64 { return float64((call*8+i)/4)/10 - 0.5 }
	losses, err := Losses(context.Background(), perfect, p, constant(10), c, 0, 10)
	require.NoError(t, err)
	require.Len(t, losses, 10)
	for _, l := range losses {
		require.InDelta(t, 0, l, 1e-6)
	}
	// One timestep in every part, for every image.
	for i := 0; i < len(perfect.asked); i += 4 {
		for part, at := range perfect.asked[i : i+4] {
			require.GreaterOrEqual(t, at, int64(part*250))
			require.Less(t, at, int64(part*250+250))
		}
	}
	require.NotEqual(t, perfect.asked[:4], perfect.asked[4:8], "images differ in their timesteps")

	// Predicting nothing leaves the noise itself: mean square 1.
	nothing := &model{schedule: p.Schedule, scale: 0, value: func(int, int) float64 { return 0 }}
	losses, err = Losses(context.Background(), nothing, p, constant(500), c, 0, 500)
	require.NoError(t, err)
	mean, stdErr, err := Summary(losses)
	require.NoError(t, err)
	// 64 values of variance 2 an image: its mean has deviation sqrt(2/64).
	require.InDelta(t, math.Sqrt(2.0/64/500), stdErr, 0.15*math.Sqrt(2.0/64/500))
	require.InDelta(t, 1, mean, 4*stdErr)
}

// Any cut of the images, and any batch, gives the same losses: ranks can share them.
func TestSharesAndBatches(t *testing.T) {
	p, c := process(t), Config{Strata: 4, Seed: 3, Batch: 8}
	nothing := func() *model { return &model{schedule: p.Schedule, value: func(int, int) float64 { return 0 }} }
	whole, err := Losses(context.Background(), nothing(), p, constant(10), c, 0, 10)
	require.NoError(t, err)
	c.Batch = 3
	var parts []float64
	for _, cut := range [][2]int{{0, 3}, {3, 3}, {3, 10}} {
		l, err := Losses(context.Background(), nothing(), p, constant(10), c, cut[0], cut[1])
		require.NoError(t, err)
		parts = append(parts, l...)
	}
	require.Equal(t, whole, parts)
	c.Seed++
	other, err := Losses(context.Background(), nothing(), p, constant(10), c, 0, 10)
	require.NoError(t, err)
	require.False(t, slices.Equal(whole, other))
}

// broken fails, or predicts what is not a number.
type broken struct{ err error }

func (b broken) Predict(dst, _ []float32, _ []int64) error {
	for i := range dst {
		dst[i] = float32(math.NaN())
	}
	return b.err
}

func TestFailures(t *testing.T) {
	p, c := process(t), DefaultConfig()
	failure := errors.New("no device")
	_, err := Losses(context.Background(), broken{failure}, p, constant(3), c, 0, 3)
	require.ErrorIs(t, err, failure)
	losses, err := Losses(context.Background(), broken{}, p, constant(3), c, 0, 3)
	require.NoError(t, err)
	_, _, err = Summary(losses)
	require.ErrorIs(t, err, ErrNotFinite)
	_, _, err = Summary(nil)
	require.ErrorIs(t, err, ErrNotFinite)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = Losses(ctx, broken{}, p, constant(3), c, 0, 3)
	require.ErrorIs(t, err, context.Canceled)
	c.Strata = 1001
	_, err = Losses(context.Background(), broken{}, p, constant(3), c, 0, 3)
	require.ErrorContains(t, err, "strata")
}

// classy is a model that knows the image by its class alone.
type classy struct{ model }

func (c *classy) Predict([]float32, []float32, []int64) error {
	return errors.New("called without classes")
}

func (c *classy) PredictClasses(dst, x []float32, t, labels []int64) error {
	c.value = func(_, i int) float64 { return float64(labels[i])/10 - 0.5 }
	return c.model.Predict(dst, x, t)
}

// A conditional model is told each image's class.
func TestClasses(t *testing.T) {
	p := process(t)
	p.Label = func(image int) int { return image }
	m := &classy{model{schedule: p.Schedule, scale: 1}}
	losses, err := Losses(context.Background(), m, p, constant(10), Config{Strata: 4, Seed: 3, Batch: 8}, 2, 9)
	require.NoError(t, err)
	for _, l := range losses {
		require.InDelta(t, 0, l, 1e-6)
	}
	_, err = Losses(context.Background(), &m.model, p, constant(10), DefaultConfig(), 0, 10)
	require.ErrorContains(t, err, "takes no classes")
}
