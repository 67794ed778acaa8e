// Package sharedmem allocates memory that other processes of the same user on
// the same host can read where it lies.
//
// Its one idea: only the owner writes memory, everybody else reads it. A block is
// an anonymous file (memfd) that its owner maps for writing and then seals: the
// kernel refuses every later attempt to resize it or to map it for writing, so a
// peer can neither change the owner's numbers nor make its own mapping fault. A
// Ticket names a block; whoever gets one opens the file by way of
// /proc/PID/fd/FD, which the kernel grants to the same user only, and checks the
// seals, the size and a random nonce, so that a ticket that is stale or from
// another PID namespace opens nothing.
//
//	m, err := sharedmem.Alloc(n)             // owner
//	v := m.Float32s()
//	block, off, ok := sharedmem.Find(v[lo:hi])
//	send(block.Ticket(), off)
//
//	view, err := sharedmem.Open(ticket)      // peer
//	f, err := view.Float32s(off, hi-lo)
//
// The memory is not the garbage collector's: Free ends its life, and a slice of
// it must not be touched afterwards. A view lives on until its own Close, even
// when the owner has freed the block or died.
//
// What it does not do: it says nothing of who may read or write when; package
// allreduce does. It works on Linux; elsewhere Alloc and Open fail with
// errors.ErrUnsupported and Find finds nothing.
package sharedmem
