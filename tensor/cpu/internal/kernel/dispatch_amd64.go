package kernel

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

//go:generate sh -c "cd gen && go run . -out ../kernels_amd64.s"

//go:noescape
func nnAVX2(t *Tile)

//go:noescape
func tnAVX2(t *TileT)

//go:noescape
func nnAVX512(t *Tile)

//go:noescape
func tnAVX512(t *TileT)

// The assembly's view of the structures.
var (
	_ = [1]int{}[unsafe.Offsetof(Tile{}.B)-72|unsafe.Offsetof(Tile{}.CRow)-120|unsafe.Offsetof(Tile{}.Cols)-168]
	_ = [1]int{}[unsafe.Offsetof(TileT{}.C)-96|unsafe.Offsetof(TileT{}.LDC)-144|unsafe.Offsetof(TileT{}.Cols)-160]
)

func supported(s Set) bool {
	switch s {
	case AVX2:
		return cpu.X86.HasAVX2 && cpu.X86.HasFMA && cpu.X86.HasBMI2
	case AVX512:
		return supported(AVX2) && cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512VL
	default:
		return true
	}
}

// NN is C += A B.
func (s Set) NN(t *Tile) {
	switch {
	case s == Go:
		nnGo(t)
	case t.K == 0 || len(t.Tap) == 0 || t.Rows == 0:
	case s == AVX2:
		nnAVX2(t)
	default:
		nnAVX512(t)
	}
}

// TN is C += A^T B.
func (s Set) TN(t *TileT) {
	switch {
	case s == Go:
		tnGo(t)
	case t.P == 0 || len(t.ASeg) == 0 || t.Rows == 0:
	case s == AVX2:
		tnAVX2(t)
	default:
		tnAVX512(t)
	}
}
