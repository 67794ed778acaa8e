package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The points of F(4x4,3x3) are 0, a, -a, b, -b and infinity (package kernel says
// why); norm is 1 over the product of a point's distances to the other finite
// ones, up to its sign.
const (
	a, b         = 5. / 8, 3. / 2
	a2, b2       = a * a, b * b
	norm0        = 1 / (a2 * b2)
	normA, normB = 1 / (2 * a2 * (b2 - a2)), 1 / (2 * b2 * (b2 - a2))
)

// lines writes one dimension of the transforms; it holds their constants, by
// their sizes.
type lines struct {
	isa
	constants map[float64]constant
}

func (s isa) lines(constants []float64) lines {
	l := lines{s, map[float64]constant{}}
	for _, v := range constants {
		l.constants[v] = s.constant(float32(v))
	}
	return l
}

// registers are the operands, each in a register.
func (l lines) registers(x []Op) []reg.VecVirtual {
	r := make([]reg.VecVirtual, len(x))
	for i := range x {
		if v, ok := x[i].(reg.VecVirtual); ok {
			r[i] = v
			continue
		}
		r[i] = l.vector()
		VMOVUPS(x[i], r[i])
	}
	return r
}

// sum is x + y.
func (l lines) sum(x, y reg.VecVirtual) reg.VecVirtual {
	v := l.vector()
	VADDPS(y, x, v)
	return v
}

// difference is x - y.
func (l lines) difference(x, y reg.VecVirtual) reg.VecVirtual {
	v := l.vector()
	VSUBPS(y, x, v)
	return v
}

// times is c x.
func (l lines) times(c float64, x reg.VecVirtual) reg.VecVirtual {
	v := l.vector()
	VMULPS(l.constants[c](), x, v)
	return v
}

// add makes acc acc + c x, and returns it.
func (l lines) add(acc reg.VecVirtual, c float64, x reg.VecVirtual) reg.VecVirtual {
	if c < 0 {
		VFNMADD231PS(x, l.constants[-c](), acc)
	} else {
		VFMADD231PS(x, l.constants[c](), acc)
	}
	return acc
}

// plus is y + c x.
func (l lines) plus(y reg.VecVirtual, c float64, x reg.VecVirtual) reg.VecVirtual {
	v := l.vector()
	VMOVAPS(y, v)
	return l.add(v, c, x)
}

// less is c x - y.
func (l lines) less(c float64, x, y reg.VecVirtual) reg.VecVirtual {
	v := l.vector()
	VMOVAPS(y, v)
	VFMSUB231PS(x, l.constants[c](), v)
	return v
}

func (l lines) input(x []Op) []reg.VecVirtual {
	d := l.registers(x)
	even, odd := l.less(b2, d[2], d[4]), l.less(b2, d[1], d[3])
	y := []reg.VecVirtual{nil, l.plus(even, a, odd), l.add(even, -a, odd)}
	even, odd = l.plus(d[4], -a2, d[2]), l.plus(d[3], -a2, d[1])
	y = append(y, l.plus(even, b, odd), l.add(even, -b, odd))
	y[0] = l.add(l.add(d[4], -(a2+b2), d[2]), a2*b2, d[0])
	return append(y, l.add(l.add(d[5], -(a2+b2), d[3]), a2*b2, d[1]))
}

// inputPoint is element i of input, with the same roundings.
func (l lines) inputPoint(x []Op, i int) reg.VecVirtual {
	d := func(j int) reg.VecVirtual { return l.registers(x[j : j+1])[0] }
	sign := float64(2*(i%2) - 1)
	switch i {
	case 1, 2:
		return l.add(l.less(b2, d(2), d(4)), sign*a, l.less(b2, d(1), d(3)))
	case 3, 4:
		return l.add(l.add(d(4), -a2, d(2)), sign*b, l.add(d(3), -a2, d(1)))
	}
	return l.add(l.add(d(4+i/5), -(a2+b2), d(2+i/5)), a2*b2, d(i/5))
}

func (l lines) filter(x []Op) []reg.VecVirtual {
	g := l.registers(x)
	evenA, oddA := l.add(l.times(normA, g[0]), normA*a2, g[2]), l.times(normA*a, g[1])
	evenB, oddB := l.add(l.times(normB, g[0]), normB*b2, g[2]), l.times(normB*b, g[1])
	return []reg.VecVirtual{
		l.times(norm0, g[0]), l.sum(evenA, oddA), l.difference(evenA, oddA),
		l.sum(evenB, oddB), l.difference(evenB, oddB), g[2],
	}
}

// halves are the even and odd parts of the points a and -a, b and -b.
func (l lines) halves(m []reg.VecVirtual) (evenA, oddA, evenB, oddB reg.VecVirtual) {
	return l.sum(m[1], m[2]), l.difference(m[1], m[2]), l.sum(m[3], m[4]), l.difference(m[3], m[4])
}

func (l lines) output(x []Op) []reg.VecVirtual {
	m := l.registers(x)
	evenA, oddA, evenB, oddB := l.halves(m)
	return []reg.VecVirtual{
		l.sum(m[0], l.sum(evenA, evenB)),
		l.add(l.times(b, oddB), a, oddA),
		l.add(l.times(b2, evenB), a2, evenA),
		l.add(l.plus(m[5], b2*b, oddB), a2*a, oddA),
	}
}

func (l lines) grad(x []Op) []reg.VecVirtual {
	y := l.registers(x)
	evenA, oddA := l.plus(y[0], a2, y[2]), l.add(l.times(a, y[1]), a2*a, y[3])
	evenB, oddB := l.plus(y[0], b2, y[2]), l.add(l.times(b, y[1]), b2*b, y[3])
	return []reg.VecVirtual{
		y[0], l.sum(evenA, oddA), l.difference(evenA, oddA), l.sum(evenB, oddB), l.difference(evenB, oddB), y[3],
	}
}

// gradPoint is element i of grad, with the same roundings.
func (l lines) gradPoint(x []Op, i int) reg.VecVirtual {
	y := func(j int) reg.VecVirtual { return l.registers(x[j : j+1])[0] }
	switch i {
	case 0:
		return y(0)
	case 5:
		return y(3)
	}
	p, p2 := a, a2
	if i > 2 {
		p, p2 = b, b2
	}
	even, odd := l.add(y(0), p2, y(2)), l.add(l.times(p, y(1)), p2*p, y(3))
	if i%2 == 1 {
		return l.sum(even, odd)
	}
	return l.difference(even, odd)
}

func (l lines) filterGrad(x []Op) []reg.VecVirtual {
	m := l.registers(x)
	evenA, oddA, evenB, oddB := l.halves(m)
	return []reg.VecVirtual{
		l.add(l.add(l.times(norm0, m[0]), normB, evenB), normA, evenA),
		l.add(l.times(normB*b, oddB), normA*a, oddA),
		l.add(l.plus(m[5], normB*b2, evenB), normA*a2, evenA),
	}
}
