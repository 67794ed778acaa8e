package trainer

import "github.com/agrdist/agrdist/nn"

// bucket is a range of the flat gradient that is reduced as one message.
type bucket struct{ lo, hi int }

// cutBuckets cuts the flat gradient in ranges of at least size bytes (the last may
// be smaller), from its end to its start: backward finishes the parameters in
// about the reverse order of forward. of[i] is the bucket of parameter i.
// Padding belongs to the bucket of the tensor in front of it.
func cutBuckets(params []nn.Param, flatLen, size int) (out []bucket, of []int) {
	of = make([]int, len(params))
	hi := flatLen
	for i := len(params) - 1; i >= 0; i-- {
		of[i] = len(out)
		if lo := params[i].Off; 4*(hi-lo) >= size || i == 0 {
			out = append(out, bucket{lo, hi})
			hi = lo
		}
	}
	return out, of
}

// countdown tells which buckets became complete as parameters finish. Buckets
// are released in their order only, so that all ranks send them alike.
type countdown struct {
	of    []int
	total []int
	left  []int
	next  int // first bucket not released
}

func newCountdown(of []int, buckets int) *countdown {
	c := &countdown{of: of, total: make([]int, buckets), left: make([]int, buckets)}
	for _, b := range of {
		c.total[b]++
	}
	c.reset()
	return c
}

func (c *countdown) reset() {
	copy(c.left, c.total)
	c.next = 0
}

// done marks parameter i and returns the range [from, to) of buckets that are
// released by it.
func (c *countdown) done(i int) (from, to int) {
	c.left[c.of[i]]--
	from = c.next
	for c.next < len(c.left) && c.left[c.next] == 0 {
		c.next++
	}
	return from, c.next
}
