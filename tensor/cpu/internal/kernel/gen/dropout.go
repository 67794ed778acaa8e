package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of Mask in bytes.
const (
	maskBlock, maskStream, maskDraw   = 8, 12, 16
	maskDrawHigh, maskLimit, maskKeep = 20, 24, 28
	maskRounds                        = 32 // the two keys of each round
	philoxRounds, philoxM0, philoxM1  = 10, 0xD2511F53, 0xCD9E8D57
	bytesOfKeys                       = 8
)

// generator makes the words of a Mask, a turn of one block a 32-bit lane at a
// time: two groups of one block a 64-bit lane, each word of which is the lower
// half of its lane. What is above it does not matter: VPMULUDQ does not look
// there, and nothing else moves it down.
type generator struct {
	isa
	m                        reg.Register
	block                    reg.VecVirtual
	m0, m1, second, nextTurn constant
	stream, draw, drawHigh   constant
}

func (s isa) generator(m reg.Register) generator {
	g := generator{
		isa: s, m: m, m0: s.bits(philoxM0), m1: s.bits(philoxM1),
		second: s.bits(uint32(s.lanes / 2)), nextTurn: s.bits(uint32(s.lanes)),
		stream: s.word(m, maskStream), draw: s.word(m, maskDraw), drawHigh: s.word(m, maskDrawHigh),
	}
	lanes := s.laneBlocks()
	g.block = s.vector()
	VPBROADCASTD(Mem{Base: m, Disp: maskBlock}, g.block)
	VPADDD(lanes, g.block, g.block)
	return g
}

// word is a field in every lane: as constant does.
func (s isa) word(m reg.Register, off int) constant {
	read := func() reg.VecVirtual {
		v := s.vector()
		VPBROADCASTD(Mem{Base: m, Disp: off}, v)
		return v
	}
	if !s.wide {
		return read
	}
	v := read()
	return func() reg.VecVirtual { return v }
}

// laneBlocks is the number of each 64-bit lane's block within a group: in the even
// lanes, then in the odd ones, so that unpacking puts the blocks in order.
func (s isa) laneBlocks() reg.VecVirtual {
	data, ok := laneTables[s.name]
	if !ok {
		data = GLOBL("lanes"+s.name, RODATA|NOPTR)
		for l := range s.lanes / 2 {
			DATA(8*l, U64(uint64(l%2*s.lanes/4+l/2)))
		}
		laneTables[s.name] = data
	}
	v := s.vector()
	VMOVUPS(data, v)
	return v
}

// laneTables are the tables of laneBlocks written so far.
var laneTables = map[string]Mem{}

// words are the words of a turn in order, in four vectors.
func (g generator) words() []reg.VecVirtual {
	var all []reg.VecVirtual
	for group := range 2 {
		first := g.vector()
		if group == 0 {
			g.move(g.block, first)
		} else {
			VPADDD(g.second(), g.block, first)
		}
		all = append(all, g.group(first)...)
	}
	return all
}

// advance moves to the next turn.
func (g generator) advance() { VPADDD(g.nextTurn(), g.block, g.block) }

// group does the ten rounds for one block a 64-bit lane, and unpacks.
func (g generator) group(first reg.VecVirtual) []reg.VecVirtual {
	c := []reg.VecVirtual{first, g.stream(), g.draw(), g.drawHigh()}
	for round := range philoxRounds {
		p0, p1, h0, h1 := g.vector(), g.vector(), g.vector(), g.vector()
		VPMULUDQ(g.m0(), c[0], p0)
		VPMULUDQ(g.m1(), c[2], p1)
		VPSHUFD(Imm(0xf5), p0, h0) // a shift would take the multiplications' port
		VPSHUFD(Imm(0xf5), p1, h1)
		key := maskRounds + bytesOfKeys*round
		g.xor3(h1, c[1], Mem{Base: g.m, Disp: key})
		g.xor3(h0, c[3], Mem{Base: g.m, Disp: key + 4})
		c = []reg.VecVirtual{h1, p1, h0, p0}
	}
	first01, first23 := g.pair(c[0], c[1]), g.pair(c[2], c[3])
	even, odd := g.vector(), g.vector()
	VPUNPCKLQDQ(first23, first01, even)
	VPUNPCKHQDQ(first23, first01, odd)
	return []reg.VecVirtual{even, odd}
}

// pair puts the lower halves of b above those of a.
func (g generator) pair(a, b reg.VecVirtual) reg.VecVirtual {
	if g.wide {
		VPSHUFD(Imm(0xa0), b, g.every(0xaaaa), a)
		return a
	}
	VPSLLQ(Imm(32), b, b)
	VPBLENDD(Imm(0xaa), b, a, a)
	return a
}

// xor3 is x = x ^ y ^ the word at z in every lane.
func (g generator) xor3(x, y reg.VecVirtual, z Mem) {
	if g.wide {
		VPTERNLOGD_BCST(Imm(0x96), z, y, x)
		return
	}
	key := g.vector()
	VPBROADCASTD(z, key)
	VPXOR(y, x, x)
	VPXOR(key, x, x)
}

// dropout writes the kernels of Dropout and of the bits of a mask.
func (s isa) dropout() {
	TEXT("dropout"+s.name, NOSPLIT, "func(dst, x *float32, turns int, m *byte)")
	Doc("dropout" + s.name + " is dst = x times the mask, a whole number of blocks of every lane at a time.")
	dst, x := Load(Param("dst"), GP64()), Load(Param("x"), GP64())
	turns, m := Load(Param("turns"), GP64()), Load(Param("m"), GP64())
	g := s.generator(m)
	limit, keep := s.word(m, maskLimit), s.word(m, maskKeep)
	Label("turn")
	for i, w := range g.words() {
		f := s.vector()
		if s.wide {
			k := K()
			VPCMPUD(Imm(5), limit(), w, k) // w >= limit
			VMOVUPS_Z(keep(), k, f)
		} else {
			// w >= limit: the unsigned maximum of the two is w.
			VPMAXUD(limit(), w, f)
			VPCMPEQD(w, f, f)
			VANDPS(keep(), f, f)
		}
		VMULPS(Mem{Base: x, Disp: i * s.bytes()}, f, f)
		VMOVUPS(f, Mem{Base: dst, Disp: i * s.bytes()})
	}
	g.advance()
	ADDQ(U32(uint32(4*s.bytes())), x)
	ADDQ(U32(uint32(4*s.bytes())), dst)
	DECQ(turns)
	JNZ(LabelRef("turn"))
	VZEROUPPER()
	RET()
	s.maskBits()
}

// maskBits writes the kernel of MaskBits: rows of turns, and block numbers to
// leave out between two rows.
func (s isa) maskBits() {
	TEXT("maskBits"+s.name, NOSPLIT, "func(dst *uint64, turns, rows, skip int, m *byte)")
	Doc("maskBits" + s.name + " writes a bit for each element of rows of turns: 1 where the mask keeps it.")
	dst, turns := Load(Param("dst"), GP64()), Load(Param("turns"), GP64())
	rows, skip := Load(Param("rows"), GP64()), Load(Param("skip"), GP64())
	m := Load(Param("m"), GP64())
	g := s.generator(m)
	limit, jump, x := s.word(m, maskLimit), s.vector(), XMM()
	MOVQ(skip, x)
	VPBROADCASTD(x, jump)
	left := GP64()
	Label("row")
	MOVQ(turns, left)
	Label("turn")
	for i, w := range g.words() {
		at := Mem{Base: dst, Disp: i * s.lanes / 8}
		if s.wide {
			k := K()
			VPCMPUD(Imm(5), limit(), w, k)
			KMOVW(k, at)
			continue
		}
		f, bits := s.vector(), GP32()
		VPMAXUD(limit(), w, f)
		VPCMPEQD(w, f, f)
		VMOVMSKPS(f, bits)
		MOVB(bits.As8(), at)
	}
	g.advance()
	ADDQ(Imm(uint64(s.lanes/2)), dst)
	DECQ(left)
	JNZ(LabelRef("turn"))
	VPADDD(jump, g.block, g.block)
	DECQ(rows)
	JNZ(LabelRef("row"))
	VZEROUPPER()
	RET()
}

// move copies an integer vector.
func (s isa) move(from, to reg.VecVirtual) {
	if s.wide {
		VMOVDQA64(from, to)
	} else {
		VMOVDQA(from, to)
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
