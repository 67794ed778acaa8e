package data

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

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

	stall    time.Duration
	readings sync.Pool // *reading
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
	l.readings.New = func() any { return &reading{done: make(chan error, 1)} }
	return l
}

// WithStallLimit returns the loader with a limit on the time that one image may
// take: Load then fails with a *StalledError that names the file, and the read
// that hangs is left behind. 0 is no limit. Data sets in memory need none.
func (l *Loader) WithStallLimit(limit time.Duration) *Loader {
	limited := NewLoader(l.dataset, 0, l.flip)
	limited.sampler, limited.flips, limited.stall = l.sampler, l.flips, limit
	return limited
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

// Labels fills dst with the class of each draw's image, -1 for images without one.
func (l *Loader) Labels(dst, draws []int64) {
	for i, draw := range draws {
		_, index, _ := l.Sample(draw)
		dst[i] = int64(l.dataset.Label(index))
	}
}

// Load fills dst, [len(draws), H, W, C], with the images of the draws, values
// in [-1, 1]. It allocates nothing itself; a data set may on the first reads,
// and the folder whenever it decodes. An error names the image.
func (l *Loader) Load(dst []float32, draws []int64) error {
	return l.LoadContext(context.Background(), dst, draws)
}

// LoadContext is Load until ctx is done; the error then names the file that was
// being read. Without a stall limit and with a context that never ends it is
// Load at no further cost.
func (l *Loader) LoadContext(ctx context.Context, dst []float32, draws []int64) error {
	n := l.ImageLen()
	if len(dst) != n*len(draws) {
		panic(fmt.Sprintf("data: destination of %d elements for %d images of %d", len(dst), len(draws), n))
	}
	if len(draws) > 0 && (l.stall > 0 || ctx.Done() != nil) {
		return l.guarded(ctx, dst, draws)
	}
	return l.load(dst, draws, nil)
}

// load fills dst; current, where given, is kept at the position being read.
func (l *Loader) load(dst []float32, draws []int64, current *atomic.Int64) error {
	n := l.ImageLen()
	for i, draw := range draws {
		if current != nil {
			current.Store(int64(i))
		}
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
