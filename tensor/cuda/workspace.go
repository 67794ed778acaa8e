//go:build cuda

package cuda

import (
	"errors"

	"gorgonia.org/cu"
)

// workspace is device memory that an operation uses until it ends. Operations
// follow each other on one stream, so one piece serves all. A piece that became
// too small is kept until the end: recorded graphs point into it. Pieces double,
// so that all together are no more than twice the largest.
type workspace struct {
	pieces []cu.DevicePtr
	size   int64
}

// minWorkspace is enough for the sums of most operations.
const minWorkspace = 4 << 20

// scratch returns bytes of device memory of undefined content, for use on the
// main stream by one operation, aligned to 256 bytes. When there is no room
// the failure sticks and ok is false.
func (b *Backend) scratch(bytes int64) (p cu.DevicePtr, ok bool) { return b.piece(&b.work, bytes) }

// outerScratch is scratch for an operation that calls others, which use scratch.
func (b *Backend) outerScratch(bytes int64) (p cu.DevicePtr, ok bool) {
	return b.piece(&b.outer, bytes)
}

func (b *Backend) piece(w *workspace, bytes int64) (p cu.DevicePtr, ok bool) {
	if bytes > w.size || len(w.pieces) == 0 {
		size := max(bytes, 2*w.size, minWorkspace)
		b.enter()
		defer b.leave()
		ptr, err := b.allocate(size)
		if err != nil {
			b.check("workspace", err)
			return 0, false
		}
		w.pieces, w.size = append(w.pieces, ptr), size
	}
	return w.pieces[len(w.pieces)-1], true
}

func (w *workspace) free() error {
	var errs []error
	for _, p := range w.pieces {
		errs = append(errs, cu.MemFree(p))
	}
	*w = workspace{}
	return errors.Join(errs...)
}
