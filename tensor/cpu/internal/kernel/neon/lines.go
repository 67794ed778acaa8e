package main

import (
	"math"
	"slices"

	"github.com/agrdist/agrdist/internal/neon"
)

// The points of F(4x4,3x3) are 0, a, -a, b, -b and infinity (package kernel says why);
// norm is 1 over the product of a point's distances to the other finite ones, up to its
// sign.
const (
	a, b         = 5. / 8, 3. / 2
	a2, b2       = a * a, b * b
	norm0        = 1 / (a2 * b2)
	normA, normB = 1 / (2 * a2 * (b2 - a2)), 1 / (2 * b2 * (b2 - a2))
)

// factors are what the lines multiply with, four in a register.
var factors = []float64{a, b, a2, b2, a2 * b2, a2 + b2, a2 * a, b2 * b, norm0, normA, normA * a, normA * a2, normB, normB * b, normB * b2}

func factorTable() string {
	words := make([]uint32, (len(factors)+lanes-1)/lanes*lanes)
	for i, v := range factors {
		words[i] = math.Float32bits(float32(v))
	}
	return neon.Data("factors", words...)
}

// lines writes one dimension of the transforms, with the roundings of the AVX2 kernels
// (gen/lines.go).
type lines struct {
	fn
	table []neon.V
}

// lines loads the registers of the table that some factors are in.
func (f fn) lines(used []float64) lines {
	l := lines{fn: f, table: make([]neon.V, (len(factors)+lanes-1)/lanes)}
	from, have := f.Address("factors"), make([]bool, len(l.table))
	for _, v := range used {
		if i := slices.Index(factors, v) / lanes; !have[i] {
			have[i], l.table[i] = true, f.Vector()
			f.Load('q', l.table[i], from, i*bytes)
		}
	}
	return l
}

// by is d = d + c x, d - c x or c x.
func (l lines) by(name string, d, x neon.V, c float64) neon.V {
	i := slices.Index(factors, c)
	l.Lane(name, d, x, l.table[i/lanes], i%lanes)
	return d
}

func (l lines) sum(x, y neon.V) neon.V           { return l.New("fadd.4s", x, y) }
func (l lines) difference(x, y neon.V) neon.V    { return l.New("fsub.4s", x, y) }
func (l lines) times(c float64, x neon.V) neon.V { return l.by("fmul", l.Vector(), x, c) }

// less is b^2 x - y.
func (l lines) less(x, y neon.V) neon.V { return l.by("fmla", l.New("fneg.4s", y), x, b2) }

// add makes acc acc + c x, and returns it.
func (l lines) add(acc neon.V, c float64, x neon.V) neon.V {
	if c < 0 {
		return l.by("fmls", acc, x, -c)
	}
	return l.by("fmla", acc, x, c)
}

// plus is y + c x.
func (l lines) plus(y neon.V, c float64, x neon.V) neon.V { return l.add(l.New("mov.16b", y), c, x) }

func (l lines) input(d []neon.V) []neon.V {
	even, odd := l.less(d[2], d[4]), l.less(d[1], d[3])
	y := []neon.V{{}, l.plus(even, a, odd), l.add(even, -a, odd)}
	even, odd = l.plus(d[4], -a2, d[2]), l.plus(d[3], -a2, d[1])
	y = append(y, l.plus(even, b, odd), l.add(even, -b, odd))
	y[0] = l.add(l.add(d[4], -(a2+b2), d[2]), a2*b2, d[0])
	return append(y, l.add(l.add(d[5], -(a2+b2), d[3]), a2*b2, d[1]))
}

// inputPoint is element i of input, with the same roundings.
func (l lines) inputPoint(d func(j int) neon.V, i int) neon.V {
	sign := float64(2*(i%2) - 1)
	switch i {
	case 1, 2:
		return l.add(l.less(d(2), d(4)), sign*a, l.less(d(1), d(3)))
	case 3, 4:
		return l.add(l.add(d(4), -a2, d(2)), sign*b, l.add(d(3), -a2, d(1)))
	}
	return l.add(l.add(d(4+i/5), -(a2+b2), d(2+i/5)), a2*b2, d(i/5))
}

func (l lines) filter(g []neon.V) []neon.V {
	evenA, oddA := l.add(l.times(normA, g[0]), normA*a2, g[2]), l.times(normA*a, g[1])
	evenB, oddB := l.add(l.times(normB, g[0]), normB*b2, g[2]), l.times(normB*b, g[1])
	return []neon.V{
		l.times(norm0, g[0]), l.sum(evenA, oddA), l.difference(evenA, oddA),
		l.sum(evenB, oddB), l.difference(evenB, oddB), g[2],
	}
}

// halves are the even and odd parts of the points a and -a, b and -b.
func (l lines) halves(m []neon.V) (evenA, oddA, evenB, oddB neon.V) {
	return l.sum(m[1], m[2]), l.difference(m[1], m[2]), l.sum(m[3], m[4]), l.difference(m[3], m[4])
}

func (l lines) output(m []neon.V) []neon.V {
	evenA, oddA, evenB, oddB := l.halves(m)
	return []neon.V{
		l.sum(m[0], l.sum(evenA, evenB)),
		l.add(l.times(b, oddB), a, oddA),
		l.add(l.times(b2, evenB), a2, evenA),
		l.add(l.plus(m[5], b2*b, oddB), a2*a, oddA),
	}
}

func (l lines) grad(y []neon.V) []neon.V {
	evenA, oddA := l.plus(y[0], a2, y[2]), l.add(l.times(a, y[1]), a2*a, y[3])
	evenB, oddB := l.plus(y[0], b2, y[2]), l.add(l.times(b, y[1]), b2*b, y[3])
	return []neon.V{
		y[0], l.sum(evenA, oddA), l.difference(evenA, oddA), l.sum(evenB, oddB), l.difference(evenB, oddB), y[3],
	}
}

// gradPoint is element i of grad, with the same roundings.
func (l lines) gradPoint(y func(j int) neon.V, i int) neon.V {
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

func (l lines) filterGrad(m []neon.V) []neon.V {
	evenA, oddA, evenB, oddB := l.halves(m)
	return []neon.V{
		l.add(l.add(l.times(norm0, m[0]), normB, evenB), normA, evenA),
		l.add(l.times(normB*b, oddB), normA*a, oddA),
		l.add(l.plus(m[5], normB*b2, evenB), normA*a2, evenA),
	}
}
