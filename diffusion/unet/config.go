package unet

import (
	"errors"
	"fmt"
	"slices"
)

// Config describes a UNet. Fields that have a counterpart in diffusers' UNet2DModel
// mean the same as there.
type Config struct {
	SampleSize  int // image height and width, a multiple of 2^(levels-1)
	InChannels  int
	OutChannels int
	// BlockOutChannels is the number of channels of each level, finest first. The
	// first, even, is also the width of the sinusoidal embedding; the embedding
	// given to the blocks has four times as many.
	BlockOutChannels []int
	LayersPerBlock   int // residual blocks a level going down; one more going up
	// AttentionLevels lists the levels (0 the finest) whose residual blocks are
	// followed by attention, going down and up.
	AttentionLevels []int
	NoMidAttention  bool    // leaves out the attention of the middle
	NormNumGroups   int     // groups of every GroupNorm; divides every channel count
	NormEps         float64 // epsilon of every GroupNorm
	Dropout         float64 // probability, before the second convolution of a block
	// FreqShift: frequency k of d/2 is 10000^(-k/(d/2 - FreqShift)), d =
	// BlockOutChannels[0].
	FreqShift int
	// FlipSinToCos puts the cosines first.
	FlipSinToCos bool
	// DownsamplePadding 1 pads the strided convolutions by one on every side, 0 by
	// one at the right and the bottom only.
	DownsamplePadding int
	AttentionHeadDim  int // channels of a head; 0: one head of all channels
	// ScaleShift is resnet_time_scale_shift "scale_shift": in a residual block the
	// time embedding gives a scale s and a shift t for each channel, and the second
	// norm's output h becomes h (1 + s) + t (Dhariwal & Nichol, arXiv 2105.05233).
	// false is "default": it is added to the first convolution's output.
	ScaleShift bool
	// NumClassEmbeds makes the model conditional: one learned vector for each of so
	// many classes is added to the timestep's embedding. 0: no classes.
	NumClassEmbeds int
}

// CIFAR10 is the model of DDPM's CIFAR-10 experiments as the AGR paper uses it:
// 35,746,307 parameters.
func CIFAR10() Config {
	return Config{
		SampleSize: 32, InChannels: 3, OutChannels: 3,
		BlockOutChannels: []int{128, 256, 256, 256}, LayersPerBlock: 2, AttentionLevels: []int{1},
		NormNumGroups: 32, NormEps: 1e-5, Dropout: 0.1, DownsamplePadding: 1,
	}
}

// Digits is a small model for 8x8 grey images.
func Digits() Config {
	return Config{
		SampleSize: 8, InChannels: 1, OutChannels: 1,
		BlockOutChannels: []int{32, 64}, LayersPerBlock: 1, AttentionLevels: []int{1},
		NormNumGroups: 8, NormEps: 1e-5, DownsamplePadding: 1,
	}
}

// ErrConfig is wrapped by every error about a Config.
var ErrConfig = errors.New("unet: invalid config")

// maxSize bounds single dimensions, so that products of a few stay far from
// overflow.
const maxSize = 1 << 16

// Validate reports every fault of the configuration, each wrapping ErrConfig.
func (c Config) Validate() error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...)))
		}
	}
	size := func(name string, n int) {
		check(n >= 1 && n <= maxSize, "%s is %d, want 1 to %d", name, n, maxSize)
	}
	size("sample size", c.SampleSize)
	size("input channels", c.InChannels)
	size("output channels", c.OutChannels)
	check(c.LayersPerBlock >= 1 && c.LayersPerBlock <= 64, "%d layers per block, want 1 to 64", c.LayersPerBlock)
	size("norm groups", c.NormNumGroups)
	levels := len(c.BlockOutChannels)
	check(levels >= 1 && levels <= 16, "%d levels, want 1 to 16", levels)
	for i, n := range c.BlockOutChannels {
		size(fmt.Sprintf("channels of level %d", i), n)
	}
	check(float32(c.NormEps) > 0, "norm epsilon is %g, want > 0 in float32", c.NormEps)
	check(c.Dropout >= 0 && float32(c.Dropout) < 1, "dropout is %g, want 0 <= p < 1", c.Dropout)
	check(c.DownsamplePadding == 0 || c.DownsamplePadding == 1, "downsample padding is %d, want 0 or 1", c.DownsamplePadding)
	check(c.AttentionHeadDim >= 0, "attention head size is %d, want >= 0", c.AttentionHeadDim)
	check(c.NumClassEmbeds >= 0 && c.NumClassEmbeds <= maxSize, "%d class embeddings, want 0 to %d", c.NumClassEmbeds, maxSize)
	check(c.FreqShift >= 0, "frequency shift is %d, want >= 0", c.FreqShift)
	for i, l := range c.AttentionLevels {
		check(l >= 0 && l < levels, "attention at level %d of %d", l, levels)
		check(!slices.Contains(c.AttentionLevels[:i], l), "attention at level %d is listed twice", l)
	}
	if len(faults) > 0 {
		return errors.Join(faults...)
	}

	check(c.SampleSize%(1<<(levels-1)) == 0, "sample size %d is not a multiple of %d (%d levels)",
		c.SampleSize, 1<<(levels-1), levels)
	first := c.BlockOutChannels[0]
	check(first%2 == 0, "the first level has %d channels, want an even number (sines and cosines)", first)
	check(first/2 > c.FreqShift, "frequency shift %d needs more than %d channels at the first level", c.FreqShift, 2*c.FreqShift)
	for _, n := range c.normChannels() {
		check(n%c.NormNumGroups == 0, "%d channels do not divide into %d norm groups", n, c.NormNumGroups)
	}
	for i, n := range c.BlockOutChannels {
		if c.AttentionHeadDim > 0 && c.attends(i) {
			check(n%c.AttentionHeadDim == 0, "%d channels of level %d do not divide into heads of %d", n, i, c.AttentionHeadDim)
		}
	}
	return errors.Join(faults...)
}

// attends reports whether there is attention over the channels of a level.
func (c Config) attends(level int) bool {
	return slices.Contains(c.AttentionLevels, level) || level == len(c.BlockOutChannels)-1 && !c.NoMidAttention
}

// heads is the number of heads for a channel count.
func (c Config) heads(channels int) int {
	if c.AttentionHeadDim == 0 {
		return 1
	}
	return channels / c.AttentionHeadDim
}

// normChannels lists the distinct channel counts that a GroupNorm meets: those of
// the levels, and their sums with the skips.
func (c Config) normChannels() []int {
	list := slices.Clone(c.BlockOutChannels)
	now := c.BlockOutChannels[len(c.BlockOutChannels)-1]
	skips := c.skips()
	for _, n := range slices.Backward(c.BlockOutChannels) {
		for range c.LayersPerBlock + 1 {
			list = append(list, now+skips[len(skips)-1])
			skips = skips[:len(skips)-1]
			now = n
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// skips lists the channels of the skip connections, first to last.
func (c Config) skips() []int {
	list := []int{c.BlockOutChannels[0]}
	for i, n := range c.BlockOutChannels {
		for range c.LayersPerBlock {
			list = append(list, n)
		}
		if i < len(c.BlockOutChannels)-1 {
			list = append(list, n)
		}
	}
	return list
}
