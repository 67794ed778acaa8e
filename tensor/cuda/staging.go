//go:build cuda

package cuda

import (
	"errors"
	"fmt"
	"unsafe"

	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/internal/cuda/driver"
	"github.com/agrdist/agrdist/tensor"
)

// stagingHalf is the size of each half of the staging memory, in bytes: more than
// the input of a chunk. Longer copies go through it in pieces.
const stagingHalf = 8 << 20

// staging carries host values to the device while the device computes.
//
//	host values --copy--> pinned half --side stream--> device half --stream--> buffer
//
// The side stream copies as soon as the values are there, whatever the device is
// busy with; the stream of operations takes them from device memory when it gets
// there. Uploads fill a half one after the other; when it is full the other half
// is used, which has mostly been emptied by then.
type staging struct {
	halves [2]half
	now    int
	// recording says that operations are being recorded: copies from and to the
	// host are no part of that.
	recording bool
}

var errRecordCopy = errors.New("copy from or to the host while recording")

// drained says that the device has done all it was given: every upload has been
// taken, so the halves are free.
func (s *staging) drained() { s.now, s.halves[0].used, s.halves[1].used = 0, 0, 0 }

type half struct {
	host   unsafe.Pointer // pinned
	device cu.DevicePtr
	used   int64
	// copied is after the last copy to the device half, taken after the last one
	// out of it.
	copied, taken cu.Event
}

// openStaging allocates the halves; the context is current.
func (b *Backend) openStaging() (err error) {
	for i := range b.staging.halves {
		h := &b.staging.halves[i]
		b.closers = append(b.closers, h.free)
		if h.host, err = driver.HostAlloc(stagingHalf); err != nil {
			return fmt.Errorf("%w: %s: %d bytes of pinned host memory: %w", ErrMemory, b.name, stagingHalf, err)
		}
		if h.device, err = b.allocate(stagingHalf); err != nil {
			return err
		}
		for _, e := range []*cu.Event{&h.copied, &h.taken} {
			if *e, err = cu.MakeEvent(cu.DisableTiming); err != nil {
				return fmt.Errorf("cuda: event on %s: %w", b.name, err)
			}
		}
	}
	return nil
}

func (h *half) free() error {
	var errs []error
	for _, e := range []*cu.Event{&h.copied, &h.taken} {
		if *e != (cu.Event{}) {
			errs = append(errs, cu.DestroyEvent(e))
		}
	}
	if h.device != 0 {
		errs = append(errs, cu.MemFree(h.device))
	}
	if h.host != nil {
		errs = append(errs, driver.HostFree(h.host))
	}
	*h = half{}
	return errors.Join(errs...)
}

// reserve returns room for bytes, at most stagingHalf, in one of the halves. The
// context is current.
func (b *Backend) reserve(bytes int64) (h *half, off int64) {
	s := &b.staging
	h = &s.halves[s.now]
	if h.used+bytes > stagingHalf {
		s.now = 1 - s.now
		h = &s.halves[s.now]
		// The host may write the pinned half once the side stream has read it, the
		// side stream the device half once the stream of operations has.
		b.counts.waited()
		b.check("wait for a copy to the device", h.copied.Synchronize())
		b.check("wait for input to be taken", b.side.Wait(h.taken, 0))
		h.used = 0
	}
	off = h.used
	h.used += (bytes + scratchAlign - 1) / scratchAlign * scratchAlign
	return h, off
}

// upload copies n elements of a size in bytes to dst; fill writes elements
// [from, to) to pinned memory.
func (b *Backend) upload(dst cu.DevicePtr, n, size int, fill func(to unsafe.Pointer, lo, hi int)) {
	if b.staging.recording {
		b.check("upload", errRecordCopy)
		return
	}
	b.enter()
	defer b.leave()
	most := stagingHalf / size
	for lo := 0; lo < n; lo += most {
		hi := min(lo+most, n)
		bytes := int64((hi - lo) * size)
		h, off := b.reserve(bytes)
		host, device := unsafe.Add(h.host, off), h.device+cu.DevicePtr(off)
		fill(host, lo, hi)
		b.check("copy to the device", b.copyToDevice(device, host, bytes, b.side))
		b.check("copy to the device", h.copied.Record(b.side))
		b.check("wait for input", b.stream.Wait(h.copied, 0))
		b.check("take input", b.copyWithin(dst+cu.DevicePtr(lo*size), device, bytes))
		b.check("take input", h.taken.Record(b.stream))
	}
}

// Upload copies host values in, rounding to nearest even for BF16. It does not
// wait for the device unless it is two halves of staging memory ahead.
func (b *Backend) Upload(dst tensor.Buffer, src []float32) {
	m := b.own("Upload", dst)
	sameLen("Upload", m.n, len(src))
	switch m.dtype {
	case tensor.F32:
		b.upload(m.ptr, m.n, 4, func(to unsafe.Pointer, lo, hi int) {
			copy(unsafe.Slice((*float32)(to), hi-lo), src[lo:hi])
		})
	case tensor.BF16:
		b.upload(m.ptr, m.n, 2, func(to unsafe.Pointer, lo, hi int) {
			d := unsafe.Slice((*uint16)(to), hi-lo)
			for i, v := range src[lo:hi] {
				d[i] = toBF16(v)
			}
		})
	default:
		panic(fmt.Sprintf("cuda: Upload to %v", m.dtype))
	}
}

// UploadInt64 copies host values to an I64 buffer, as Upload does.
func (b *Backend) UploadInt64(dst tensor.Buffer, src []int64) {
	m := b.own("UploadInt64", dst)
	sameLen("UploadInt64", m.n, len(src))
	if m.dtype != tensor.I64 {
		panic(fmt.Sprintf("cuda: UploadInt64 to %v", m.dtype))
	}
	b.upload(m.ptr, m.n, 8, func(to unsafe.Pointer, lo, hi int) {
		copy(unsafe.Slice((*int64)(to), hi-lo), src[lo:hi])
	})
}

// copyIn copies bytes of host memory, which may be reused when it returns.
func (b *Backend) copyIn(dst cu.DevicePtr, src unsafe.Pointer, bytes int64) {
	from := unsafe.Slice((*byte)(src), bytes)
	b.upload(dst, len(from), 1, func(to unsafe.Pointer, lo, hi int) {
		copy(unsafe.Slice((*byte)(to), hi-lo), from[lo:hi])
	})
}

// Download waits for all that was called before, then copies to the host.
func (b *Backend) Download(dst []float32, src tensor.Buffer) error {
	m := b.own("Download", src)
	sameLen("Download", len(dst), m.n)
	switch m.dtype {
	case tensor.F32:
		return b.download(m.ptr, m.n, 4, func(from unsafe.Pointer, lo, hi int) {
			copy(dst[lo:hi], unsafe.Slice((*float32)(from), hi-lo))
		})
	case tensor.BF16:
		return b.download(m.ptr, m.n, 2, func(from unsafe.Pointer, lo, hi int) {
			for i, v := range unsafe.Slice((*uint16)(from), hi-lo) {
				dst[lo+i] = fromBF16(v)
			}
		})
	default:
		panic(fmt.Sprintf("cuda: Download from %v", m.dtype))
	}
}

// AllocFetched implements tensor.Fetcher: in pinned memory.
func (b *Backend) AllocFetched(n int) ([]float32, error) {
	if n == 0 {
		return nil, nil
	}
	b.enter()
	defer b.leave()
	p, err := driver.HostAlloc(4 * n)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %d bytes of pinned host memory: %w", ErrMemory, b.name, 4*n, err)
	}
	b.closers = append(b.closers, func() error { return driver.HostFree(p) })
	return unsafe.Slice((*float32)(p), n), nil
}

// Fetch implements tensor.Fetcher.
func (b *Backend) Fetch(dst []float32, src tensor.Buffer) {
	m := b.own("Fetch", src)
	sameLen("Fetch", len(dst), m.n)
	if m.dtype != tensor.F32 {
		panic(fmt.Sprintf("cuda: Fetch from %v", m.dtype))
	}
	if m.n == 0 {
		return
	}
	b.enter()
	defer b.leave()
	b.check("copy to the host", b.copyToHost(unsafe.Pointer(unsafe.SliceData(dst)), m.ptr, int64(4*m.n)))
}

// copyOut copies bytes to host memory once all earlier work is done.
func (b *Backend) copyOut(dst unsafe.Pointer, src cu.DevicePtr, bytes int64) error {
	to := unsafe.Slice((*byte)(dst), bytes)
	return b.download(src, len(to), 1, func(from unsafe.Pointer, lo, hi int) {
		copy(to[lo:hi], unsafe.Slice((*byte)(from), hi-lo))
	})
}

// download copies n elements from the device once all earlier work is done; take
// reads elements [from, to) from pinned memory.
func (b *Backend) download(src cu.DevicePtr, n, size int, take func(from unsafe.Pointer, lo, hi int)) error {
	if b.staging.recording {
		return errRecordCopy
	}
	b.enter()
	defer b.leave()
	b.check("synchronize", b.synchronize())
	s := &b.staging
	most := stagingHalf / size
	for lo := 0; lo < n && b.failed == nil; lo += most {
		hi := min(lo+most, n)
		b.check("copy to the host", b.copyToHost(s.halves[0].host, src+cu.DevicePtr(lo*size), int64((hi-lo)*size)))
		b.check("copy to the host", b.synchronize())
		if b.failed == nil {
			take(s.halves[0].host, lo, hi)
		}
	}
	return b.failed
}
