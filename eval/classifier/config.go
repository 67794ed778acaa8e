package classifier

import (
	"errors"
	"fmt"
	"math/bits"
)

// Config is the network and its training. The weights are a function of it, of the
// data set, and of the kernels that compute (tensor/cpu.EnvKernels).
type Config struct {
	Size, Channels int   // of an image: Size x Size x Channels
	Classes        int   // logits
	Widths         []int // channels of the convolutions; each after the first halves the size. Multiples of 8
	Features       int   // values of the last hidden layer

	Seed        uint64
	Epochs      int     // passes over the training part
	Batch       int     // images of a step
	LR          float64 // after one epoch of warm-up; cosine to 0
	WeightDecay float64 // AdamW's
	Noise       float64 // each training image gets normal noise of a deviation uniform in [0, Noise]
}

// ConfigFor is the network for images of a size and number of classes, in a set of n
// images: about 4x4 pixels are left in front of the last layers, and training sees
// some 70,000 images, but at least 5 passes.
func ConfigFor(size, channels, classes, n int) Config {
	c := Config{
		Size: size, Channels: channels, Classes: classes, Widths: []int{16, 32, 64}, Features: 64,
		Seed: 1, Batch: 32, LR: 2e-3, WeightDecay: 0.05, Noise: 0.5,
	}
	for width := 64; size>>len(c.Widths) >= 4 && len(c.Widths) < 6; {
		width = min(2*width, 128)
		c.Widths = append(c.Widths, width)
	}
	c.Epochs = min(max(70_000/max(n, 1), 5), 40)
	return c
}

// Validate reports everything that is wrong.
func (c Config) Validate() error {
	var errs []error
	positive := func(name string, v int) {
		if v < 1 {
			errs = append(errs, fmt.Errorf("classifier: %s is %d; it must be at least 1", name, v))
		}
	}
	positive("size", c.Size)
	positive("channels", c.Channels)
	positive("features", c.Features)
	positive("epochs", c.Epochs)
	positive("batch", c.Batch)
	if c.Classes < 2 {
		errs = append(errs, fmt.Errorf("classifier: %d classes; a labelled set has at least 2", c.Classes))
	}
	if n := len(c.Widths); n < 1 || n > bits.Len(uint(max(c.Size, 0))) {
		errs = append(errs, fmt.Errorf("classifier: %d convolutions for images of %d; each after the first halves the size", n, c.Size))
	}
	for _, w := range c.Widths {
		if w < groups || w%groups != 0 {
			errs = append(errs, fmt.Errorf("classifier: width %d; it must be a multiple of %d", w, groups))
		}
	}
	return errors.Join(errs...)
}

// ImageLen is the values of an image.
func (c Config) ImageLen() int { return c.Size * c.Size * c.Channels }
