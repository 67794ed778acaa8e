//go:build cuda

package cuda

import "github.com/agrdist/agrdist/optim"

// rule is an optimizer as kernels/pass.cu has it.
type rule struct {
	name   string // optim.Config.Name
	kernel string
	// slots names the state in the kernel's order; "" where c does without.
	slots func(c optim.Config) []string
}

var rules = [...]rule{
	{"adan", "adan", fixed("exp_avg", "exp_avg_diff", "exp_avg_sq", "neg_pre_grad")},
	{"adam", "adam", fixed("exp_avg", "exp_avg_sq")},
	{"adamw", "adam", fixed("exp_avg", "exp_avg_sq")},
	{"rmsprop", "rmsprop", rmspropSlots},
	{"acprop", "acprop", fixed("exp_avg", "exp_avg_var")},
	{"sgdm", "sgdm", sgdmSlots},
	{"lion", "lion", fixed("exp_avg")},
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
