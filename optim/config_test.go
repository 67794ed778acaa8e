package optim_test

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/optim"
)

func TestConfigErrorsNameKeyAndChoices(t *testing.T) {
	_, err := optim.DefaultConfig("adamx")
	require.ErrorIs(t, err, optim.ErrConfig)
	require.ErrorContains(t, err, `name is "adamx", want one of adan, adam, adamw, rmsprop, acprop, sgdm, lion`)
	nan := math.NaN()
	for _, tc := range []struct {
		name   string
		change func(c *optim.Config)
		want   string
	}{
		{"adan", func(c *optim.Config) { c.Beta3 = 1 }, "beta3 of adan is 1, want 0 <= beta3 < 1"},
		{"adam", func(c *optim.Config) { c.Beta1 = nan }, "beta1 of adam is NaN"},
		{"adam", func(c *optim.Config) { c.Eps = 1e-60 }, "eps of adam is 1e-60, want more than 0 in float32"},
		{"adam", func(c *optim.Config) { c.LR = -1 }, "lr of adam is -1, want 0 or more"},
		{"adamw", func(c *optim.Config) { c.WeightDecay = math.Inf(1) }, "weight_decay of adamw is +Inf"},
		{"adamw", func(c *optim.Config) { c.Momentum = 0.9 }, "adamw takes no momentum, it takes lr, weight_decay, beta1, beta2, eps"},
		{"lion", func(c *optim.Config) { c.Rectify = true }, "lion takes no rectify"},
		{"rmsprop", func(c *optim.Config) { c.Alpha = -0.1 }, "alpha of rmsprop is -0.1"},
		{"sgdm", func(c *optim.Config) { c.Nesterov, c.Dampening = true, 0.1 }, "nesterov needs momentum above 0 and dampening 0"},
	} {
		c, err := optim.DefaultConfig(tc.name)
		require.NoError(t, err)
		tc.change(&c)
		err = c.Validate()
		require.ErrorIs(t, err, optim.ErrConfig)
		require.ErrorContains(t, err, tc.want)
		_, err = optim.New(c, nil, 1, nil)
		require.ErrorIs(t, err, optim.ErrConfig)
	}
	all := optim.Config{Name: "adam", LR: -1, Beta1: 2, Nesterov: true}
	require.Len(t, strings.Split(all.Validate().Error(), "\n"), 5, "every fault is reported: %v", all.Validate())
}

func TestSegments(t *testing.T) {
	c, err := optim.DefaultConfig("adam")
	require.NoError(t, err)
	for _, tc := range []struct {
		name     string
		segments []optim.Segment
		want     string
	}{
		{"overlap", []optim.Segment{{Name: "a", Off: 0, Len: 10}, {Name: "b", Off: 9, Len: 2}}, `"b" (number 1) starts at 9`},
		{"order", []optim.Segment{{Name: "a", Off: 16, Len: 2}, {Name: "b", Off: 0, Len: 2}}, `"b" (number 1) starts at 0`},
		{"end", []optim.Segment{{Name: "a", Off: 90, Len: 11}}, "elements 90 to 101 of a buffer of 100"},
		{"overflow", []optim.Segment{{Name: "a", Off: 90, Len: math.MaxInt}}, `"a"`},
		{"negative", []optim.Segment{{Name: "a", Off: 0, Len: -1}}, "length -1"},
	} {
		_, err := optim.New(c, tc.segments, 100, nil)
		require.ErrorIs(t, err, optim.ErrSegments, tc.name)
		require.ErrorContains(t, err, tc.want, tc.name)
	}
}
