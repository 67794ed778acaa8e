package tensor

// Sharer is implemented by backends that can place a buffer where other processes
// of this host may read it, so that ranks can sum gradients without sending them.
type Sharer interface {
	// AllocShared is Memory.Alloc; where such memory is to be had, the buffer is
	// in it. It is a Buffer like any other.
	AllocShared(dt DType, n int) (Buffer, error)
}
