package kernel

import "github.com/agrdist/agrdist/internal/isa"

// Also for arm64 from any machine: go generate passes over the files of other architectures.
//go:generate go run ./neon -group tile -out tile_arm64.s
//go:generate go run ./neon -group bf16 -out bf16_arm64.s
//go:generate go run ./neon -group vector -out vector_arm64.s
//go:generate go run ./neon -group patch -out patch_arm64.s

// Set names an implementation of all the kernels, by the instructions it uses.
type Set isa.Set

// The sets, from the one that runs everywhere to the widest.
const (
	Go     = Set(isa.Go)
	AVX2   = Set(isa.AVX2)
	AVX512 = Set(isa.AVX512)
	// AVX512BF16 is AVX512 but for its tiles, whose operands are pairs of bf16.
	AVX512BF16 = Set(isa.AVX512BF16)
	NEON       = Set(isa.NEON)
	// NEONBF16 is NEON but for its tiles, whose operands are pairs of bf16.
	NEONBF16 = Set(isa.NEONBF16)
	// PortableGo is plain Go with the roundings and the orders of AVX2, which NEON has too.
	PortableGo = Set(isa.PortableGo)
	// PortableAVX512 is AVX512 with the kernels of AVX2 for the sums over lanes, of which
	// it has eight: the others round alike.
	PortableAVX512 = Set(isa.PortableAVX512)
)

// Of is the implementation that an instruction set means.
func Of(s isa.Set) Set {
	if s == isa.PortableAVX2 || s == isa.PortableNEON {
		return Set(s.Machine())
	}
	return Set(s)
}

// plain tells whether a set is written in Go.
func (s Set) plain() bool { return s == Go || s == PortableGo }

// eight tells whether sums over lanes are AVX2's.
func (s Set) eight() bool { return s == AVX2 || s == PortableAVX512 }

// Slack is how many floats past the last element of an operand a kernel may
// read.
const Slack = 64

// String is the name of the instruction set.
func (s Set) String() string { return isa.Set(s).String() }

// Supported lists the sets for float32 operands that this processor runs, the widest
// last.
func Supported() []Set { return sets(isa.Supported()) }

// Portables lists those of the portable sets, which all round alike.
func Portables() []Set { return sets(isa.Portables()) }

func sets(of []isa.Set) (all []Set) {
	for _, s := range of {
		all = append(all, Of(s))
	}
	return all
}

// F32 is the set for float32 operands: AVX512 of AVX512BF16, NEON of NEONBF16, else s.
func (s Set) F32() Set { return Set(isa.Set(s).F32()) }
