package agr

import (
	"fmt"
	"math"

	"github.com/agrdist/agrdist/internal/isa"
	"github.com/agrdist/agrdist/optim"
)

// Also for arm64 from any machine: go generate passes over the files of other architectures.
//go:generate go run ./internal/neon -out kernels_gen_arm64.s

// kernels is one implementation of the two passes. All of them give the same
// bits.
type kernels struct {
	set   isa.Set
	norms func(x []float32) (l1, sq float64) // twin of optim.Norms
	adan  adanKernel                         // nil: the second pass is portable Go
}

// adanKernel does clip, AGR, Adan and, where ema is not nil, the moving average
// for count elements, a multiple of vectorLen. k points to the coefficients in
// the order of the constants below; den is the tensor's denominator.
type adanKernel func(k *coefficients, den float32, count int, w, grad, m, v, n, prev, ema *float32)

// vectorLen is the number of elements that all vector kernels handle at a time.
const vectorLen = 16

// coefficients are the scalars of an update in the order that the generator
// (internal/asm) knows too.
type coefficients = [16]float32

const (
	kBeta1 = iota
	kRest1
	kBeta2
	kRest2
	kBeta3
	kRest3
	kEps
	kRootN
	kStepM
	kStepV
	kDecayBefore
	kDecayAfter
	kClip
	kAverage // 1 - EMA decay
	kHistory // a mask: all bits set, or none at the first update
	kOne
)

// pickKernels returns the widest kernels within what AGRDIST_CPU asks for, or of this
// processor.
func pickKernels() (kernels, error) {
	set, named, err := isa.FromEnv()
	if err != nil {
		return kernels{}, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if !named {
		set = isa.Best()
	}
	set = set.Machine() // all kernels give the same bits
	for _, k := range vectorKernels {
		if k.set <= set {
			return k, nil
		}
	}
	return kernels{set: isa.Go, norms: optim.Norms}, nil
}

// adanState is Adan's state and scalars as the assembly kernels take them.
type adanState struct {
	o             *optim.Adan
	kernel        adanKernel
	m, v, n, prev []float32
	k             coefficients
}

func newAdanState(o *optim.Adan, kernel adanKernel) *adanState {
	slots := map[string][]float32{}
	for _, s := range o.Slots() {
		slots[s.Name] = s.Float32s()
	}
	return &adanState{
		o: o, kernel: kernel,
		m: slots["exp_avg"], v: slots["exp_avg_diff"], n: slots["exp_avg_sq"], prev: slots["neg_pre_grad"],
	}
}

// begin computes the coefficients of an update.
func (a *adanState) begin(u *update, clip float32) {
	s := a.o.Scalars(u.lr, u.t)
	history := uint32(math.MaxUint32)
	if s.First {
		history = 0
	}
	a.k = coefficients{
		kBeta1: s.Beta1, kRest1: s.Rest1,
		kBeta2: s.Beta2, kRest2: s.Rest2,
		kBeta3: s.Beta3, kRest3: s.Rest3,
		kEps: s.Eps, kRootN: s.RootN,
		kStepM: s.StepM, kStepV: s.StepV,
		kDecayBefore: s.DecayBefore, kDecayAfter: s.DecayAfter,
		kClip: clip, kAverage: float32(1 - u.decay),
		kHistory: math.Float32frombits(history), kOne: 1,
	}
}

// run handles the elements of b up to the last whole vector and returns where
// the rest begins.
func (a *adanState) run(u *update, den float32, b optim.Block) int {
	count := (b.Hi - b.Lo) &^ (vectorLen - 1)
	if count == 0 {
		return b.Lo
	}
	end := b.Lo + count
	w, g := u.params[b.Lo:end], u.grads[b.Lo:end]
	m, v := a.m[b.Lo:end], a.v[b.Lo:end]
	n, prev := a.n[b.Lo:end], a.prev[b.Lo:end]
	var ema *float32
	if u.ema != nil && u.decay != 0 {
		ema = &u.ema[b.Lo:end][0]
	}
	a.kernel(&a.k, den, count, &w[0], &g[0], &m[0], &v[0], &n[0], &prev[0], ema)
	if u.ema != nil && u.decay == 0 {
		optim.EMA(u.ema[b.Lo:end], w, 0)
	}
	return end
}
