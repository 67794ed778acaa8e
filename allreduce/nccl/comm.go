//go:build cuda

package nccl

/*
#include "calls.h"
*/
import "C"

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"
)

// Type is the type of the elements of an operation.
type Type uint32

// Types.
const (
	F32  Type = C.ncclFloat32
	BF16 Type = C.ncclBfloat16
)

// A call in progress is polled for without a pause at first, since most are done by
// then, and once a tick later.
const (
	spin = 50 * time.Microsecond
	tick = 20 * time.Microsecond
)

// Comm is a rank's communicator, one that does not block: what a call has begun is
// polled for. Operations queue on a CUDA stream, given as its handle; device memory
// is given by address. Calls belong to one goroutine at a time, on a thread on which
// the rank's device is current; Abort and Err may be called from any.
type Comm struct {
	lib *Library

	mu      sync.Mutex // nothing else may be in the library for c during an abort
	c       C.ncclComm_t
	grouped bool // in Group; mu is held
}

// Init joins rank of size ranks under an id. It returns when all have joined, the
// library gives up, or ctx ends.
func (l *Library) Init(ctx context.Context, id ID, size, rank int) (*Comm, error) {
	var c C.ncclUniqueId
	for i, b := range id {
		c.internal[i] = C.char(b)
	}
	comm := &Comm{lib: l}
	err := l.err("ncclCommInitRankConfig", C.agr_nccl_init(l.api, &comm.c, C.int(size), c, C.int(rank)), nil)
	if errors.Is(err, errInProgress) {
		err = comm.settle(ctx, "ncclCommInitRankConfig")
	}
	if err != nil {
		comm.Abort()
		return nil, err
	}
	return comm, nil
}

// do runs one call of the library and waits until what it began is queued.
func (m *Comm) do(name string, call func() C.ncclResult_t) error {
	if m.grouped { // it begins with the group's end
		if err := m.lib.err(name, call(), m.c); !errors.Is(err, errInProgress) {
			return err
		}
		return nil
	}
	err := m.once(name, call)
	if errors.Is(err, errInProgress) {
		return m.settle(context.Background(), name) // an abort ends it
	}
	return err
}

func (m *Comm) once(name string, call func() C.ncclResult_t) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.c == nil {
		return ErrGone
	}
	return m.lib.err(name, call(), m.c)
}

// settle waits until nothing is in progress.
func (m *Comm) settle(ctx context.Context, name string) error {
	for begun := time.Now(); ; {
		err := m.async(name)
		if !errors.Is(err, errInProgress) {
			return err
		}
		if time.Since(begun) < spin {
			runtime.Gosched()
			continue
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(tick):
		}
	}
}

func (m *Comm) async(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.c == nil {
		return ErrGone
	}
	var r C.ncclResult_t
	if err := m.lib.err("ncclCommGetAsyncError", C.agr_nccl_async(m.lib.api, m.c, &r), m.c); err != nil {
		return err
	}
	return m.lib.err(name, r, m.c)
}

// Err is the communicator's asynchronous failure, nil while there is none.
func (m *Comm) Err() error {
	if err := m.async("asynchronous"); !errors.Is(err, errInProgress) {
		return err
	}
	return nil
}

// Group queues the operations that f calls as one: none waits for another. An abort
// waits for its end; nothing in f blocks.
func (m *Comm) Group(f func() error) error {
	err := m.group(f)
	if errors.Is(err, errInProgress) {
		return m.settle(context.Background(), "ncclGroupEnd")
	}
	return err
}

func (m *Comm) group(f func() error) error {
	runtime.LockOSThread() // a group belongs to a thread
	defer runtime.UnlockOSThread()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.c == nil {
		return ErrGone
	}
	if err := m.lib.err("ncclGroupStart", C.agr_nccl_group_start(m.lib.api), m.c); err != nil {
		return err
	}
	m.grouped = true
	err := f()
	m.grouped = false
	end := m.lib.err("ncclGroupEnd", C.agr_nccl_group_end(m.lib.api), m.c)
	if err != nil {
		return err
	}
	return end
}

// Send queues n elements at p for a peer.
func (m *Comm) Send(p uintptr, n int, t Type, peer int, stream uintptr) error {
	return m.do("ncclSend", func() C.ncclResult_t {
		return C.agr_nccl_send(m.lib.api, C.uintptr_t(p), C.size_t(n), C.ncclDataType_t(t), C.int(peer), m.c, C.uintptr_t(stream))
	})
}

// Recv queues the receipt of n elements at p from a peer.
func (m *Comm) Recv(p uintptr, n int, t Type, peer int, stream uintptr) error {
	return m.do("ncclRecv", func() C.ncclResult_t {
		return C.agr_nccl_recv(m.lib.api, C.uintptr_t(p), C.size_t(n), C.ncclDataType_t(t), C.int(peer), m.c, C.uintptr_t(stream))
	})
}

// AllReduce queues the sum of all ranks' n elements at from, to to, which may be
// the same. The order of the sum is the library's.
func (m *Comm) AllReduce(from, to uintptr, n int, t Type, stream uintptr) error {
	return m.do("ncclAllReduce", func() C.ncclResult_t {
		return C.agr_nccl_all_reduce(m.lib.api, C.uintptr_t(from), C.uintptr_t(to), C.size_t(n), C.ncclDataType_t(t), m.c, C.uintptr_t(stream))
	})
}

// Broadcast queues the copy of root's n elements at p to every rank's p.
func (m *Comm) Broadcast(p uintptr, n int, t Type, root int, stream uintptr) error {
	return m.do("ncclBroadcast", func() C.ncclResult_t {
		return C.agr_nccl_broadcast(m.lib.api, C.uintptr_t(p), C.uintptr_t(p), C.size_t(n), C.ncclDataType_t(t), C.int(root), m.c, C.uintptr_t(stream))
	})
}

// Close ends the communicator in peace: it waits until all ranks do, then frees it.
// Where ctx ends before, or something fails, it is aborted and the error returned.
func (m *Comm) Close(ctx context.Context) error {
	err := m.once("ncclCommFinalize", func() C.ncclResult_t { return C.agr_nccl_finalize(m.lib.api, m.c) })
	if errors.Is(err, errInProgress) {
		err = m.settle(ctx, "ncclCommFinalize")
	}
	if errors.Is(err, ErrGone) {
		return nil
	}
	if err != nil {
		m.Abort()
		return err
	}
	return m.once("ncclCommDestroy", func() C.ncclResult_t {
		defer func() { m.c = nil }()
		return C.agr_nccl_destroy(m.lib.api, m.c)
	})
}

// Abort ends what the communicator does on this rank and frees it. Peers are not
// told: they abort too, or wait for ever. It may be called more than once.
func (m *Comm) Abort() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.c != nil {
		C.agr_nccl_abort(m.lib.api, m.c) // nothing is left to do about a failure
		m.c = nil
	}
}
