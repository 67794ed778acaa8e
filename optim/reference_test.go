package optim_test

import (
	"math"

	"github.com/agrdist/agrdist/optim"
)

// reference is an optimizer for one element in float64, written straight from
// the formulas and sharing nothing with the package.
type reference struct {
	w     float64
	state map[string]float64
	step  func(r *reference, g, h float64, t int)
}

func newReference(c optim.Config, w float64) *reference {
	r := &reference{w: w, state: map[string]float64{}}
	pow := func(b float64, t int) float64 { return math.Pow(b, float64(t)) }
	s := r.state
	switch c.Name {
	case "adan":
		r.step = func(r *reference, g, h float64, t int) {
			d := g + s["neg_pre_grad"]
			if t == 1 {
				d = 0
			}
			s["exp_avg"] = c.Beta1*s["exp_avg"] + (1-c.Beta1)*g
			s["exp_avg_diff"] = c.Beta2*s["exp_avg_diff"] + (1-c.Beta2)*d
			s["exp_avg_sq"] = c.Beta3*s["exp_avg_sq"] + (1-c.Beta3)*(g+c.Beta2*d)*(g+c.Beta2*d)
			s["neg_pre_grad"] = -g
			den := math.Sqrt(s["exp_avg_sq"])/math.Sqrt(1-pow(c.Beta3, t)) + c.Eps
			move := h/(1-pow(c.Beta1, t))*s["exp_avg"]/den + h*c.Beta2/(1-pow(c.Beta2, t))*s["exp_avg_diff"]/den
			if c.NoProx {
				r.w = r.w*(1-h*c.WeightDecay) - move
			} else {
				r.w = (r.w - move) / (1 + h*c.WeightDecay)
			}
		}
	case "adam", "adamw":
		r.step = func(r *reference, g, h float64, t int) {
			if c.Name == "adam" {
				g += c.WeightDecay * r.w
			} else {
				r.w *= 1 - h*c.WeightDecay
			}
			s["exp_avg"] = c.Beta1*s["exp_avg"] + (1-c.Beta1)*g
			s["exp_avg_sq"] = c.Beta2*s["exp_avg_sq"] + (1-c.Beta2)*g*g
			r.w -= h / (1 - pow(c.Beta1, t)) * s["exp_avg"] / (math.Sqrt(s["exp_avg_sq"])/math.Sqrt(1-pow(c.Beta2, t)) + c.Eps)
		}
	case "rmsprop":
		r.step = func(r *reference, g, h float64, _ int) {
			g += c.WeightDecay * r.w
			s["square_avg"] = c.Alpha*s["square_avg"] + (1-c.Alpha)*g*g
			v := s["square_avg"]
			if c.Centered {
				s["grad_avg"] = c.Alpha*s["grad_avg"] + (1-c.Alpha)*g
				v = math.Max(v-s["grad_avg"]*s["grad_avg"], 0)
			}
			move := g / (math.Sqrt(v) + c.Eps)
			if c.Momentum > 0 {
				s["momentum_buffer"] = c.Momentum*s["momentum_buffer"] + move
				move = s["momentum_buffer"]
			}
			r.w -= h * move
		}
	case "acprop":
		r.step = acpropReference(c, pow)
	case "sgdm":
		r.step = func(r *reference, g, h float64, t int) {
			g += c.WeightDecay * r.w
			move := g
			if c.Momentum > 0 {
				if t == 1 {
					s["momentum_buffer"] = g
				} else {
					s["momentum_buffer"] = c.Momentum*s["momentum_buffer"] + (1-c.Dampening)*g
				}
				move = s["momentum_buffer"]
				if c.Nesterov {
					move = g + c.Momentum*s["momentum_buffer"]
				}
			}
			r.w -= h * move
		}
	case "lion":
		r.step = func(r *reference, g, h float64, _ int) {
			r.w *= 1 - h*c.WeightDecay
			if u := c.Beta1*s["exp_avg"] + (1-c.Beta1)*g; u != 0 {
				r.w -= h * math.Copysign(1, u)
			}
			s["exp_avg"] = c.Beta2*s["exp_avg"] + (1-c.Beta2)*g
		}
	}
	return r
}

func acpropReference(c optim.Config, pow func(float64, int) float64) func(r *reference, g, h float64, t int) {
	return func(r *reference, g, h float64, t int) {
		s := r.state
		r.w *= 1 - h*c.WeightDecay
		s["exp_avg"] = c.Beta1*s["exp_avg"] + (1-c.Beta1)*g
		if t == 1 {
			r.w -= h * s["exp_avg"] / (1 - c.Beta1)
		} else {
			s["exp_avg_var"] += c.Eps
			limit := 2/(1-c.Beta2) - 1
			left := 1 - pow(c.Beta2, t)
			n := limit - 2*float64(t)*pow(c.Beta2, t)/left
			switch {
			case !c.Rectify:
				r.w -= h * g / (math.Sqrt(s["exp_avg_var"])/math.Sqrt(1-pow(c.Beta2, t-1)) + c.Eps)
			case n >= 5:
				r.w -= h * math.Sqrt(left*(n-4)/(limit-4)*(n-2)/n*limit/(limit-2)) * g / (math.Sqrt(s["exp_avg_var"]) + c.Eps)
			default:
				r.w -= h * s["exp_avg"] / (1 - pow(c.Beta1, t))
			}
		}
		s["exp_avg_var"] = c.Beta2*s["exp_avg_var"] + (1-c.Beta2)*(g-s["exp_avg"])*(g-s["exp_avg"])
	}
}
