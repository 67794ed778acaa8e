package compare

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
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
	p.BackgroundColor = color.White
	p.X.Padding, p.Y.Padding = 0, 0
	legend := plot.NewLegend()
	legend.Top = true
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
		legend.Add(c.name, l)
	}
	if lo, hi := extent(curves); lo > 0 && hi > 2*lo {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, logTicks{}
	}
	return render(title, 7*vg.Inch, 4.5*vg.Inch, func(c draw.Canvas) {
		// The legend beside the curves hides none of them.
		side := legend.Rectangle(c).Size().X + vg.Points(12)
		p.Draw(draw.Crop(c, 0, -side, 0, 0))
		legend.Draw(draw.Crop(c, 0, -vg.Points(4), 0, -vg.Points(30)))
	})
}

// extent is the range of the curves and their bands.
func extent(curves []curve) (lo, hi float64) {
	lo, hi = math.Inf(1), math.Inf(-1)
	for _, c := range curves {
		for i := range c.x {
			lo, hi = min(lo, c.lo[i]), max(hi, c.hi[i])
		}
	}
	return lo, hi
}

// logTicks are 1, 2 and 5 times the powers of ten, and steps of one size in a range so
// narrow that there would be hardly any.
type logTicks struct{}

// Ticks implements plot.Ticker.
func (logTicks) Ticks(lo, hi float64) (out []plot.Tick) {
	if hi < 5*lo {
		return plot.DefaultTicks{}.Ticks(lo, hi)
	}
	for power := math.Floor(math.Log10(lo)); power <= math.Ceil(math.Log10(hi)); power++ {
		for digit := 1.0; digit < 10; digit++ {
			v := digit * math.Pow(10, power)
			if v < lo || v > hi {
				continue
			}
			tick := plot.Tick{Value: v}
			if digit == 1 || digit == 2 || digit == 5 {
				tick.Label = fmt.Sprintf("%.3g", v)
			}
			out = append(out, tick)
		}
	}
	return out
}

// render draws on an SVG and on a PNG of the same size.
func render(title string, width, height vg.Length, paint func(draw.Canvas)) (svg, png []byte, err error) {
	var vector, bitmap bytes.Buffer
	canvas := vgsvg.New(width, height)
	paint(draw.New(canvas))
	if _, err := canvas.WriteTo(&vector); err != nil {
		return nil, nil, fmt.Errorf("compare: figure %q: %w", title, err)
	}
	raster := vgimg.PngCanvas{Canvas: vgimg.New(width, height)}
	paint(draw.New(raster))
	if _, err := raster.WriteTo(&bitmap); err != nil {
		return nil, nil, fmt.Errorf("compare: figure %q: %w", title, err)
	}
	return vector.Bytes(), bitmap.Bytes(), nil
}

// effect is a paired difference in percent of the base, with its 95 % interval.
type effect struct {
	name       string
	mean, half float64
}

// effects are the paired differences of the metrics that the report's first table has.
func (r *Results) effects() (out []effect) {
	for _, metric := range r.metricsOf() {
		if !headline(metric) {
			continue
		}
		arrow := " ↓" // lower is better
		if higherIsBetter(metric) {
			arrow = " ↑"
		}
		for _, c := range r.comparisons(metric, r.primary()) {
			base := c.Target / r.Plan.Effect
			if r.isPair(c) && c.N > 1 && base > 0 {
				out = append(out, effect{metric + arrow + ": " + c.Method, 100 * c.Mean / base, 100 * c.Half / base})
			}
		}
	}
	return out
}

// forest draws effects as points with intervals, one below the other, around 0.
func forest(title string, effects []effect) (svg, png []byte, err error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text = title, "difference in % of what it is compared with, 95 % interval (the arrow: better)"
	p.BackgroundColor = color.White
	p.Add(plotter.NewGrid())
	names := make([]string, len(effects))
	points := plotutil.ErrorPoints{XYs: make(plotter.XYs, len(effects)), XErrors: make(plotter.XErrors, len(effects)), YErrors: make(plotter.YErrors, len(effects))}
	for i, e := range effects {
		y := len(effects) - 1 - i // the first on top
		names[y] = e.name
		points.XYs[i] = plotter.XY{X: e.mean, Y: float64(y)}
		points.XErrors[i].Low, points.XErrors[i].High = -e.half, e.half
	}
	zero, err := plotter.NewLine(plotter.XYs{{X: 0, Y: -0.5}, {X: 0, Y: float64(len(effects)) - 0.5}})
	if err != nil {
		return nil, nil, fmt.Errorf("compare: figure %q: %w", title, err)
	}
	zero.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
	dots, err := plotter.NewScatter(points)
	if err != nil {
		return nil, nil, fmt.Errorf("compare: figure %q: %w", title, err)
	}
	dots.Color, dots.Shape, dots.Radius = palette[0], draw.CircleGlyph{}, vg.Points(3)
	bars, err := plotter.NewXErrorBars(points)
	if err != nil {
		return nil, nil, fmt.Errorf("compare: figure %q: %w", title, err)
	}
	bars.Color, bars.Width = palette[0], vg.Points(1.5)
	p.Add(zero, bars, dots)
	p.NominalY(names...)
	reach := 0.0
	for _, e := range effects {
		reach = max(reach, math.Abs(e.mean-e.half), math.Abs(e.mean+e.half))
	}
	reach *= 1.1
	p.X.Min, p.X.Max, p.X.Tick.Marker = -reach, reach, evenTicks{}
	return render(title, 7.5*vg.Inch, vg.Length(len(effects))*vg.Points(20)+vg.Points(80), func(c draw.Canvas) {
		p.Draw(draw.Crop(c, vg.Points(8), -vg.Points(12), 0, 0))
	})
}

// evenTicks are multiples of 1, 2 or 5 times a power of ten, 0 among them.
type evenTicks struct{}

// Ticks implements plot.Ticker.
func (evenTicks) Ticks(lo, hi float64) (out []plot.Tick) {
	power := math.Pow(10, math.Floor(math.Log10((hi-lo)/4)))
	step := power
	for _, m := range []float64{2, 5, 10} {
		if (hi-lo)/step > 9 {
			step = m * power
		}
	}
	for k := math.Ceil(lo / step); k*step <= hi; k++ {
		out = append(out, plot.Tick{Value: k * step, Label: fmt.Sprintf("%.3g", k*step+0)})
	}
	return out
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
