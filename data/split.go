package data

import (
	"errors"
	"fmt"
)

// A split of n images in those that are trained on and h that are held out is
// arithmetic: image i is held out where the line of slope h/n passes an integer
// between i and i+1. The held-out images are spread evenly, so that they are a
// fair part of a data set that is sorted by class, and no list is kept.
//
//	held out k:  ceil((k+1) n / h) - 1
//	trained  j:  floor(j n / (n-h))

// subset is a part of a data set.
type subset struct {
	Dataset
	n, held int
	heldOut bool // the held-out part
}

var _ Dataset = (*subset)(nil)

// Split cuts a data set in a part to train on and a part of held images that is
// not. Both read from d, which stays the caller's to close.
func Split(d Dataset, held int) (train, heldOut Dataset, err error) {
	n := d.Len()
	if held < 0 || held >= n {
		return nil, nil, fmt.Errorf("data.holdout is %d; %s has %d images: hold out 0 to %d", held, d.Name(), n, n-1)
	}
	if held == 0 {
		return d, nil, nil
	}
	return &subset{d, n, held, false}, &subset{d, n, held, true}, nil
}

// at is the index in the whole data set.
func (s *subset) at(index int) int {
	n, held, i := uint64(s.n), uint64(s.held), uint64(index)
	if s.heldOut {
		return int(((i+1)*n+held-1)/held) - 1
	}
	return int(i * n / (n - held))
}

func (s *subset) Name() string {
	if s.heldOut {
		return s.Dataset.Name() + " (held out)"
	}
	return s.Dataset.Name()
}

func (s *subset) Len() int {
	if s.heldOut {
		return s.held
	}
	return s.n - s.held
}

func (s *subset) Read(dst []float32, index int) error {
	checkRead(s, dst, index)
	return s.Dataset.Read(dst, s.at(index))
}

func (s *subset) Label(index int) int { return s.Dataset.Label(s.at(index)) }

// ImageName is where an image comes from.
func (s *subset) ImageName(index int) string { return NameOf(s.Dataset, s.at(index)) }

// Fingerprint is that of the whole.
func (s *subset) Fingerprint() string { return Fingerprint(s.Dataset) }

// Classes are those of the whole.
func (s *subset) Classes() []string { return ClassesOf(s.Dataset) }

// Close closes the whole.
func (s *subset) Close() error { return Close(s.Dataset) }

// ClassesOf returns the names of the classes by label, or nothing where they have
// none.
func ClassesOf(d Dataset) []string {
	if c, ok := d.(interface{ Classes() []string }); ok {
		return c.Classes()
	}
	return nil
}

// part returns the part of d that the configuration asks for and closes d where
// there is none.
func (c Config) part(d Dataset) (Dataset, error) {
	train, heldOut, err := Split(d, c.Holdout)
	switch {
	case err != nil:
		return nil, errors.Join(err, Close(d))
	case c.Split == SplitHeldOut && heldOut == nil:
		return nil, errors.Join(fmt.Errorf("the split is %q; set data.holdout to the number of images to hold out", SplitHeldOut), Close(d))
	case c.Split == SplitHeldOut:
		return heldOut, nil
	}
	return train, nil
}
