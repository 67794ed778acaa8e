package allreduce

import (
	"fmt"
	"math/bits"
)

// MaxWorld is the largest world size that a Plan accepts; ranks travel in 16
// bits.
const MaxWorld = 1 << 15

// MaxChunks is the largest number of chunks that a Plan accepts.
const MaxChunks = 1 << 24

// Node is a node of the canonical tree over C chunks: it covers the chunks
// [Index<<Level, min((Index+1)<<Level, C)).
type Node struct{ Level, Index int }

// Plan says which rank holds which chunks and which subtrees of the canonical
// tree. It is a pure function of (chunks, world) and is never changed.
type Plan struct {
	chunks, world int
	idle          int // ranks at the end that hold no chunks
	root          Node
	nodes         [][]Node // by rank, left to right
}

// NewPlan returns the plan for a batch of chunks >= 1 on world >= 1 ranks.
// More ranks than chunks are allowed: the last ranks hold nothing and still
// take part in every operation.
func NewPlan(chunks, world int) (*Plan, error) { return NewPlanWithIdle(chunks, world, 0) }

// NewPlanWithIdle is NewPlan where the last idle < world ranks hold no chunks: they take
// part in every operation, and the others share the work.
func NewPlanWithIdle(chunks, world, idle int) (*Plan, error) {
	if chunks < 1 || chunks > MaxChunks {
		return nil, fmt.Errorf("allreduce: plan with %d chunks, want 1 to %d", chunks, MaxChunks)
	}
	if world < 1 || world > MaxWorld {
		return nil, fmt.Errorf("allreduce: plan for %d ranks, want 1 to %d", world, MaxWorld)
	}
	if idle < 0 || idle >= world {
		return nil, fmt.Errorf("allreduce: plan for %d ranks with %d idle ones, want 0 to %d", world, idle, world-1)
	}
	p := &Plan{
		chunks: chunks,
		world:  world,
		idle:   idle,
		root:   Node{Level: bits.Len(uint(chunks - 1))},
		nodes:  make([][]Node, world),
	}
	for rank := range p.nodes {
		lo, hi := p.Block(rank)
		p.nodes[rank] = p.cover(nil, p.root, lo, hi)
	}
	return p, nil
}

// Chunks returns C, the number of chunks of a global batch.
func (p *Plan) Chunks() int { return p.chunks }

// World returns the number of ranks.
func (p *Plan) World() int { return p.world }

// Block returns the chunks [lo, hi) of a rank: contiguous, in rank order, of
// sizes that differ by at most one, the larger ones first.
func (p *Plan) Block(rank int) (lo, hi int) {
	p.check(rank)
	busy := p.world - p.idle
	if rank >= busy {
		return p.chunks, p.chunks
	}
	size, extra := p.chunks/busy, p.chunks%busy
	lo = rank*size + min(rank, extra)
	hi = lo + size
	if rank < extra {
		hi++
	}
	return lo, hi
}

// Nodes returns the maximal subtrees that lie inside a rank's block, left to
// right; none for an empty block. The caller must not change the slice.
func (p *Plan) Nodes(rank int) []Node {
	p.check(rank)
	return p.nodes[rank]
}

// span returns the chunks [lo, hi) that a node covers.
func (p *Plan) span(n Node) (lo, hi int) {
	return n.Index << n.Level, min((n.Index+1)<<n.Level, p.chunks)
}

// children returns the two children of an inner node, and whether the right
// one exists.
func (p *Plan) children(n Node) (left, right Node, two bool) {
	left = Node{Level: n.Level - 1, Index: 2 * n.Index}
	right = Node{Level: n.Level - 1, Index: 2*n.Index + 1}
	return left, right, right.Index<<right.Level < p.chunks
}

// cover appends the maximal nodes below n that lie inside [lo, hi).
func (p *Plan) cover(nodes []Node, n Node, lo, hi int) []Node {
	first, end := p.span(n)
	switch {
	case end <= lo || hi <= first:
		return nodes
	case lo <= first && end <= hi:
		return append(nodes, n)
	}
	left, right, two := p.children(n)
	nodes = p.cover(nodes, left, lo, hi)
	if two {
		nodes = p.cover(nodes, right, lo, hi)
	}
	return nodes
}

func (p *Plan) check(rank int) {
	if rank < 0 || rank >= p.world {
		panic(fmt.Sprintf("allreduce: rank %d of a plan for %d ranks", rank, p.world))
	}
}
