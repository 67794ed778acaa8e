// Command gen writes the assembly kernels of the host backend, one file for each
// group of them:
//
//	go run . -group tile -out ../tile_amd64.s
//
// Their Go declarations are written by hand: they name types that this module
// does not see.
package main

import (
	"flag"
	"fmt"
	"math"
	"os"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// isa is an instruction set: its vectors, and the tile that fits them.
type isa struct {
	name       string
	rows, vecs int // of a tile; vecs is its width in vectors
	lanes      int // floats in a vector
	wide       bool
	pairs      bool // a lane of a tile's operands is two bf16
}

var (
	avx512 = isa{name: "AVX512", rows: 8, vecs: 2, lanes: 16, wide: true}
	avx2   = isa{name: "AVX2", rows: 6, vecs: 2, lanes: 8}

	// avx512Wide has fewer loads a multiplication, for results of more columns.
	avx512Wide = isa{name: "AVX512Wide", rows: 6, vecs: 4, lanes: 16, wide: true}
)

// vector is a fresh vector register.
func (s isa) vector() reg.VecVirtual {
	if s.wide {
		return ZMM()
	}
	return YMM()
}

// bytes is the size of a vector.
func (s isa) bytes() int { return 4 * s.lanes }

// get loads a vector; with a mask, zeros where it ends.
func (s isa) get(at Mem, mask Op) reg.VecVirtual {
	v := s.vector()
	switch {
	case mask == nil:
		VMOVUPS(at, v)
	case s.wide:
		VMOVUPS_Z(at, mask, v)
	default:
		VMASKMOVPS(at, mask, v)
	}
	return v
}

// put stores a vector, up to where a mask ends.
func (s isa) put(v reg.VecVirtual, at Mem, mask Op) {
	switch {
	case mask == nil:
		VMOVUPS(v, at)
	case s.wide:
		VMOVUPS(v, mask, at)
	default:
		VMASKMOVPS(v, mask, at)
	}
}

// constant is a value in every lane: a register of its own where there are
// enough of them, loaded again at each use otherwise.
type constant func() reg.VecVirtual

func (s isa) constant(v float32) constant { return s.bits(math.Float32bits(v)) }

func (s isa) bits(v uint32) constant {
	at, ok := constants[v]
	if !ok {
		at = ConstData(fmt.Sprintf("c%08x", v), U32(v))
		constants[v] = at
	}
	if s.wide {
		r := s.vector()
		VBROADCASTSS(at, r)
		return func() reg.VecVirtual { return r }
	}
	return func() reg.VecVirtual {
		r := s.vector()
		VBROADCASTSS(at, r)
		return r
	}
}

// constants are the data symbols written so far, by their bits.
var constants = map[uint32]Mem{}

// broadcast is a float32 parameter in every lane.
func (s isa) broadcast(name string) reg.VecVirtual {
	v, x := s.vector(), XMM()
	Load(Param(name), x)
	VBROADCASTSS(x, v)
	return v
}

// load reads field off of the structure at t.
func load(t reg.Register, off int) reg.GPVirtual {
	r := GP64()
	MOVQ(Mem{Base: t, Disp: off}, r)
	return r
}

// loadBool reads a bool: 0 or 1.
func loadBool(t reg.Register, off int) reg.GPVirtual {
	r := GP64()
	MOVBQZX(Mem{Base: t, Disp: off}, r)
	return r
}

// masks are what limits n vectors side by side to cols lanes.
func (s isa) masks(cols reg.GPVirtual, n int) []Op {
	m := make([]Op, n)
	if s.wide {
		ones, bits := GP64(), GP64()
		MOVQ(I64(-1), ones)
		BZHIQ(cols, ones, bits)
		for j := range m {
			k := K()
			KMOVW(bits.As32(), k)
			m[j] = k
			if j+1 < len(m) {
				SHRQ(Imm(16), bits)
			}
		}
		return m
	}
	// Eight ones, then zeros: read from lane 8 - n on, the table is n ones.
	table := GP64()
	LEAQ(maskTable, table)
	for j := range m {
		n, limit, zero := GP64(), GP64(), GP64()
		MOVQ(cols, n)
		SUBQ(Imm(uint64(j*s.lanes)), n)
		XORQ(zero, zero)
		CMPQ(n, zero)
		CMOVQLT(zero, n)
		MOVQ(U32(uint32(s.lanes)), limit)
		CMPQ(n, limit)
		CMOVQGT(limit, n)
		NEGQ(n)
		v := s.vector()
		VMOVDQU(Mem{Base: table, Index: n, Scale: 4, Disp: 4 * s.lanes}, v)
		m[j] = v
	}
	return m
}

// maskTable is eight ones, then eight zeros; bitTable has bit l in lane l of eight.
var maskTable, bitTable Mem

// groups are the files' contents, by name.
var groups = map[string]func(){
	"tile": each([]isa{avx2, avx512, avx512Wide}, isa.nn, isa.tn),
	"vector": func() {
		bitTable = GLOBL("bits", RODATA|NOPTR)
		for i := range 8 {
			DATA(4*i, U32(1<<i))
		}
		each(sets, isa.vectors, isa.reductions, isa.columns, isa.dropout, isa.softmax)()
		transpose8()
	},
	"patch": each(sets, isa.patches),
	"bf16":  bf16Group,
}

var sets = []isa{avx2, avx512}

// each writes kernels for some sets.
func each(sets []isa, kernels ...func(isa)) func() {
	return func() {
		for _, s := range sets {
			for _, k := range kernels {
				k(s)
			}
		}
	}
}

func main() {
	group := flag.String("group", "", "which kernels to write")
	flag.Parse()
	write, ok := groups[*group]
	if !ok {
		fmt.Fprintf(os.Stderr, "gen: no group %q\n", *group)
		os.Exit(2)
	}
	maskTable = GLOBL("masks", RODATA|NOPTR)
	for i := range 16 {
		v := uint32(0xffffffff)
		if i >= 8 {
			v = 0
		}
		DATA(4*i, U32(v))
	}
	write()
	Generate()
}
