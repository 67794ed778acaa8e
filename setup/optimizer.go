package setup

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agrdist/agrdist/optim"
)

// OptimizerDefault is the reference default of a key of the optimizer section, such
// as eps, for one optimizer. takes is false for a key that it does not have.
func OptimizerDefault(optimizer, key string) (text string, takes bool) {
	c, err := optim.DefaultConfig(optimizer)
	if err != nil {
		return "", false
	}
	keys := optim.Keys(optimizer)
	if key == "betas" {
		var betas []string
		for i, b := range []float64{c.Beta1, c.Beta2, c.Beta3} {
			if slices.Contains(keys, fmt.Sprintf("beta%d", i+1)) {
				betas = append(betas, fmt.Sprint(b))
			}
		}
		return "[" + strings.Join(betas, ", ") + "]", len(betas) > 0
	}
	if !slices.Contains(keys, key) {
		return "", false
	}
	values := map[string]any{
		"eps": c.Eps, "weight_decay": c.WeightDecay, "momentum": c.Momentum, "alpha": c.Alpha, "dampening": c.Dampening,
		"nesterov": c.Nesterov, "centered": c.Centered, "no_prox": c.NoProx, "rectify": c.Rectify,
	}
	v, ok := values[key]
	return fmt.Sprint(v), ok
}
