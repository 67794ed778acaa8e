package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of Mask in bytes.
const (
	maskKey0, maskKey1                = 0, 4
	maskBlock, maskStream, maskDraw   = 8, 12, 16
	maskDrawHigh, maskLimit, maskKeep = 20, 24, 28
)

// dropout writes the kernel of Dropout: in each turn one Philox block a lane,
// which is four vectors of words. Lane 4L+i holds block i*lanes/4 + L, so that
// transposing the words within each 128 bits puts them in order.
func (s isa) dropout() {
	TEXT("dropout"+s.name, NOSPLIT, "func(dst, x *float32, turns int, m *byte)")
	Doc("dropout" + s.name + " is dst = x times the mask, a whole number of blocks of every lane at a time.")
	dst, x := Load(Param("dst"), GP64()), Load(Param("x"), GP64())
	turns, m := Load(Param("turns"), GP64()), Load(Param("m"), GP64())
	word := func(off int) reg.VecVirtual {
		v := s.vector()
		VPBROADCASTD(Mem{Base: m, Disp: off}, v)
		return v
	}
	lane := s.laneBlocks()
	block := word(maskBlock)
	VPADDD(lane, block, block)
	Label("turn")
	c := []reg.VecVirtual{s.vector(), word(maskStream), word(maskDraw), word(maskDrawHigh)}
	s.move(block, c[0])
	k0, k1 := word(maskKey0), word(maskKey1)
	s.philox(c, k0, k1)
	s.transpose(c)
	limit, keep := word(maskLimit), word(maskKeep)
	for i, w := range c {
		at := Mem{Base: x, Disp: i * s.bytes()}
		f := s.vector()
		if s.wide {
			k := K()
			VPCMPUD(Imm(5), limit, w, k) // w >= limit
			VMOVUPS_Z(keep, k, f)
		} else {
			// w >= limit: the unsigned maximum of the two is w.
			VPMAXUD(limit, w, f)
			VPCMPEQD(w, f, f)
			VANDPS(keep, f, f)
		}
		VMULPS(at, f, f)
		VMOVUPS(f, Mem{Base: dst, Disp: i * s.bytes()})
	}
	ADDQ(U32(uint32(4*s.bytes())), x)
	ADDQ(U32(uint32(4*s.bytes())), dst)
	VPADDD(s.bits(uint32(s.lanes))(), block, block)
	DECQ(turns)
	JNZ(LabelRef("turn"))
	VZEROUPPER()
	RET()
}

// laneBlocks is the number of each lane's block within a turn.
func (s isa) laneBlocks() reg.VecVirtual {
	data := GLOBL("lanes"+s.name, RODATA|NOPTR)
	for l := range s.lanes {
		DATA(4*l, U32(uint32(l%4*s.lanes/4+l/4)))
	}
	v := s.vector()
	VMOVUPS(data, v)
	return v
}

// move copies an integer vector.
func (s isa) move(from, to reg.VecVirtual) {
	if s.wide {
		VMOVDQA64(from, to)
	} else {
		VMOVDQA(from, to)
	}
}

// philox does the ten rounds on the counters c in place.
func (s isa) philox(c []reg.VecVirtual, k0, k1 reg.VecVirtual) {
	m0, m1 := s.bits(0xD2511F53), s.bits(0xCD9E8D57)
	w0, w1 := s.bits(0x9E3779B9), s.bits(0xBB67AE85)
	odd, even := s.every(0xaaaa), s.every(0x5555)
	for range 10 {
		h0, l0 := s.multiply(c[0], m0(), odd, even)
		h1, l1 := s.multiply(c[2], m1(), odd, even)
		s.xor3(h1, c[1], k0)
		s.xor3(h0, c[3], k1)
		c[0], c[1], c[2], c[3] = h1, l1, h0, l0
		VPADDD(w0(), k0, k0)
		VPADDD(w1(), k1, k1)
	}
}

// every is a mask of lanes, where there are mask registers.
func (s isa) every(lanes uint32) Op {
	if !s.wide {
		return nil
	}
	k, bits := K(), GP32()
	MOVL(U32(lanes), bits)
	KMOVW(bits, k)
	return k
}

// xor3 is x = x ^ y ^ z.
func (s isa) xor3(x, y, z reg.VecVirtual) {
	if s.wide {
		VPTERNLOGD(Imm(0x96), y, z, x)
		return
	}
	VPXOR(y, x, x)
	VPXOR(z, x, x)
}

// multiply returns the upper and lower words of the products of 32-bit lanes.
func (s isa) multiply(c, m reg.VecVirtual, oddLanes, evenLanes Op) (high, low reg.VecVirtual) {
	high, low = s.vector(), s.vector()
	VPMULUDQ(m, c, low)
	VPSRLQ(Imm(32), c, high)
	VPMULUDQ(m, high, high)
	// low is now the product of the even lanes, high that of the odd ones, 64
	// bits each; they exchange halves.
	if s.wide {
		even := s.vector()
		s.move(low, even)
		VPSHUFD(Imm(0xa0), high, oddLanes, low)
		VPSHUFD(Imm(0xf5), even, evenLanes, high)
		return high, low
	}
	odd, even := s.vector(), s.vector()
	VPSLLQ(Imm(32), high, odd)
	VPSRLQ(Imm(32), low, even)
	VPBLENDD(Imm(0xaa), odd, low, low)
	VPBLENDD(Imm(0x55), even, high, high)
	return high, low
}

// transpose turns four vectors of word 0, 1, 2, 3 of many blocks into vectors of
// whole blocks, within each 128 bits.
func (s isa) transpose(c []reg.VecVirtual) {
	t := make([]reg.VecVirtual, 4)
	for i := range t {
		t[i] = s.vector()
	}
	VPUNPCKLDQ(c[1], c[0], t[0])
	VPUNPCKHDQ(c[1], c[0], t[1])
	VPUNPCKLDQ(c[3], c[2], t[2])
	VPUNPCKHDQ(c[3], c[2], t[3])
	VPUNPCKLQDQ(t[2], t[0], c[0])
	VPUNPCKHQDQ(t[2], t[0], c[1])
	VPUNPCKLQDQ(t[3], t[1], c[2])
	VPUNPCKHQDQ(t[3], t[1], c[3])
}
