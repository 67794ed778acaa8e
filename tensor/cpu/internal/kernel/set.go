package kernel

import (
	"errors"
	"fmt"
	"strings"
)

// Set names an implementation of all the kernels.
type Set uint8

// The sets, from the one that runs everywhere to the widest.
const (
	Go Set = iota
	AVX2
	AVX512
	// AVX512BF16 is AVX512 but for its tiles, whose operands are pairs of bf16.
	AVX512BF16
)

// Slack is how many floats past the last element of an operand a kernel may
// read.
const Slack = 64

var setNames = [...]string{Go: "go", AVX2: "avx2", AVX512: "avx512", AVX512BF16: "avx512bf16"}

// ErrSet is wrapped by Parse.
var ErrSet = errors.New("kernel: no such kernel set")

// String is the name that Parse takes.
func (s Set) String() string { return setNames[s] }

// Parse returns the named set, or the best one of this processor for "". It
// fails on an unknown name and on a set that this processor cannot run.
func Parse(name string) (Set, error) {
	if name == "" {
		return best(), nil
	}
	for s, n := range setNames {
		if n == name {
			if !supported(Set(s)) {
				return Go, fmt.Errorf("%w: %q does not run on this processor", ErrSet, name)
			}
			return Set(s), nil
		}
	}
	return Go, fmt.Errorf("%w: %q, want one of %s", ErrSet, name, strings.Join(setNames[:], ", "))
}

// Supported lists the sets for float32 operands that this processor runs.
func Supported() []Set {
	var all []Set
	for s := Go; s <= AVX512; s++ {
		if supported(s) {
			all = append(all, s)
		}
	}
	return all
}

// F32 is the set for float32 operands: AVX512 of AVX512BF16, else s.
func (s Set) F32() Set { return min(s, AVX512) }

func best() Set {
	all := Supported()
	return all[len(all)-1]
}
