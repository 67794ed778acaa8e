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
)

// Slack is how many floats past the last element of an operand a kernel may
// read.
const Slack = 32

// MaxRows is the largest number of rows of a tile in any set.
const MaxRows = 8

var setNames = [...]string{Go: "go", AVX2: "avx2", AVX512: "avx512"}

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

// Supported lists the sets that this processor runs.
func Supported() []Set {
	var all []Set
	for s := range setNames {
		if supported(Set(s)) {
			all = append(all, Set(s))
		}
	}
	return all
}

func best() Set {
	all := Supported()
	return all[len(all)-1]
}

// Rows is the number of rows of a full tile.
func (s Set) Rows() int { return [...]int{Go: 8, AVX2: 6, AVX512: 8}[s] }

// Cols is the number of columns of a full tile and the width of a packed panel
// of B.
func (s Set) Cols() int { return [...]int{Go: 32, AVX2: 16, AVX512: 32}[s] }
