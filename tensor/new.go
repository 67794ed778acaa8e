package tensor

// New allocates a zeroed tensor. The error is that of Memory.Alloc.
func New(m Memory, dt DType, s Shape) (Tensor, error) {
	b, err := m.Alloc(dt, s.Len())
	if err != nil {
		return Tensor{}, err
	}
	return Tensor{Buf: b, Shape: s}, nil
}
