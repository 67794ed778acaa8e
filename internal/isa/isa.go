package isa

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// Set is a set of vector instructions. Those of one architecture are in order: each
// contains the ones before it.
type Set uint8

// The sets, from the one that runs everywhere to the widest.
const (
	Go         Set = iota // no assembly
	AVX2                  // AVX2, FMA, BMI2
	AVX512                // AVX-512 F, BW, DQ, VL
	AVX512BF16            // AVX-512 and its multiplication of pairs of bf16
	NEON                  // Advanced SIMD, which every arm64 has
)

// Env is the environment variable that names the set to use.
const Env = "AGRDIST_CPU"

// ErrSet is wrapped by the errors of Parse and FromEnv.
var ErrSet = errors.New("isa: no such instruction set")

var names = [...]string{Go: "go", AVX2: "avx2", AVX512: "avx512", AVX512BF16: "avx512bf16", NEON: "neon"}

// String is the name that Parse takes.
func (s Set) String() string { return names[s] }

// F32 is the part of the set that computes in float32: AVX512 of AVX512BF16, else s.
func (s Set) F32() Set {
	if s == AVX512BF16 {
		return AVX512
	}
	return s
}

// Parse returns the set of a name. It fails on an unknown name and on a set that this
// processor does not have.
func Parse(name string) (Set, error) {
	for s, n := range names {
		if n == name && Set(s).Runs() {
			return Set(s), nil
		}
	}
	for _, n := range names {
		if n == name {
			return Go, fmt.Errorf("%w: this processor cannot run %q; it runs %s", ErrSet, name, strings.Join(here(), ", "))
		}
	}
	return Go, fmt.Errorf("%w: %q; this processor runs %s", ErrSet, name, strings.Join(here(), ", "))
}

// FromEnv returns the set that AGRDIST_CPU names, and false where it names none.
func FromEnv() (s Set, named bool, err error) {
	name := os.Getenv(Env)
	if name == "" {
		return Go, false, nil
	}
	if s, err = Parse(name); err != nil {
		return Go, false, fmt.Errorf("%s: %w", Env, err)
	}
	return s, true, nil
}

// Supported lists the sets for float32 that this processor has, the widest last.
func Supported() []Set {
	var all []Set
	for i := range names {
		if s := Set(i); s == s.F32() && s.Runs() {
			all = append(all, s)
		}
	}
	return all
}

// Best is the widest set for float32.
func Best() Set {
	all := Supported()
	return all[len(all)-1]
}

// here lists the names of what this processor runs.
func here() (all []string) {
	for s, n := range names {
		if Set(s).Runs() {
			all = append(all, n)
		}
	}
	return all
}
