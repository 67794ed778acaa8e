//go:build cuda

package cuda

import (
	"fmt"

	"github.com/agrdist/agrdist/optim"
)

// maxScalars is what an update kernel takes (settingsRate in kernels/pass.cu).
const maxScalars = 13

// scalars are those of update t for o's kernel, as package optim computes them,
// in the order of the kernel's struct.
func scalars(o optim.Optimizer, lr float64, t int64) [maxScalars]float32 {
	switch o := o.(type) {
	case *optim.Adan:
		k := o.Scalars(lr, t)
		return [maxScalars]float32{
			k.Beta1, k.Rest1, k.Beta2, k.Rest2, k.Beta3, k.Rest3, k.Eps, k.RootN, k.StepM, k.StepV,
			k.DecayBefore, k.DecayAfter, flag(k.First),
		}
	case *optim.Adam:
		return adamScalars(o.Scalars(lr, t), false)
	case *optim.AdamW:
		return adamScalars(o.Scalars(lr, t), true)
	case *optim.RMSprop:
		k := o.Scalars(lr, t)
		return [maxScalars]float32{
			k.Alpha, k.Rest, k.Eps, k.Step, k.Decay, k.Momentum, flag(k.Centered), flag(k.Buffered),
		}
	case *optim.ACProp:
		k := o.Scalars(lr, t)
		return [maxScalars]float32{
			k.Beta1, k.Rest1, k.Beta2, k.Rest2, k.Eps, k.Floor, k.Root, k.Step, k.Decay, flag(k.Momentum),
		}
	case *optim.SGDM:
		k := o.Scalars(lr, t)
		return [maxScalars]float32{
			k.Keep, k.Take, k.Step, k.Decay, k.Momentum, flag(k.Nesterov), flag(k.Buffered),
		}
	case *optim.Lion:
		k := o.Scalars(lr, t)
		return [maxScalars]float32{k.Beta1, k.Rest1, k.Beta2, k.Rest2, k.Step, k.Decay}
	}
	panic(fmt.Sprintf("cuda: no kernel for optimizer %T", o))
}

// adamScalars serve adam, whose decay is a penalty, and adamw, whose decay is
// decoupled.
func adamScalars(k optim.AdamStep, decoupled bool) [maxScalars]float32 {
	return [maxScalars]float32{
		k.Beta1, k.Rest1, k.Beta2, k.Rest2, k.Eps, k.Root, k.Step, k.Decay, flag(decoupled),
	}
}

func flag(on bool) float32 {
	if on {
		return 1
	}
	return 0
}
