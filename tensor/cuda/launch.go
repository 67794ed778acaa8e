//go:build cuda

package cuda

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"unsafe"

	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/tensor"
)

// queue is what one goroutine at a time gives a device its work with: a stream, the
// memory of a launch's arguments, the first failure, and what was counted.
type queue struct {
	name    string // of the backend
	context cu.CUContext
	stream  cu.Stream
	args    arguments
	counts  *counts // of what is asked for; nil: nobody wants to know
	failed  error   // the first failure of the device
}

// enter makes the backend's context current on this thread until leave. A
// context belongs to a thread, and a goroutine may change threads between two
// calls. Calls nest.
func (q *queue) enter() {
	runtime.LockOSThread()
	if err := cu.SetCurrentContext(q.context); err != nil {
		q.check("make the context current", err)
	}
}

func (q *queue) leave() { runtime.UnlockOSThread() }

// check keeps the first failure.
func (q *queue) check(op string, err error) {
	if err != nil && q.failed == nil {
		q.failed = fmt.Errorf("cuda: %s: %s: %w", q.name, op, err)
	}
}

// kernel is an entry point of a module.
type kernel struct {
	name string
	f    cu.Function

	family   family // nothing for a kernel whose caller counts its bytes
	to, from tensor.DType
}

// maxArguments is more than any kernel takes.
const maxArguments = 40

// arguments is the memory of a launch's parameters, 8 bytes each as cu.Launch
// wants them: a float or an int lies in the lower half.
type arguments struct {
	values   [maxArguments]uint64
	pointers [maxArguments]unsafe.Pointer
}

func (a *arguments) init() {
	for i := range a.values {
		a.pointers[i] = unsafe.Pointer(&a.values[i])
	}
}

// grid is the number of blocks in each direction, z being 1. y is at most
// maxGridY.
type grid struct{ x, y int }

const maxGridY = 65535

// bytes is what a launch reads and writes.
func (k *kernel) bytes(g grid, args []uint64) int64 {
	if k.family.bytes == nil {
		return 0
	}
	return k.family.bytes(launched{g, args, k.to, k.from})
}

// launch runs k on the stream. An empty grid does nothing.
func (q *queue) launch(k *kernel, g grid, threads int, args ...uint64) {
	if g.x == 0 || g.y == 0 {
		return
	}
	if q.counts != nil {
		q.counts.called(what{k.family.class, k.name, true}, 1, k.bytes(g, slices.Clone(args))) // args itself must not escape: a launch allocates nothing
	}
	copy(q.args.values[:], args)
	q.enter()
	defer q.leave()
	if err := k.f.Launch(g.x, g.y, 1, threads, 1, 1, 0, q.stream, q.args.pointers[:len(args)]); err != nil {
		q.check("launch "+k.name, err)
	}
}

// The arguments of a launch.

func f32arg(v float32) uint64 { return uint64(math.Float32bits(v)) }
func f64arg(v float64) uint64 { return math.Float64bits(v) }
func intArg(n int) uint64     { return uint64(n) }
func boolArg(v bool) uint64 {
	if v {
		return 1
	}
	return 0
}

// ceil is the number of parts of size per that n elements take.
func ceil(n, per int) int { return (n + per - 1) / per }
