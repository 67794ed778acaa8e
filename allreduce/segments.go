package allreduce

// DefaultSegmentElems is the number of elements of a segment, the unit in which
// vectors travel and phases overlap: 256 KiB stay in a core's cache from the
// checksum to the addition.
const DefaultSegmentElems = 64 << 10

// sliceAlign is the alignment of slices, in elements: a cache line.
const sliceAlign = 16

// segmented says how a vector of n elements is cut: in one slice a rank, each
// in segments of seg elements (the last one of a slice may be shorter).
type segmented struct{ n, world, seg int }

// slice returns the elements [lo, hi) of slice k. Slices are equal but for the
// alignment, which leaves the last ones shorter or empty.
func (s segmented) slice(k int) (lo, hi int) {
	size := (s.n + s.world - 1) / s.world
	size = (size + sliceAlign - 1) / sliceAlign * sliceAlign
	return min(k*size, s.n), min((k+1)*size, s.n)
}

// segments returns the number of segments of slice k.
func (s segmented) segments(k int) int {
	lo, hi := s.slice(k)
	return (hi - lo + s.seg - 1) / s.seg
}

// segment returns the elements [lo, hi) of segment i of slice k.
func (s segmented) segment(k, i int) (lo, hi int) {
	lo, hi = s.slice(k)
	return lo + i*s.seg, min(lo+(i+1)*s.seg, hi)
}
