package optim

import "fmt"

// BlockSize is the largest number of elements in a Block: 64 KiB of each
// stream, so that the seven streams of an update stay in a core's L2 cache and
// a 35M-parameter model has about two thousand blocks to share out.
const BlockSize = 16384

// Block is the unit of parallel work and of every sum: elements [Lo, Hi) of the
// flat vector, inside segment number Segment.
type Block struct {
	Segment, Lo, Hi int
}

// Blocks cuts each segment into blocks of BlockSize elements from its start
// (the last one may be shorter). The cut depends on the segments alone.
func Blocks(segments []Segment) []Block {
	var n int
	for _, s := range segments {
		n += (s.Len + BlockSize - 1) / BlockSize
	}
	blocks := make([]Block, 0, n)
	for i, s := range segments {
		for lo := s.Off; lo < s.Off+s.Len; lo += BlockSize {
			blocks = append(blocks, Block{Segment: i, Lo: lo, Hi: min(lo+BlockSize, s.Off+s.Len)})
		}
	}
	return blocks
}

// Run calls f(i) for i in [0, n) on r, or in order when r is nil.
func Run(r Runner, n int, f func(i int)) {
	if r != nil {
		r.Run(n, f)
		return
	}
	for i := range n {
		f(i)
	}
}

// core is what the optimizers share: the block list and the loop over it. The
// closure given to the Runner is made once, so that a step allocates nothing.
type core struct {
	name     string
	size     int
	segments []Segment
	blocks   []Block
	runner   Runner

	params, grads []float32 // of the step under way
	apply         func(params, grads []float32, off int)
	visit         func(i int)
}

func newCore(name string, segments []Segment, flatLen int, r Runner) core {
	return core{name: name, size: flatLen, segments: segments, blocks: Blocks(segments), runner: r}
}

// Name implements Optimizer.
func (c *core) Name() string { return c.name }

// bind sets the element rule. It must be called on the core in its final place.
func (c *core) bind(apply func(params, grads []float32, off int)) {
	c.apply = apply
	c.visit = func(i int) {
		b := c.blocks[i]
		c.apply(c.params[b.Lo:b.Hi], c.grads[b.Lo:b.Hi], b.Lo)
	}
}

func (c *core) run(params, grads []float32) {
	CheckLen("parameters", params, c.size)
	CheckLen("gradients", grads, c.size)
	c.params, c.grads = params, grads
	Run(c.runner, len(c.blocks), c.visit)
	c.params, c.grads = nil, nil
}

// CheckLen panics unless x, named what, has n elements.
func CheckLen(what string, x []float32, n int) {
	if len(x) != n {
		panic(fmt.Sprintf("optim: %d %s, want %d", len(x), what, n))
	}
}
