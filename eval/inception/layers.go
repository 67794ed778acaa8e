package inception

// layer is a convolution with its batch norm.
type layer struct {
	name            string
	in, out, kh, kw int
	stride          int
	padded          bool // zero padding that keeps the size: half the kernel on each side
}

// square is a k x k convolution that keeps the size.
func square(name string, in, out, k int) layer {
	return layer{name: name, in: in, out: out, kh: k, kw: k, stride: 1, padded: true}
}

// valid is a 3x3 convolution without padding.
func valid(name string, in, out, stride int) layer {
	return layer{name: name, in: in, out: out, kh: 3, kw: 3, stride: stride}
}

// line is a 1 x k convolution, or with high a k x 1 one, that keeps the size.
func line(name string, in, out, k int, high bool) layer {
	l := layer{name: name, in: in, out: out, kh: 1, kw: k, stride: 1, padded: true}
	if high {
		l.kh, l.kw = k, 1
	}
	return l
}

// Sizes of the network.
const (
	Features = 2048 // values of the last pooling
	Classes  = 1008
	side     = 299 // of the images it sees
)

// layers lists every convolution, in the order of the network.
func layers() []layer {
	out := []layer{
		valid("Conv2d_1a_3x3", 3, 32, 2),
		valid("Conv2d_2a_3x3", 32, 32, 1),
		square("Conv2d_2b_3x3", 32, 64, 3),
		square("Conv2d_3b_1x1", 64, 80, 1),
		valid("Conv2d_4a_3x3", 80, 192, 1),
	}
	for _, b := range []struct {
		name     string
		in, pool int
	}{{"Mixed_5b", 192, 32}, {"Mixed_5c", 256, 64}, {"Mixed_5d", 288, 64}} {
		out = append(out,
			square(b.name+".branch1x1", b.in, 64, 1),
			square(b.name+".branch5x5_1", b.in, 48, 1),
			square(b.name+".branch5x5_2", 48, 64, 5),
			square(b.name+".branch3x3dbl_1", b.in, 64, 1),
			square(b.name+".branch3x3dbl_2", 64, 96, 3),
			square(b.name+".branch3x3dbl_3", 96, 96, 3),
			square(b.name+".branch_pool", b.in, b.pool, 1),
		)
	}
	out = append(out,
		valid("Mixed_6a.branch3x3", 288, 384, 2),
		square("Mixed_6a.branch3x3dbl_1", 288, 64, 1),
		square("Mixed_6a.branch3x3dbl_2", 64, 96, 3),
		valid("Mixed_6a.branch3x3dbl_3", 96, 96, 2),
	)
	for _, b := range []struct {
		name string
		c    int
	}{{"Mixed_6b", 128}, {"Mixed_6c", 160}, {"Mixed_6d", 160}, {"Mixed_6e", 192}} {
		out = append(out,
			square(b.name+".branch1x1", 768, 192, 1),
			square(b.name+".branch7x7_1", 768, b.c, 1),
			line(b.name+".branch7x7_2", b.c, b.c, 7, false),
			line(b.name+".branch7x7_3", b.c, 192, 7, true),
			square(b.name+".branch7x7dbl_1", 768, b.c, 1),
			line(b.name+".branch7x7dbl_2", b.c, b.c, 7, true),
			line(b.name+".branch7x7dbl_3", b.c, b.c, 7, false),
			line(b.name+".branch7x7dbl_4", b.c, b.c, 7, true),
			line(b.name+".branch7x7dbl_5", b.c, 192, 7, false),
			square(b.name+".branch_pool", 768, 192, 1),
		)
	}
	out = append(out,
		square("Mixed_7a.branch3x3_1", 768, 192, 1),
		valid("Mixed_7a.branch3x3_2", 192, 320, 2),
		square("Mixed_7a.branch7x7x3_1", 768, 192, 1),
		line("Mixed_7a.branch7x7x3_2", 192, 192, 7, false),
		line("Mixed_7a.branch7x7x3_3", 192, 192, 7, true),
		valid("Mixed_7a.branch7x7x3_4", 192, 192, 2),
	)
	for _, b := range []struct {
		name string
		in   int
	}{{"Mixed_7b", 1280}, {"Mixed_7c", 2048}} {
		out = append(out,
			square(b.name+".branch1x1", b.in, 320, 1),
			square(b.name+".branch3x3_1", b.in, 384, 1),
			line(b.name+".branch3x3_2a", 384, 384, 3, false),
			line(b.name+".branch3x3_2b", 384, 384, 3, true),
			square(b.name+".branch3x3dbl_1", b.in, 448, 1),
			square(b.name+".branch3x3dbl_2", 448, 384, 3),
			line(b.name+".branch3x3dbl_3a", 384, 384, 3, false),
			line(b.name+".branch3x3dbl_3b", 384, 384, 3, true),
			square(b.name+".branch_pool", b.in, 192, 1),
		)
	}
	return out
}
