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

// enter makes the backend's context current on this thread until leave. A
// context belongs to a thread, and a goroutine may change threads between two
// calls. Calls nest.
func (b *Backend) enter() {
	runtime.LockOSThread()
	if err := cu.SetCurrentContext(b.context); err != nil {
		b.check("make the context current", err)
	}
}

func (b *Backend) leave() { runtime.UnlockOSThread() }

// check keeps the first failure.
func (b *Backend) check(op string, err error) {
	if err != nil && b.failed == nil {
		b.failed = fmt.Errorf("cuda: %s: %s: %w", b.name, op, err)
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

// launch runs k on the stream. An empty grid does nothing.
func (b *Backend) launch(k *kernel, g grid, threads int, args ...uint64) {
	b.launchOn(b.stream, k, g, threads, args...)
}

// bytes is what a launch reads and writes.
func (k *kernel) bytes(g grid, args []uint64) int64 {
	if k.family.bytes == nil {
		return 0
	}
	return k.family.bytes(launched{g, args, k.to, k.from})
}

func (b *Backend) launchOn(s cu.Stream, k *kernel, g grid, threads int, args ...uint64) {
	if g.x == 0 || g.y == 0 {
		return
	}
	if b.counts != nil {
		b.counts.called(what{k.family.class, k.name, true}, 1, k.bytes(g, slices.Clone(args))) // args itself must not escape: a launch allocates nothing
	}
	copy(b.args.values[:], args)
	b.enter()
	defer b.leave()
	if err := k.f.Launch(g.x, g.y, 1, threads, 1, 1, 0, s, b.args.pointers[:len(args)]); err != nil {
		b.check("launch "+k.name, err)
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
