package allreduce

// sliceAlign is the alignment of slices, in elements: a cache line.
const sliceAlign = 16

// Cut says how an AllReduce divides its vector: into one slice a rank, which that
// rank owns, and each slice into segments, the unit of transfer. It is a pure
// function of its fields, so all ranks of a group agree without a word.
type Cut struct {
	Elems        int // of the vector
	Slices       int // the world size
	SegmentElems int // of a segment; only the last one of a slice may be shorter
}

// Slice returns the elements [lo, hi) of slice k. Slices are equal but for the
// alignment, which leaves the last ones shorter or empty.
func (c Cut) Slice(k int) (lo, hi int) {
	size := (c.Elems + c.Slices - 1) / c.Slices
	size = (size + sliceAlign - 1) / sliceAlign * sliceAlign
	return min(k*size, c.Elems), min((k+1)*size, c.Elems)
}

// Segments returns the number of segments of slice k.
func (c Cut) Segments(k int) int {
	lo, hi := c.Slice(k)
	return (hi - lo + c.SegmentElems - 1) / c.SegmentElems
}

// Segment returns the elements [lo, hi) of segment i of slice k.
func (c Cut) Segment(k, i int) (lo, hi int) {
	lo, hi = c.Slice(k)
	return lo + i*c.SegmentElems, min(lo+(i+1)*c.SegmentElems, hi)
}
