package inception

// chain applies convolutions one after another; x is kept.
func (p *pass) chain(x value, names ...string) value {
	y := p.conv(names[0], x)
	for _, name := range names[1:] {
		y = p.replace(y, p.conv(name, y))
	}
	return y
}

// pooled is a pooling followed by a convolution.
func (p *pass) pooled(name string, y value) value {
	return p.replace(y, p.conv(name, y))
}

// averaged is an average pooling followed by a 1x1 convolution. Both are linear, and an
// average keeps a constant: so the convolution, which has fewer channels behind it than
// before it, comes first.
func (p *pass) averaged(name string, x value) value {
	y := p.convolve(name, x, false)
	y = p.replace(y, p.avgPool(y))
	if p.err == nil {
		rectify(y.data)
	}
	return y
}

// blockA: 35x35.
func (p *pass) blockA(b string, x value) value {
	return p.concat(
		p.chain(x, b+".branch1x1"),
		p.chain(x, b+".branch5x5_1", b+".branch5x5_2"),
		p.chain(x, b+".branch3x3dbl_1", b+".branch3x3dbl_2", b+".branch3x3dbl_3"),
		p.averaged(b+".branch_pool", x),
	)
}

// blockB: 35x35 to 17x17.
func (p *pass) blockB(b string, x value) value {
	return p.concat(
		p.chain(x, b+".branch3x3"),
		p.chain(x, b+".branch3x3dbl_1", b+".branch3x3dbl_2", b+".branch3x3dbl_3"),
		p.maxPool(x, 2, 0),
	)
}

// blockC: 17x17.
func (p *pass) blockC(b string, x value) value {
	return p.concat(
		p.chain(x, b+".branch1x1"),
		p.chain(x, b+".branch7x7_1", b+".branch7x7_2", b+".branch7x7_3"),
		p.chain(x, b+".branch7x7dbl_1", b+".branch7x7dbl_2", b+".branch7x7dbl_3", b+".branch7x7dbl_4", b+".branch7x7dbl_5"),
		p.averaged(b+".branch_pool", x),
	)
}

// blockD: 17x17 to 8x8.
func (p *pass) blockD(b string, x value) value {
	return p.concat(
		p.chain(x, b+".branch3x3_1", b+".branch3x3_2"),
		p.chain(x, b+".branch7x7x3_1", b+".branch7x7x3_2", b+".branch7x7x3_3", b+".branch7x7x3_4"),
		p.maxPool(x, 2, 0),
	)
}

// blockE: 8x8. The pooling is an average in the first one and, as in the network of
// 2015, a maximum in the second.
func (p *pass) blockE(b string, x value, pool func(name string, x value) value) value {
	fork := func(y value, stem string) (a, c value) {
		a, c = p.conv(stem+"a", y), p.conv(stem+"b", y)
		p.free(y)
		return a, c
	}
	a, c := fork(p.chain(x, b+".branch3x3_1"), b+".branch3x3_2")
	d, e := fork(p.chain(x, b+".branch3x3dbl_1", b+".branch3x3dbl_2"), b+".branch3x3dbl_3")
	return p.concat(p.chain(x, b+".branch1x1"), a, c, d, e, pool(b+".branch_pool", x))
}
