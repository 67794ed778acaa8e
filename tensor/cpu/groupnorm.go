package cpu

import (
	"math"

	"github.com/agrdist/agrdist/tensor"
)

type normArgs struct {
	y, dy, x, gamma, beta, mean, rstd []float32
	dgamma, dbeta                     []float32
	pixels, c, groups, size           int
	eps                               float32
	partial                           []float64 // [N, 2, C]
}

func newNorm(op string, y, x, gamma, mean, rstd tensor.Tensor, groups int) (a normArgs, n int) {
	same(op, y, x)
	total, c := rows(x.Shape)
	n = x.Shape.Dim(0)
	a = normArgs{pixels: total / max(1, n), c: c, groups: groups, size: groupSize(op, c, groups)}
	want(op, "gamma", gamma, tensor.Of(c))
	want(op, "mean", mean, tensor.Of(n, groups))
	want(op, "rstd", rstd, tensor.Of(n, groups))
	a.y, a.x, a.gamma = f32(op, y), f32(op, x), f32(op, gamma)
	a.mean, a.rstd = f32(op, mean), f32(op, rstd)
	return a, n
}

// GroupNorm is y = gamma (x - mean) rstd + beta. Moments are summed in float64.
func (b *Backend) GroupNorm(y, mean, rstd, x, gamma, beta tensor.Tensor, groups int, eps float32) {
	a, n := newNorm("GroupNorm", y, x, gamma, mean, rstd, groups)
	want("GroupNorm", "beta", beta, gamma.Shape)
	a.beta, a.eps = f32("GroupNorm", beta), eps
	b.tasks.groupNorm.run(b.pool, n*groups, a)
}

func groupNormOne(a *normArgs, i int) {
	n, c0 := i/a.groups, i%a.groups*a.size
	base := n*a.pixels*a.c + c0
	count := float64(a.pixels * a.size)
	var sum, sq float64
	for p := range a.pixels {
		for _, v := range a.x[base+p*a.c:][:a.size] {
			sum += float64(v)
		}
	}
	mean := sum / count
	for p := range a.pixels {
		for _, v := range a.x[base+p*a.c:][:a.size] {
			d := float64(v) - mean
			sq += d * d
		}
	}
	rstd := 1 / math.Sqrt(sq/count+float64(a.eps))
	a.mean[i], a.rstd[i] = float32(mean), float32(rstd)
	for p := range a.pixels {
		x, y := a.x[base+p*a.c:][:a.size], a.y[base+p*a.c:][:a.size]
		for j, v := range x {
			y[j] = (v-float32(mean))*float32(rstd)*a.gamma[c0+j] + a.beta[c0+j]
		}
	}
}

// GroupNormGrad gives dx, dgamma and dbeta.
func (b *Backend) GroupNormGrad(dx, dgamma, dbeta, dy, x, gamma, mean, rstd tensor.Tensor, groups int) {
	const op = "GroupNormGrad"
	same(op, dx, dy)
	a, n := newNorm(op, dx, x, gamma, mean, rstd, groups)
	want(op, "dgamma", dgamma, gamma.Shape)
	want(op, "dbeta", dbeta, gamma.Shape)
	a.dy, a.dgamma, a.dbeta = f32(op, dy), f32(op, dgamma), f32(op, dbeta)
	a.partial = grow(&b.scratch.partial, n*2*a.c)
	b.tasks.groupNormGrad.run(b.pool, n*groups, a)
	for c := range a.c {
		var dg, db float64
		for s := range n {
			dg += a.partial[(2*s)*a.c+c]
			db += a.partial[(2*s+1)*a.c+c]
		}
		a.dgamma[c], a.dbeta[c] = float32(dg), float32(db)
	}
}

// groupNormGradOne is one (sample, group): with u = gamma dy and the normalised
// value h, dx = rstd (u - mean(u) - h mean(u h)).
func groupNormGradOne(a *normArgs, i int) {
	n, c0 := i/a.groups, i%a.groups*a.size
	base := n*a.pixels*a.c + c0
	mean, rstd := a.mean[i], a.rstd[i]
	dg, db := a.partial[2*n*a.c+c0:][:a.size], a.partial[(2*n+1)*a.c+c0:][:a.size]
	clear(dg)
	clear(db)
	for p := range a.pixels {
		x, dy := a.x[base+p*a.c:][:a.size], a.dy[base+p*a.c:][:a.size]
		for j, v := range x {
			dg[j] += float64((v-mean)*rstd) * float64(dy[j])
			db[j] += float64(dy[j])
		}
	}
	var mu, muh float64
	for j := range dg {
		mu += float64(a.gamma[c0+j]) * db[j]
		muh += float64(a.gamma[c0+j]) * dg[j]
	}
	count := float64(a.pixels * a.size)
	m1, m2 := float32(mu/count), float32(muh/count)
	for p := range a.pixels {
		at := base + p*a.c
		x, dy, dx := a.x[at:][:a.size], a.dy[at:][:a.size], a.y[at:][:a.size]
		for j, v := range x {
			dx[j] = rstd * (a.gamma[c0+j]*dy[j] - m1 - (v-mean)*rstd*m2)
		}
	}
}
