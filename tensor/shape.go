package tensor

import (
	"fmt"
	"strings"
)

// MaxRank is the largest number of dimensions of a Shape.
const MaxRank = 4

// Shape is the size of a tensor in up to MaxRank dimensions, outermost first.
// Shapes are comparable with ==. The zero Shape is a scalar of one element.
type Shape struct {
	dims [MaxRank]int
	rank int
}

// Of returns the shape of the given dimensions. It panics on more than MaxRank
// of them or on a negative one.
func Of(dims ...int) Shape {
	if len(dims) > MaxRank {
		panic(fmt.Sprintf("tensor: %d dimensions, at most %d", len(dims), MaxRank))
	}
	s := Shape{rank: len(dims)}
	for i, d := range dims {
		if d < 0 {
			panic(fmt.Sprintf("tensor: negative dimension %d", d))
		}
		s.dims[i] = d
	}
	return s
}

// Rank is the number of dimensions.
func (s Shape) Rank() int { return s.rank }

// Dim returns dimension i; a negative i counts from the end.
func (s Shape) Dim(i int) int {
	if i < 0 {
		i += s.rank
	}
	if i < 0 || i >= s.rank {
		panic(fmt.Sprintf("tensor: dimension %d of %v", i, s))
	}
	return s.dims[i]
}

// Len is the number of elements, the product of the dimensions.
func (s Shape) Len() int {
	n := 1
	for _, d := range s.dims[:s.rank] {
		n *= d
	}
	return n
}

// Dims returns the dimensions as a new slice.
func (s Shape) Dims() []int { return append([]int(nil), s.dims[:s.rank]...) }

// String prints the shape as [2 8 8 32].
func (s Shape) String() string {
	return strings.ReplaceAll(fmt.Sprint(s.dims[:s.rank]), ",", "")
}
