package data

import (
	"fmt"

	"github.com/agrdist/agrdist/rng"
)

// Loader fills batches. It is a pure function of (data set, seed, flip) and the
// draws, keeps nothing between calls and is safe for concurrent use.
type Loader struct {
	dataset                 Dataset
	sampler                 *Sampler
	flips                   rng.Source
	flip                    bool
	height, width, channels int
}

// NewLoader returns the loader of a run with this seed. flip: mirror an image
// left to right with probability 1/2, by its draw.
func NewLoader(d Dataset, seed uint64, flip bool) *Loader {
	l := &Loader{
		dataset: d, flip: flip,
		sampler: NewSampler(seed, d.Len()),
		flips:   rng.New(seed, rng.StreamFlip),
	}
	l.height, l.width, l.channels = d.Size()
	return l
}

// Dataset returns the data set that the loader reads.
func (l *Loader) Dataset() Dataset { return l.dataset }

// ImageLen is H W C, the elements of one image.
func (l *Loader) ImageLen() int { return l.height * l.width * l.channels }

// Sample says which image a draw stands for: its epoch, its index in the data
// set and whether it is flipped.
func (l *Loader) Sample(draw int64) (epoch uint64, index int, flipped bool) {
	if draw < 0 {
		panic(fmt.Sprintf("data: draw %d is negative", draw))
	}
	epoch, index = l.sampler.Index(uint64(draw))
	return epoch, index, l.flip && l.flips.IntN(uint64(draw), 2) == 1
}

// Load fills dst, [len(draws), H, W, C], with the images of the draws, values
// in [-1, 1]. It allocates nothing itself; a data set may on the first reads,
// and the folder whenever it decodes. An error names the image.
func (l *Loader) Load(dst []float32, draws []int64) error {
	n := l.ImageLen()
	if len(dst) != n*len(draws) {
		panic(fmt.Sprintf("data: destination of %d elements for %d images of %d", len(dst), len(draws), n))
	}
	for i, draw := range draws {
		image := dst[i*n : (i+1)*n]
		_, index, flipped := l.Sample(draw)
		if err := l.dataset.Read(image, index); err != nil {
			return fmt.Errorf("%s: image %d (draw %d): %w", l.dataset.Name(), index, draw, err)
		}
		if flipped {
			mirror(image, l.height, l.width, l.channels)
		}
	}
	return nil
}

// mirror reverses every row of an image [H, W, C] in place.
func mirror(image []float32, height, width, channels int) {
	row := width * channels
	for y := range height {
		line := image[y*row : (y+1)*row]
		for a, b := 0, row-channels; a < b; a, b = a+channels, b-channels {
			for c := range channels {
				line[a+c], line[b+c] = line[b+c], line[a+c]
			}
		}
	}
}
