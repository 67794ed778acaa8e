package optim

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/gonum/mat"

	"github.com/agrdist/agrdist/internal/portable"
)

// Profiles are power-function averages of the parameters that are tracked in training
// (EDM2: Karras et al., arXiv 2312.02696, section 3.1). The average of exponent gamma moves
// at update t by
//
//	avg = b avg + (1-b) w,  b = (1 - 1/t)^(gamma+1)
//
// so that after T updates the weights of update s in it are (s/T)^(gamma+1) -
// ((s-1)/T)^(gamma+1). It depends on no constant of time: its width is a part of the
// training, however long that is.
type Profiles struct {
	Lengths   []float64 // as in PowerExponent
	exponents []float64
}

// NewProfiles prepares averages of lengths, each from 0.001 to 0.28, ascending. The error
// wraps ErrPostHoc.
func NewProfiles(lengths []float64) (Profiles, error) {
	p := Profiles{Lengths: slices.Clone(lengths)}
	before := 0.0
	for _, l := range lengths {
		gamma, err := PowerExponent(l)
		if err != nil {
			return p, err
		}
		if l <= before {
			return p, fmt.Errorf("%w: lengths %v; they must ascend", ErrPostHoc, lengths)
		}
		before = l
		p.exponents = append(p.exponents, gamma)
	}
	return p, nil
}

// Slot is the name of the state of average i: "power_ema_0_05" of length 0.05.
func (p Profiles) Slot(i int) string {
	return "power_ema_" + strings.ReplaceAll(strconv.FormatFloat(p.Lengths[i], 'f', -1, 64), ".", "_")
}

// Decay is b of average i at update t, counted from 1.
func (p Profiles) Decay(i int, t int64) float64 {
	if t == 1 { // nothing of what was before
		return 0
	}
	return portable.Pow(1-1/float64(t), p.exponents[i]+1)
}

// step is the weight of update s in the average of exponent gamma after t updates, times
// (t/end)^(gamma+1).
func step(s, end, gamma float64) float64 {
	return math.Pow(s/end, gamma+1) * -math.Expm1((gamma+1)*math.Log1p(-1/s))
}

// FitProfiles finds the combination of tracked averages, stored after updates at
// (ascending, the last one is the end of the training), that comes closest to the
// power-function average of a length (EDM2, appendix C, algorithm 3; there the profiles
// are continuous in time and the sum of the weights is free, here they are those of the
// updates and it is 1). Weight i*len(p.Lengths)+k is that of average k after update at[i].
func FitProfiles(at []int64, p Profiles, length float64) (PostHoc, error) {
	gamma, err := PowerExponent(length)
	if err != nil {
		return PostHoc{}, err
	}
	if len(at) == 0 || len(p.exponents) == 0 || at[0] < 1 || !slices.IsSorted(at) || len(slices.Compact(slices.Clone(at))) < len(at) {
		return PostHoc{}, fmt.Errorf("%w: %d averages stored after updates %v", ErrPostHoc, len(p.exponents), at)
	}
	// Profiles that end earlier are the later ones' beginnings, scaled: inner products are
	// sums up to the earlier end of products that belong to the two exponents alone.
	exponents := append(slices.Clone(p.exponents), gamma)
	kinds := len(exponents)
	end := float64(at[len(at)-1])
	sums := make([]float64, kinds*kinds)
	steps := make([]float64, kinds)
	upTo := make([][]float64, len(at)) // sums at each stored average
	next := 0
	for s := int64(1); next < len(at); s++ {
		for k, g := range exponents {
			steps[k] = step(float64(s), end, g)
		}
		for a := range kinds {
			for b := range kinds {
				sums[a*kinds+b] += steps[a] * steps[b]
			}
		}
		if s == at[next] {
			upTo[next] = slices.Clone(sums)
			next++
		}
	}
	scale := func(i, k int) float64 { return math.Pow(end/float64(at[i]), exponents[k]+1) }
	last, tracked := len(at)-1, kinds-1
	n := len(at) * tracked
	inner, along := mat.NewSymDense(n, nil), make([]float64, n)
	for i := range n {
		ti, ki := i/tracked, i%tracked
		along[i] = scale(ti, ki) * upTo[ti][ki*kinds+tracked]
		for j := i; j < n; j++ {
			tj, kj := j/tracked, j%tracked // at[tj] >= at[ti]
			inner.SetSym(i, j, scale(ti, ki)*scale(tj, kj)*upTo[ti][ki*kinds+kj])
		}
	}
	return fit(inner, along, upTo[last][tracked*kinds+tracked])
}
