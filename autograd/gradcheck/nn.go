package gradcheck

import (
	"math"

	"github.com/agrdist/agrdist/tensor"
)

// taps calls visit for every (output pixel, input pixel, tap) of a convolution:
// offsets of the first channel of each, and the tap's number.
func taps(y, x tensor.Shape, c tensor.Conv, visit func(sample, out, in, tap int)) {
	h, w, cin := x.Dim(1), x.Dim(2), x.Dim(3)
	oh, ow, cout := y.Dim(1), y.Dim(2), y.Dim(3)
	for n := range x.Dim(0) {
		for i := range oh {
			for j := range ow {
				for tap := range c.Kernel * c.Kernel {
					r, s := i*c.Stride+tap/c.Kernel-c.PadLo, j*c.Stride+tap%c.Kernel-c.PadLo
					if r >= 0 && r < h && s >= 0 && s < w {
						visit(n, ((n*oh+i)*ow+j)*cout, ((n*h+r)*w+s)*cin, tap)
					}
				}
			}
		}
	}
}

// Conv2D is conv(x, w) + bias + perSample + residual.
func (Backend) Conv2D(y, x, w, bias, perSample, residual tensor.Tensor, c tensor.Conv) {
	out, in, weight := f(y), f(x), f(w)
	cin, cout := w.Shape.Dim(2), w.Shape.Dim(3)
	per := len(out) / y.Shape.Dim(0)
	if residual.Present() {
		copy(out, f(residual)) // which may be out itself
	} else {
		clear(out)
	}
	add := func(e tensor.Tensor, at func(i int) int) {
		if e.Present() {
			v := f(e)
			for i := range out {
				out[i] += v[at(i)]
			}
		}
	}
	add(bias, func(i int) int { return i % cout })
	add(perSample, func(i int) int { return i/per*cout + i%cout })
	taps(y.Shape, x.Shape, c, func(_, o, i, tap int) {
		for p := range cin {
			row := weight[(tap*cin+p)*cout:][:cout]
			for q, v := range row {
				out[o+q] += in[i+p] * v
			}
		}
	})
}

// Conv2DInputGrad is the transposed convolution of dy.
func (Backend) Conv2DInputGrad(dx, dy, w tensor.Tensor, c tensor.Conv) {
	out, in, weight := f(dy), f(dx), f(w)
	cin, cout := w.Shape.Dim(2), w.Shape.Dim(3)
	clear(in)
	taps(dy.Shape, dx.Shape, c, func(_, o, i, tap int) {
		for p := range cin {
			row := weight[(tap*cin+p)*cout:][:cout]
			for q, v := range row {
				in[i+p] += out[o+q] * v
			}
		}
	})
}

// Conv2DWeightGrad correlates x with dy.
func (b Backend) Conv2DWeightGrad(dw, db, x, dy tensor.Tensor, c tensor.Conv) {
	out, in, weight := f(dy), f(x), f(dw)
	cin, cout := dw.Shape.Dim(2), dw.Shape.Dim(3)
	clear(weight)
	taps(dy.Shape, x.Shape, c, func(_, o, i, tap int) {
		for p := range cin {
			row := weight[(tap*cin+p)*cout:][:cout]
			for q := range row {
				row[q] += in[i+p] * out[o+q]
			}
		}
	})
	if db.Present() {
		b.SumChannels(db, dy)
	}
}

// groupOf calls visit for the elements of one sample's group, with the channel of
// each.
func groupOf(x tensor.Shape, groups, n, g int, visit func(i, channel int)) (count float64) {
	c := x.Dim(-1)
	per, width := x.Len()/x.Dim(0), c/groups
	for i := range per / c {
		for j := range width {
			visit(n*per+i*c+g*width+j, g*width+j)
		}
	}
	return float64(per / c * width)
}

// each is the distance from one sample's gamma to the next: none where all share it.
func each(gamma tensor.Tensor) int {
	if gamma.Shape.Rank() == 2 {
		return gamma.Shape.Dim(1)
	}
	return 0
}

// GroupNorm normalises each sample's groups.
func (Backend) GroupNorm(y, mean, rstd, x, gamma, beta tensor.Tensor, groups int, eps float32) {
	out, in := f(y), f(x)
	for k := range f(mean) {
		scale, shift := f(gamma)[k/groups*each(gamma):], f(beta)[k/groups*each(gamma):]
		sum, squares := 0.0, 0.0
		count := groupOf(x.Shape, groups, k/groups, k%groups, func(i, _ int) { sum += in[i] })
		m := sum / count
		groupOf(x.Shape, groups, k/groups, k%groups, func(i, _ int) { squares += (in[i] - m) * (in[i] - m) })
		r := 1 / math.Sqrt(squares/count+float64(eps))
		f(mean)[k], f(rstd)[k] = m, r
		groupOf(x.Shape, groups, k/groups, k%groups, func(i, c int) { out[i] = scale[c]*(in[i]-m)*r + shift[c] })
	}
}

// GroupNormGrad differentiates through the moments.
func (Backend) GroupNormGrad(dx, dgamma, dbeta, dy, x, gamma, mean, rstd tensor.Tensor, groups int) {
	out, grad, in := f(dx), f(dy), f(x)
	clear(f(dgamma))
	clear(f(dbeta))
	for k, m := range f(mean) {
		own := k / groups * each(gamma)
		scale, dscale, dshift := f(gamma)[own:], f(dgamma)[own:], f(dbeta)[own:]
		r, a, b := f(rstd)[k], 0.0, 0.0
		count := groupOf(x.Shape, groups, k/groups, k%groups, func(i, c int) {
			h, d := (in[i]-m)*r, grad[i]*scale[c]
			dscale[c] += grad[i] * h
			dshift[c] += grad[i]
			a += d
			b += d * h
		})
		groupOf(x.Shape, groups, k/groups, k%groups, func(i, c int) {
			out[i] = r * (grad[i]*scale[c] - a/count - (in[i]-m)*r*b/count)
		})
	}
}

// ScaleShift is gamma (1 + s) and beta (1 + s) + t.
func (Backend) ScaleShift(gammas, betas, gamma, beta, e tensor.Tensor) {
	c := gamma.Shape.Len()
	for i := range f(gammas) {
		s, t := f(e)[i/c*2*c+i%c], f(e)[i/c*2*c+c+i%c]
		f(gammas)[i] = f(gamma)[i%c] * (1 + s)
		f(betas)[i] = f(beta)[i%c]*(1+s) + t
	}
}

// ScaleShiftGrad is the product rule.
func (Backend) ScaleShiftGrad(dgamma, dbeta, de, dgammas, dbetas, gamma, beta, e tensor.Tensor) {
	c := gamma.Shape.Len()
	clear(f(dgamma))
	clear(f(dbeta))
	for i, dg := range f(dgammas) {
		s, t := i/c*2*c+i%c, i/c*2*c+c+i%c
		db := f(dbetas)[i]
		f(dgamma)[i%c] += dg * (1 + f(e)[s])
		f(dbeta)[i%c] += db * (1 + f(e)[s])
		f(de)[s] = dg*f(gamma)[i%c] + db*f(beta)[i%c]
		f(de)[t] = db
	}
}

// Upsample repeats every pixel 2x2.
func (Backend) Upsample(y, x tensor.Tensor) {
	clear(f(y))
	enlarge(y, x, func(big, small *float64) { *big = *small })
}

// UpsampleGrad sums the four.
func (Backend) UpsampleGrad(dx, dy tensor.Tensor) {
	clear(f(dx))
	enlarge(dy, dx, func(big, small *float64) { *small += *big })
}

func enlarge(big, small tensor.Tensor, visit func(big, small *float64)) {
	w, c := big.Shape.Dim(2), big.Shape.Dim(3)
	b, s := f(big), f(small)
	for i := range b {
		pixel, ch := i/c, i%c
		row, col := pixel/w, pixel%w // rows of all images; 2H is even
		visit(&b[i], &s[(row/2*(w/2)+col/2)*c+ch])
	}
}

// TimestepEmbedding is the sinusoidal embedding.
func (Backend) TimestepEmbedding(dst, t tensor.Tensor, freqShift int, flip bool) {
	half := dst.Shape.Dim(1) / 2
	for n, ts := range ints(t) {
		row := f(dst)[n*2*half : (n+1)*2*half]
		for k := range half {
			angle := float64(ts) * math.Pow(10000, -float64(k)/float64(half-freqShift))
			sin, cos := math.Sincos(angle)
			if flip {
				sin, cos = cos, sin
			}
			row[k], row[half+k] = sin, cos
		}
	}
}
