//go:build cuda

package cuda

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/tensor"
)

// Whatever the shape, slabs cover the groups, end on vectors, and fit the kernels'
// threads, registers and tables.
func TestSlabs(t *testing.T) {
	kept, wide := 0, 0
	for _, dt := range []tensor.DType{tensor.F32, tensor.BF16} {
		for _, pixels := range []int{1, 3, 16, 64, 256, 1024, 4096, 65536} {
			for _, size := range []int{1, 2, 3, 4, 8, 12, 16, 40, 512} {
				for _, groups := range []int{1, 3, 8, 32} {
					for _, aligned := range []bool{true, false} {
						c := size * groups
						name := fmt.Sprint(dt, pixels, size, groups, aligned)
						s := newSlab("test", pixels, c, groups, dt, aligned)
						v := 1
						if s.vector {
							v = vector(dt)
						}
						require.LessOrEqual(t, s.groups, groups, name)
						require.LessOrEqual(t, s.groups, normSlabGroups, name)
						require.GreaterOrEqual(t, s.groups*s.count, groups, name)
						require.Zero(t, s.groups*size%v, name)
						require.Zero(t, c%v, name)
						require.Zero(t, s.threads%32, name)
						vectors := s.groups * size / v
						lanes := s.threads / vectors
						require.Positive(t, lanes, name)
						if s.wide != 0 {
							wide++
							require.LessOrEqual(t, s.threads, normWideThreads, name)
							continue
						}
						kept++
						require.True(t, s.vector, name)
						require.LessOrEqual(t, s.threads, normKeepThreads, name)
						require.GreaterOrEqual(t, lanes*normKeepValues/v, pixels, name)
					}
				}
			}
		}
	}
	require.Greater(t, kept, 100)
	require.Greater(t, wide, 100)
}

// The layers of the CIFAR-10 network read memory once and in whole sectors. The
// groups of 12 channels are the exception: 48 bytes of a pixel are a sector and a
// half, and 1024 pixels of BF16, where only two groups make whole vectors, are more
// than the registers hold.
func TestSlabsOfUNet(t *testing.T) {
	for _, dt := range []tensor.DType{tensor.F32, tensor.BF16} {
		for _, l := range []struct{ pixels, c int }{
			{1024, 128}, {1024, 256}, {1024, 384}, {256, 128}, {256, 256}, {256, 384}, {256, 512}, {64, 256}, {64, 512}, {16, 256}, {16, 512},
		} {
			s := newSlab("test", l.pixels, l.c, 32, dt, true)
			require.Equal(t, dt == tensor.BF16 && l.c == 384 && l.pixels == 1024, s.wide != 0, "%v %+v", dt, l)
			if l.c != 384 {
				require.Zero(t, s.groups*l.c/32*dt.Size()%normSector, "%v %+v", dt, l)
			}
		}
	}
}
