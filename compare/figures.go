package compare

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// curve is the mean over seeds with a band around it.
type curve struct {
	name         string
	x            []float64
	mean, lo, hi []float64
}

// palette is of colours that are told apart also without red and green (Okabe & Ito,
// 2008, and two more); curves beyond it are dashed.
var palette = []color.RGBA{
	{0x00, 0x72, 0xb2, 0xff},
	{0xd5, 0x5e, 0x00, 0xff},
	{0x00, 0x9e, 0x73, 0xff},
	{0xcc, 0x79, 0xa7, 0xff},
	{0xe6, 0x9f, 0x00, 0xff},
	{0x56, 0xb4, 0xe9, 0xff},
	{0x55, 0x55, 0x55, 0xff},
	{0x99, 0x00, 0x00, 0xff},
}

// picture draws curves with their bands, as SVG and as PNG.
func picture(title, xLabel, yLabel string, curves []curve) (svg, png []byte, err error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, xLabel, yLabel
	p.Legend.Top = true
	p.BackgroundColor = color.White
	p.Add(plotter.NewGrid())
	for i, c := range curves {
		ink := palette[i%len(palette)]
		band := make(plotter.XYs, 0, 2*len(c.x))
		line := make(plotter.XYs, len(c.x))
		for j, x := range c.x {
			line[j] = plotter.XY{X: x, Y: c.mean[j]}
			band = append(band, plotter.XY{X: x, Y: c.hi[j]})
		}
		for j, x := range slices.Backward(c.x) {
			band = append(band, plotter.XY{X: x, Y: c.lo[j]})
		}
		if len(c.x) > 1 {
			area, err := plotter.NewPolygon(band)
			if err != nil {
				return nil, nil, fmt.Errorf("compare: figure %q: %w", title, err)
			}
			area.Color, area.LineStyle.Width = color.NRGBA{ink.R, ink.G, ink.B, 0x28}, 0
			p.Add(area)
		}
		l, points, err := plotter.NewLinePoints(line)
		if err != nil {
			return nil, nil, fmt.Errorf("compare: figure %q: %w", title, err)
		}
		l.Color, l.Width, points.Color, points.Shape = ink, vg.Points(1.5), ink, draw.CircleGlyph{}
		points.Radius = vg.Points(2)
		if len(c.x) > 20 {
			points.Radius = 0
		}
		if i >= len(palette) {
			l.Dashes = []vg.Length{vg.Points(5), vg.Points(3)}
		}
		p.Add(l, points)
		p.Legend.Add(c.name, l)
	}
	const width, height = 7 * vg.Inch, 4.5 * vg.Inch
	var vector, bitmap bytes.Buffer
	canvas := vgsvg.New(width, height)
	p.Draw(draw.New(canvas))
	if _, err := canvas.WriteTo(&vector); err != nil {
		return nil, nil, fmt.Errorf("compare: figure %q: %w", title, err)
	}
	raster := vgimg.PngCanvas{Canvas: vgimg.New(width, height)}
	p.Draw(draw.New(raster))
	if _, err := raster.WriteTo(&bitmap); err != nil {
		return nil, nil, fmt.Errorf("compare: figure %q: %w", title, err)
	}
	return vector.Bytes(), bitmap.Bytes(), nil
}

// metricCurves are a metric over the evaluated steps, with 95 % intervals over seeds.
func (r *Results) metricCurves(metric, weights string) (out []curve) {
	for _, m := range r.Plan.Methods {
		c := curve{name: m.Name}
		for _, step := range r.Plan.At {
			values, _ := r.values(m.Name, step, weights, metric)
			c.add(float64(step), values)
		}
		if len(c.x) > 0 {
			out = append(out, c)
		}
	}
	return out
}

// add appends the mean of the values and its interval at x.
func (c *curve) add(x float64, values []float64) {
	s := sampleOf(values)
	if s.Mean != s.Mean || math.IsInf(s.Mean, 0) {
		return
	}
	half := s.Half
	if half != half {
		half = 0
	}
	c.x, c.mean = append(c.x, x), append(c.mean, s.Mean)
	c.lo, c.hi = append(c.lo, s.Mean-half), append(c.hi, s.Mean+half)
}

// lossPoints is how many points a loss curve has.
const lossPoints = 60

// lossCurves are the training loss, averaged over equal parts of the run, with 95 %
// intervals over seeds.
func (r *Results) lossCurves() (out []curve) {
	for _, m := range r.Plan.Methods {
		c := curve{name: m.Name}
		for part := range lossPoints {
			var values []float64
			lo, hi := part*int(r.Plan.Steps)/lossPoints, (part+1)*int(r.Plan.Steps)/lossPoints
			for _, run := range r.Runs {
				if run.Method == m.Name && run.Diverged == "" {
					if v := meanOf(run.Losses, lo, hi); v == v {
						values = append(values, v)
					}
				}
			}
			if part > 0 { // the first falls from 1 and would flatten the rest
				c.add(float64(hi), values)
			}
		}
		if len(c.x) > 0 {
			out = append(out, c)
		}
	}
	return out
}

// meanOf is the mean of x[lo:hi] without what is missing; NaN where all is.
func meanOf(x []float64, lo, hi int) float64 {
	sum, n := 0.0, 0.0
	for _, v := range x[min(lo, len(x)):min(hi, len(x))] {
		if v-v == 0 {
			sum += v
			n++
		}
	}
	return sum / n
}
