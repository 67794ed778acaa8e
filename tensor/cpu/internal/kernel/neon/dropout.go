package main

import (
	"math/bits"
	"unsafe"

	"github.com/agrdist/agrdist/internal/neon"
	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
)

const philoxM0, philoxM1 = 0xD2511F53, 0xCD9E8D57

var mask kernel.Mask

// generator makes the words of a Mask, four blocks a turn, one in each lane.
type generator struct {
	fn
	block, m0, m1, stream, draw, drawHigh, turn neon.V
	keys                                        []neon.V // four words each
}

func (f fn) generator(m neon.R) generator {
	g := generator{
		fn: f, block: f.Field(m, unsafe.Offsetof(mask.Block)), m0: f.Bits(philoxM0), m1: f.Bits(philoxM1),
		stream: f.Field(m, unsafe.Offsetof(mask.Stream)), draw: f.Field(m, unsafe.Offsetof(mask.Draw)),
		drawHigh: f.Field(m, unsafe.Offsetof(mask.Draw)+4), turn: f.Bits(lanes),
	}
	number := f.Vector()
	f.Load('q', number, f.Address("numbers"), 0)
	f.Do("add.4s", g.block, g.block, number)
	keys := f.Int()
	f.Do2("ADD", int(unsafe.Offsetof(mask.Rounds)), m, keys)
	for i := range len(mask.Rounds) / lanes {
		k := f.Vector()
		f.Load('q', k, keys, i*bytes)
		g.keys = append(g.keys, k)
	}
	return g
}

// words are the four words of each block, and moves to the next turn.
func (g generator) words() []neon.V {
	c := []neon.V{g.block, g.stream, g.draw, g.drawHigh}
	for round := range len(mask.Rounds) / 2 {
		high0, low0 := g.multiply(c[0], g.m0)
		high1, low1 := g.multiply(c[2], g.m1)
		c = []neon.V{g.mix(high1, c[1], 2*round), low1, g.mix(high0, c[3], 2*round+1), low0}
	}
	g.Do("add.4s", g.block, g.block, g.turn)
	return c
}

// multiply is the upper and the lower halves of the products.
func (g generator) multiply(x, m neon.V) (high, low neon.V) {
	first, second := g.New("umull.2d", x, m), g.New("umull2.2d", x, m)
	return g.New("uzp2.4s", first, second), g.New("uzp1.4s", first, second)
}

// mix is x ^ y ^ key i.
func (g generator) mix(x, y neon.V, i int) neon.V {
	k := g.Vector()
	g.Dup(k, g.keys[i/lanes], i%lanes)
	return g.New("eor.16b", g.New("eor.16b", x, y), k)
}

// dropout is the kernel of Dropout: 16 elements a turn, taken apart by their word.
func dropout() fn {
	f := begin("dropout", "dst = x times the mask, 16 elements a turn", "dst", "x", "turns", "m")
	dst, x, turns, m := f.Arg("dst"), f.Arg("x"), f.Arg("turns"), f.Arg("m")
	g := f.generator(m)
	limit, keep := f.Field(m, unsafe.Offsetof(mask.Limit)), f.Field(m, unsafe.Offsetof(mask.Keep))
	v, step := f.Fixed(28, 4), f.Int()
	f.Set(4*bytes, step)
	f.Label("turn")
	words := g.words()
	f.LoadRun("4", v, x, step)
	for i, w := range words {
		s := f.New("cmhs.4s", w, limit)
		f.Do("and.16b", s, s, keep)
		f.Do("fmul.4s", v[i], v[i], s)
	}
	f.StoreRun("4", v, dst, step)
	f.Do2("SUBS", 1, turns, turns)
	f.Jump("BNE", "turn")
	f.End()
	return f
}

// maskBits is the kernel of MaskBits: rows of turns of 16 bits.
func maskBits() fn {
	f := begin("maskBits", "a bit for each element of rows of turns: 1 where the mask keeps it", "dst", "turns", "rows", "skip", "m")
	dst, turns, left, m := f.Arg("dst"), f.Arg("turns"), f.Arg("rows"), f.Arg("m")
	jump := f.Vector()
	f.DupInt(jump, f.Arg("skip"))
	g := f.generator(m)
	limit := f.Field(m, unsafe.Offsetof(mask.Limit))
	var place [lanes]neon.V
	table := f.Address("places")
	for i := range place {
		place[i] = f.Vector()
		f.Load('q', place[i], table, i*bytes)
	}
	n := f.Int()
	f.Label("row")
	f.Move(turns, n)
	f.Label("turn")
	var all neon.V
	for i, w := range g.words() {
		kept := f.New("and.16b", f.New("cmhs.4s", w, limit), place[i])
		if i > 0 {
			kept = f.New("orr.16b", kept, all)
		}
		all = kept
	}
	word := f.Int()
	f.ToInt(word, f.New("addv.4s", all), 0)
	f.Write("MOVH", word, dst)
	f.Do2("ADD", 2, dst, dst)
	f.Do2("SUBS", 1, n, n)
	f.Jump("BNE", "turn")
	f.Do("add.4s", g.block, g.block, jump)
	f.Do2("SUBS", 1, left, left)
	f.Jump("BNE", "row")
	f.End()
	return f
}

// maskTables are the numbers of a turn's blocks, and the bits of word i of them; the
// columns' masks test the first two rows of lanes.
func maskTables() string {
	var places []uint32
	for word := range lanes {
		for block := range lanes {
			places = append(places, bits.RotateLeft32(1, lanes*block+word))
		}
	}
	return neon.Data("numbers", 0, 1, 2, 3) + neon.Data("places", places...) + neon.Data("nibbles", 1, 2, 4, 8, 16, 32, 64, 128)
}
