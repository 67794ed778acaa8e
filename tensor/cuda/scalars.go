//go:build cuda

package cuda

import (
	"math"

	"github.com/agrdist/agrdist/optim"
)

// maxScalars is what an update kernel takes.
const maxScalars = 13

// rule is an optimizer as kernels/pass.cu has it.
type rule struct {
	name   string // optim.Config.Name
	kernel string
	// slots names the state in the kernel's order; "" where c does without.
	slots func(c optim.Config) []string
	// scalars are the kernel's for one update, rounded where optim rounds.
	scalars func(c optim.Config, lr float64, t int64) [maxScalars]float32
}

var rules = [...]rule{
	{"adan", "adan", fixed("exp_avg", "exp_avg_diff", "exp_avg_sq", "neg_pre_grad"), adanScalars},
	{"adam", "adam", fixed("exp_avg", "exp_avg_sq"), adamScalars},
	{"adamw", "adam", fixed("exp_avg", "exp_avg_sq"), adamScalars},
	{"rmsprop", "rmsprop", rmspropSlots, rmspropScalars},
	{"acprop", "acprop", fixed("exp_avg", "exp_avg_var"), acpropScalars},
	{"sgdm", "sgdm", sgdmSlots, sgdmScalars},
	{"lion", "lion", fixed("exp_avg"), lionScalars},
}

func fixed(names ...string) func(optim.Config) []string {
	return func(optim.Config) []string { return names }
}

func rmspropSlots(c optim.Config) []string {
	names := []string{"square_avg", "", ""}
	if c.Centered {
		names[1] = "grad_avg"
	}
	if c.Momentum > 0 {
		names[2] = "momentum_buffer"
	}
	return names
}

func sgdmSlots(c optim.Config) []string {
	if c.Momentum > 0 {
		return []string{"momentum_buffer"}
	}
	return []string{""}
}

// adanScalars are optim.AdanStep's, which package optim computes.
func adanScalars(c optim.Config, lr float64, t int64) (k [maxScalars]float32) {
	c.MaxGradNorm = 0
	o, err := optim.New(c, nil, 0, nil)
	if err != nil {
		panic(err.Error()) // NewPass validated c
	}
	s := o.(*optim.Adan).Scalars(lr, t)
	return [maxScalars]float32{
		s.Beta1, s.Rest1, s.Beta2, s.Rest2, s.Beta3, s.Rest3, s.Eps, s.RootN, s.StepM, s.StepV,
		s.DecayBefore, s.DecayAfter, flag(s.First),
	}
}

// adamScalars serve adam, whose decay is a penalty, and adamw, whose decay is
// decoupled.
func adamScalars(c optim.Config, lr float64, t int64) [maxScalars]float32 {
	decay, decoupled := c.WeightDecay, c.Name == "adamw"
	if decoupled {
		decay = lr * c.WeightDecay
	}
	return [maxScalars]float32{
		float32(c.Beta1), float32(1 - c.Beta1), float32(c.Beta2), float32(1 - c.Beta2), float32(c.Eps),
		float32(1 / math.Sqrt(biasCorrection(c.Beta2, t))), float32(lr / biasCorrection(c.Beta1, t)),
		float32(decay), flag(decoupled),
	}
}

func rmspropScalars(c optim.Config, lr float64, _ int64) [maxScalars]float32 {
	return [maxScalars]float32{
		float32(c.Alpha), float32(1 - c.Alpha), float32(c.Eps), float32(lr), float32(c.WeightDecay), float32(c.Momentum),
		flag(c.Centered), flag(c.Momentum > 0),
	}
}

func acpropScalars(c optim.Config, lr float64, t int64) [maxScalars]float32 {
	floor, root := float32(0), float32(1)
	r, defined := 1.0, t > 1
	if t > 1 {
		floor = float32(c.Eps)
		if c.Rectify {
			r, defined = rectification(c.Beta2, t)
		} else {
			root = float32(1 / math.Sqrt(biasCorrection(c.Beta2, t-1)))
		}
	}
	step := float32(lr * r)
	if !defined {
		step = float32(lr / biasCorrection(c.Beta1, t))
	}
	return [maxScalars]float32{
		float32(c.Beta1), float32(1 - c.Beta1), float32(c.Beta2), float32(1 - c.Beta2), float32(c.Eps),
		floor, root, step, float32(lr * c.WeightDecay), flag(!defined),
	}
}

// rectification is optim's: r of update t, and false where it is undefined.
func rectification(beta2 float64, t int64) (r float64, ok bool) {
	limit := 2/(1-beta2) - 1
	correction := biasCorrection(beta2, t)
	n := limit - float64(2*float64(t)*powi(beta2, t))/correction
	if n < 5 {
		return 0, false
	}
	return math.Sqrt(correction * (n - 4) / (limit - 4) * (n - 2) / n * limit / (limit - 2)), true
}

func sgdmScalars(c optim.Config, lr float64, t int64) [maxScalars]float32 {
	keep, take := float32(c.Momentum), float32(1-c.Dampening)
	if t == 1 {
		keep, take = 0, 1
	}
	return [maxScalars]float32{
		keep, take, float32(lr), float32(c.WeightDecay), float32(c.Momentum), flag(c.Nesterov), flag(c.Momentum > 0),
	}
}

func lionScalars(c optim.Config, lr float64, _ int64) [maxScalars]float32 {
	return [maxScalars]float32{
		float32(c.Beta1), float32(1 - c.Beta1), float32(c.Beta2), float32(1 - c.Beta2), float32(lr),
		float32(lr * c.WeightDecay),
	}
}

func flag(on bool) float32 {
	if on {
		return 1
	}
	return 0
}

// powi and biasCorrection have the bits of package optim's.
func powi(b float64, t int64) float64 {
	p := 1.0
	for ; t > 0; t >>= 1 {
		if t&1 == 1 {
			p = float64(p * b)
		}
		b = float64(b * b)
	}
	return p
}

func biasCorrection(beta float64, t int64) float64 { return 1 - powi(beta, t) }
