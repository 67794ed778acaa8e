package cpu

import "github.com/agrdist/agrdist/parallel"

// A task is the parallel loop of one operation. Its body is made into a closure
// once, so that running it allocates nothing; the arguments of the call under
// way lie beside it.
type task[T any] struct {
	args T
	f    func(i int)
	body func(args *T, i int)
}

func newTask[T any](body func(args *T, i int)) *task[T] {
	t := &task[T]{body: body}
	t.f = func(i int) { t.body(&t.args, i) }
	return t
}

// run calls body(&args, i) for i in [0, n).
func (t *task[T]) run(p *parallel.Pool, n int, args T) {
	t.args = args
	p.Run(n, t.f)
	var none T
	t.args = none // holds on to no buffer
}

// span is the number of elements of one iteration of an elementwise loop: 64
// KiB an operand.
const span = 16 << 10

// spans is the number of iterations for n elements.
func spans(n int) int { return (n + span - 1) / span }

// bounds are the elements of iteration i.
func bounds(i, n int) (lo, hi int) { return i * span, min((i+1)*span, n) }
