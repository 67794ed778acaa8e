package data

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
)

// Info describes a data set.
type Info struct {
	Config   Config // how it was opened, without size and channels
	Images   int
	Formats  []Count // of a folder's files
	Modes    []Count // gray, rgb, ...
	Sizes    []Count // "640x480", the most frequent first
	Turned   int     // images with an EXIF orientation that turns or mirrors them
	Moving   int     // animations, of which the first frame is used
	Classes  []Count // by label; empty where there are none
	Short    int     // the shorter side of the middle image, by that side
	Square   bool    // all images are squares of one size
	Colour   bool    // some image is not gray by its mode
	Channels int     // of every image; 0: a folder's images are converted
	Index    *Index  // of a folder
}

// Count is how many images have a property.
type Count struct {
	What string
	N    int
}

// tally counts by a property, the most frequent first.
func tally[T any](list []T, property func(T) string) []Count {
	counts := map[string]int{}
	for _, v := range list {
		counts[property(v)]++
	}
	var out []Count
	for what, n := range counts {
		out = append(out, Count{what, n})
	}
	slices.SortFunc(out, func(a, b Count) int { return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.What, b.What)) })
	return out
}

// Describe says what a data set holds. index is the scan of a folder, nil for
// others, which it opens.
func Describe(c Config, index *Index) (*Info, error) {
	info := &Info{Config: c, Index: index}
	if index != nil {
		info.folder(index)
		return info, nil
	}
	d, err := Open(c)
	if err != nil {
		return nil, err
	}
	height, width, channels := d.Size()
	info.Images, info.Short, info.Square, info.Colour = d.Len(), min(height, width), height == width, channels >= 3
	info.Channels = channels
	info.Sizes = []Count{{fmt.Sprintf("%dx%d", width, height), d.Len()}}
	info.Modes = []Count{{mode(channels), d.Len()}}
	info.Classes = classCounts(d)
	return info, Close(d)
}

func (info *Info) folder(x *Index) {
	info.Images = len(x.Images)
	info.Formats = tally(x.Images, func(m Image) string { return string(m.Header.Format) })
	info.Modes = tally(x.Images, func(m Image) string { return m.Header.Mode })
	info.Sizes = tally(x.Images, func(m Image) string { return fmt.Sprintf("%dx%d", m.Header.Width, m.Header.Height) })
	var short []int
	for _, m := range x.Images {
		h := m.Header
		short = append(short, min(h.Width, h.Height))
		if h.Orientation > 1 {
			info.Turned++
		}
		if h.Animated {
			info.Moving++
		}
		info.Colour = info.Colour || h.Mode != "gray" && h.Mode != "gray16"
	}
	slices.Sort(short)
	info.Short = short[len(short)/2]
	first := x.Images[0].Header
	info.Square = len(info.Sizes) == 1 && first.Width == first.Height
	if labels, classes := x.Labels(); labels != nil {
		for _, name := range classes {
			info.Classes = append(info.Classes, Count{What: name})
		}
		for _, l := range labels {
			info.Classes[l].N++
		}
	}
}

// mode names what channels usually mean.
func mode(channels int) string {
	if m := [...]string{1: "gray", 2: "gray+alpha", 3: "rgb", 4: "rgba"}; channels < len(m) {
		return m[channels]
	}
	return fmt.Sprint(channels, " channels")
}

// classCounts counts the images of each label.
func classCounts(d Dataset) (out []Count) {
	names := ClassesOf(d)
	for i := range d.Len() {
		label := d.Label(i)
		for len(out) <= label {
			name := fmt.Sprint(len(out))
			if len(out) < len(names) {
				name = names[len(out)]
			}
			out = append(out, Count{What: name})
		}
		if label >= 0 {
			out[label].N++
		}
	}
	return out
}

// Moments are mean and standard deviation of all pixels of a channel, in [-1, 1].
type Moments struct{ Mean, Deviation float64 }

// Measure computes the moments of each channel over at most limit images, spread
// evenly.
func Measure(ctx context.Context, d Dataset, limit int) ([]Moments, error) {
	height, width, channels := d.Size()
	n := min(d.Len(), limit)
	image := make([]float32, height*width*channels)
	sum, squares := make([]float64, channels), make([]float64, channels)
	for i := range n {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err := d.Read(image, i*d.Len()/n); err != nil {
			return nil, err
		}
		for p, v := range image {
			sum[p%channels] += float64(v)
			squares[p%channels] += float64(v) * float64(v)
		}
	}
	out := make([]Moments, channels)
	count := float64(n) * float64(height*width)
	for c := range out {
		mean := sum[c] / count
		out[c] = Moments{mean, math.Sqrt(max(squares[c]/count-mean*mean, 0))}
	}
	return out, nil
}
