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
	NEONBF16              // NEON and its multiplication of matrices of bf16 (FEAT_BF16)

	// The portable sets use the instructions of the set of that name, and all round alike,
	// as AVX2 does: a run may have several of them.
	PortableGo
	PortableAVX2
	PortableAVX512
	PortableNEON
)

// Rounding is the name that all portable sets have in common, and by which Parse finds the
// widest one of this processor.
const Rounding = "portable"

// Env is the environment variable that names the set to use.
const Env = "AGRDIST_CPU"

// ErrSet is wrapped by the errors of Parse and FromEnv.
var ErrSet = errors.New("isa: no such instruction set")

var names = [...]string{
	Go: "go", AVX2: "avx2", AVX512: "avx512", AVX512BF16: "avx512bf16", NEON: "neon", NEONBF16: "neonbf16",
	PortableGo: "portable-go", PortableAVX2: "portable-avx2", PortableAVX512: "portable-avx512", PortableNEON: "portable-neon",
}

// machine are the instructions of the portable sets.
var machine = map[Set]Set{PortableGo: Go, PortableAVX2: AVX2, PortableAVX512: AVX512, PortableNEON: NEON}

// String is the name that Parse takes.
func (s Set) String() string { return names[s] }

// Machine is the set of the instructions that s uses: s itself where it is not portable.
func (s Set) Machine() Set {
	if m, ok := machine[s]; ok {
		return m
	}
	return s
}

// Portable tells whether s rounds as all portable sets do.
func (s Set) Portable() bool { return s != s.Machine() }

// Rounding names what the last bits of a result depend on: sets of one name round alike.
func (s Set) Rounding() string {
	if s.Portable() {
		return Rounding
	}
	return s.String()
}

// F32 is the part of the set that computes in float32: AVX512 of AVX512BF16, NEON of
// NEONBF16, else s.
func (s Set) F32() Set {
	switch s {
	case AVX512BF16:
		return AVX512
	case NEONBF16:
		return NEON
	case Go, AVX2, AVX512, NEON, PortableGo, PortableAVX2, PortableAVX512, PortableNEON:
	}
	return s
}

// Parse returns the set of a name. It fails on an unknown name and on a set that this
// processor does not have.
func Parse(name string) (Set, error) {
	if name == Rounding {
		return BestPortable(), nil
	}
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

// Supported lists the sets for float32 that this processor has, the widest last, without
// the portable ones.
func Supported() []Set { return filter(func(s Set) bool { return s == s.F32() && !s.Portable() }) }

// Portables lists the portable sets that this processor has, the widest last.
func Portables() []Set { return filter(Set.Portable) }

func filter(is func(Set) bool) (all []Set) {
	for i := range names {
		if s := Set(i); s.Runs() && is(s) {
			all = append(all, s)
		}
	}
	return all
}

// BestPortable is the widest portable set.
func BestPortable() Set {
	all := Portables()
	return all[len(all)-1]
}

// Best is the widest set for float32.
func Best() Set {
	all := Supported()
	return all[len(all)-1]
}

// here lists the names of what this processor runs; the portable sets have one for all.
func here() (all []string) {
	for _, s := range filter(func(s Set) bool { return !s.Portable() }) {
		all = append(all, s.String())
	}
	return append(all, Rounding)
}
