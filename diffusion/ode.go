package diffusion

import "math"

// DPMSolver and Heun integrate the probability flow ODE. Both are written in the
// predicted x0, so that clipping acts on them as on the others. With s = sqrt(abar)
// and n = sqrt(1 - abar), the noise level of x_t/s is n/s, and lambda = log(s/n).

// point is a place on the way: a timestep, or the end.
type point struct{ s, n float64 }

func pointAt(abar float64) point { return point{math.Sqrt(abar), math.Sqrt(1 - abar)} }

// level is the noise level of x_t/s.
func (p point) level() float64 { return p.n / p.s }

// way returns the points of the timesteps in list, and the end.
func (c SamplerConfig) way(s *Schedule, list []int) []point {
	var points []point
	for _, t := range list {
		points = append(points, pointAt(s.AlphasCumprod[t]))
	}
	if c.endsAtOne() {
		return append(points, pointAt(1))
	}
	return append(points, pointAt(s.AlphasCumprod[0]))
}

// dpmSolverSteps is DPM-Solver++(2M). With h the step in lambda, r the ratio of the
// step before to it, and D the predicted x0 (D' that of the step before):
//
//	x_next = (n_next/n) x + s_next (1 - e^-h) ((1 + 1/(2r)) D - 1/(2r) D')
//
// The first step is of first order (D alone), and so are the last one where it ends
// without noise, or is one of fewer than 15 (diffusers' lower_order_final).
func (c SamplerConfig) dpmSolverSteps(s *Schedule, list []int) []step {
	points := c.way(s, list)
	lambda := func(p point) float64 { return math.Log(p.s) - math.Log(p.n) } // infinite at the end
	steps := make([]step, len(list))
	for i, t := range list {
		now, next := points[i], points[i+1]
		k := step{t: t, keeps: true, b0: 1}
		k.xx, k.xo, _, _ = c.Prediction.solve(now.s * now.s)
		k.kxt = next.n / now.n
		h := lambda(next) - lambda(now)
		gain := next.s * -math.Expm1(-h)
		k.kx0 = gain
		last := i == len(list)-1
		if i > 0 && !(last && (next.n == 0 || len(list) < 15)) {
			r := (lambda(now) - lambda(points[i-1])) / h
			k.kx0, k.kb = gain*(1+1/(2*r)), -gain/(2*r)
		}
		steps[i] = k
	}
	return steps
}

// heunSteps is Heun's method in the noise level v of y = x/s, dy/dv = (y - D)/v:
//
//	y'     = y + (v_next - v) d,                 d  = (y - D)/v
//	y_next = y + (v_next - v) (d + d')/2,        d' = (y' - D')/v_next
//
// where D' is the model's answer to y'. A last step that ends without noise is
// Euler's: it returns D.
func (c SamplerConfig) heunSteps(s *Schedule, list []int) []step {
	points := c.way(s, list)
	var steps []step
	for i, t := range list {
		now, next := points[i], points[i+1]
		v, w := now.level(), next.level()
		// Euler, and x and d are kept.
		k := step{t: t, keeps: true, bx: 1 / (now.s * v), b0: -1 / v}
		k.xx, k.xo, _, _ = c.Prediction.solve(now.s * now.s)
		k.kxt, k.kx0 = next.s/now.s*(w/v), next.s*(1-w/v)
		steps = append(steps, k)
		if w == 0 {
			continue
		}
		// Half of it is taken back for the slope at the other end.
		after := 0 // the end at abar[0] is timestep 0
		if i+1 < len(list) {
			after = list[i+1]
		}
		k = step{t: after}
		k.xx, k.xo, _, _ = c.Prediction.solve(next.s * next.s)
		half := next.s * (w - v) / 2
		k.ka, k.kb = next.s/now.s, half
		k.kxt, k.kx0 = half/(next.s*w), -half/w
		steps = append(steps, k)
	}
	return steps
}

// advanceKept is advance for steps that read and keep a and b.
func (s *Sampler) advanceKept(x, out, a, b []float32, k step) bool {
	clip := s.config.Clip == ClipBefore
	finite := true
	for i := range x {
		xt, o := float64(x[i]), float64(out[i])
		finite = finite && o-o == 0
		x0 := float64(k.xx*xt) + float64(k.xo*o)
		if clip {
			x0 = min(max(x0, -1), 1)
		}
		next := float64(k.kx0*x0) + float64(k.kxt*xt)
		next += float64(k.ka*float64(a[i])) + float64(k.kb*float64(b[i]))
		if k.keeps {
			a[i], b[i] = x[i], float32(float64(k.bx*xt)+float64(k.b0*x0))
		}
		x[i] = float32(next)
	}
	return finite
}
