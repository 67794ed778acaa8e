package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// transpose8 writes the kernel of Transpose on eight rows: blocks of 8x8, along
// the rows. It needs no more than AVX and serves both sets.
func transpose8() {
	TEXT("transpose8", NOSPLIT, "func(dst *float32, ldd int, src *float32, lds, blocks int)")
	Doc("transpose8 is dst[c, r] = src[r, c] for eight r and 8*blocks c.")
	dst, ldd := Load(Param("dst"), GP64()).(reg.GPVirtual), Load(Param("ldd"), GP64()).(reg.GPVirtual)
	src, lds := Load(Param("src"), GP64()).(reg.GPVirtual), Load(Param("lds"), GP64()).(reg.GPVirtual)
	blocks := Load(Param("blocks"), GP64())
	SHLQ(Imm(2), ldd)
	SHLQ(Imm(2), lds)
	ldd3, lds3 := GP64(), GP64()
	LEAQ(Mem{Base: ldd, Index: ldd, Scale: 2}, ldd3)
	LEAQ(Mem{Base: lds, Index: lds, Scale: 2}, lds3)
	Label("block")
	r := make([]reg.VecVirtual, 8)
	eight(src, lds, lds3, func(i int, at Mem) {
		r[i] = YMM()
		VMOVUPS(at, r[i])
	})
	t := make([]reg.VecVirtual, 8)
	for i := 0; i < 8; i += 2 {
		t[i], t[i+1] = YMM(), YMM()
		VUNPCKLPS(r[i+1], r[i], t[i])
		VUNPCKHPS(r[i+1], r[i], t[i+1])
	}
	// In each half, r[4q+c] holds column c (and c+4) of rows 4q to 4q+3.
	for q := 0; q < 8; q += 4 {
		for c := range 2 {
			r[q+2*c], r[q+2*c+1] = YMM(), YMM()
			VUNPCKLPD(t[q+2+c], t[q+c], r[q+2*c])
			VUNPCKHPD(t[q+2+c], t[q+c], r[q+2*c+1])
		}
	}
	out := make([]reg.VecVirtual, 8)
	for c := range 4 {
		out[c], out[c+4] = YMM(), YMM()
		VINSERTF128(Imm(1), r[4+c].AsX(), r[c], out[c])
		VPERM2F128(Imm(0x31), r[4+c], r[c], out[c+4])
	}
	eight(dst, ldd, ldd3, func(i int, at Mem) { VMOVUPS(out[i], at) })
	ADDQ(Imm(32), src)
	LEAQ(Mem{Base: dst, Index: ldd, Scale: 8}, dst)
	DECQ(blocks)
	JNZ(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// eight calls f with the memory of eight rows.
func eight(base, ld, ld3 reg.GPVirtual, f func(i int, at Mem)) {
	lower := GP64()
	LEAQ(Mem{Base: base, Index: ld, Scale: 4}, lower)
	for i := range 8 {
		at := Mem{Base: base}
		if i >= 4 {
			at.Base = lower
		}
		switch i % 4 {
		case 1:
			at.Index, at.Scale = ld, 1
		case 2:
			at.Index, at.Scale = ld, 2
		case 3:
			at.Index, at.Scale = ld3, 1
		}
		f(i, at)
	}
}
