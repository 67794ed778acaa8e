package probe

import (
	"fmt"

	"github.com/agrdist/agrdist/internal/isa"
)

// Block is the number of floats in the smallest piece that Read and Scale take.
const Block = 128

// Loops is one implementation of the probes.
type Loops struct {
	// set is the instruction set.
	set isa.Set
	// Pairs says that FMA multiplies pairs of bf16 and adds them to a float32.
	Pairs bool
	// chains is the number of accumulators of fma.
	chains int
	fma    func(out *float32, turns int)
	read   func(sums *float32, x *float32, count int)
	scale  func(x *float32, count int, alpha float32)
}

// Supported lists the loops for float32 that this processor runs, fastest first; the
// last is "go".
func Supported() []Loops {
	var all []Loops
	for _, l := range vectorLoops {
		if l.set.Runs() && !l.Pairs {
			all = append(all, l)
		}
	}
	return append(all, plain)
}

// Find returns the loops of an instruction set that this processor has: avx512bf16,
// avx512, avx2 or go.
func Find(name string) (Loops, error) {
	set, err := isa.Parse(name)
	if err != nil {
		return Loops{}, err
	}
	for _, l := range vectorLoops {
		if l.set == set.Machine() {
			return l, nil
		}
	}
	return plain, nil
}

// plain runs everywhere.
var plain = Loops{set: isa.Go, chains: goChains, fma: fmaGo, read: readGo, scale: scaleGo}

// Name is the instruction set: "avx512bf16", "avx512", "avx2" or "go".
func (l Loops) Name() string { return l.set.String() }

// FMA does turns (at least 1) of x = x/2 + 1 on every accumulator, each from 0,
// and returns the floating-point operations that this took, two a multiply-add,
// and the accumulators: 2(1 - 2^-turns) each. Pairs do x = x + 1/2 + 1/2 instead,
// four operations.
func (l Loops) FMA(turns int) (flop int, x []float32) {
	x = make([]float32, l.chains)
	l.fma(&x[0], turns)
	flop = 2 * turns * l.chains
	if l.Pairs {
		flop *= 2
	}
	return flop, x
}

// Read returns the sum of x, whose length is a multiple of Block. It reads each
// byte once.
func (l Loops) Read(x []float32) float32 {
	if whole(x) == 0 {
		return 0
	}
	var lanes [Block]float32
	l.read(&lanes[0], &x[0], len(x))
	var sum float32
	for _, v := range lanes {
		sum += v
	}
	return sum
}

// Scale is x = alpha x in place; the length is a multiple of Block. It reads and
// writes each byte once.
func (l Loops) Scale(x []float32, alpha float32) {
	if whole(x) > 0 {
		l.scale(&x[0], len(x), alpha)
	}
}

// whole is the length of x.
func whole(x []float32) int {
	if len(x)%Block != 0 {
		panic(fmt.Sprintf("probe: %d floats, not a multiple of %d", len(x), Block))
	}
	return len(x)
}
