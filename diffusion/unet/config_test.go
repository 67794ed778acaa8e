package unet_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/tensor/cpu"
)

func TestConfigValidate(t *testing.T) {
	for name, c := range map[string]unet.Config{"cifar10": unet.CIFAR10(), "digits": unet.Digits(), "odd": oddConfig()} {
		require.NoError(t, c.Validate(), name)
	}
	for want, change := range map[string]func(c *unet.Config){
		"sample size is 0":                 func(c *unet.Config) { c.SampleSize = 0 },
		"sample size 10 is not a multiple": func(c *unet.Config) { c.SampleSize = 10 },
		"input channels is -1":             func(c *unet.Config) { c.InChannels = -1 },
		"output channels":                  func(c *unet.Config) { c.OutChannels = 1 << 30 },
		"0 levels":                         func(c *unet.Config) { c.BlockOutChannels = nil },
		"channels of level 1 is 0":         func(c *unet.Config) { c.BlockOutChannels = []int{4, 0, 4} },
		"even number":                      func(c *unet.Config) { c.BlockOutChannels = []int{5, 8, 4} },
		"5 channels do not divide":         func(c *unet.Config) { c.BlockOutChannels = []int{4, 5, 4} },
		"layers per block":                 func(c *unet.Config) { c.LayersPerBlock = 0 },
		"attention at level 3 of 3":        func(c *unet.Config) { c.AttentionLevels = []int{3} },
		"attention at level 1 is listed":   func(c *unet.Config) { c.AttentionLevels = []int{1, 1} },
		"do not divide into 3 norm groups": func(c *unet.Config) { c.NormNumGroups = 3 },
		"norm epsilon":                     func(c *unet.Config) { c.NormEps = 0 },
		"dropout is 1":                     func(c *unet.Config) { c.Dropout = 1 },
		"dropout is -0.1":                  func(c *unet.Config) { c.Dropout = -0.1 },
		"downsample padding is 2":          func(c *unet.Config) { c.DownsamplePadding = 2 },
		"heads of 3":                       func(c *unet.Config) { c.AttentionHeadDim = 3 },
		"head size is -1":                  func(c *unet.Config) { c.AttentionHeadDim = -1 },
		"frequency shift 2":                func(c *unet.Config) { c.FreqShift = 2 },
		"frequency shift is -1":            func(c *unet.Config) { c.FreqShift = -1 },
	} {
		c := oddConfig()
		change(&c)
		err := c.Validate()
		require.ErrorIs(t, err, unet.ErrConfig, want)
		require.ErrorContains(t, err, want)
		be := cpu.New(cpu.Config{Threads: 1})
		_, err = unet.New(be, c)
		require.ErrorIs(t, err, unet.ErrConfig)
		require.NoError(t, be.Close())
	}
	c := oddConfig()
	c.Dropout, c.NormEps, c.SampleSize = 2, -1, 0
	require.Len(t, strings.Split(c.Validate().Error(), "\n"), 3, "every fault is named")
}

// The channel counts that Validate holds against the groups are those of the norms
// that the model has.
func TestNormChannels(t *testing.T) {
	for name, c := range map[string]unet.Config{"cifar10": unet.CIFAR10(), "digits": unet.Digits(), "odd": oddConfig()} {
		seen := map[int]bool{}
		m := newModel(t, newCPU(t, 1), c)
		for _, p := range m.Params().List() {
			if strings.Contains(p.Name, "norm") {
				seen[p.Len] = true
			}
		}
		var got []int
		for n := range seen {
			got = append(got, n)
		}
		require.ElementsMatch(t, c.NormChannels(), got, name)
	}
}
