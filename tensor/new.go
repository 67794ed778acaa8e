package tensor

// New allocates a zeroed tensor. The error is that of Memory.Alloc.
func New(m Memory, dt DType, s Shape) (Tensor, error) {
	b, err := m.Alloc(dt, s.Len())
	if err != nil {
		return Tensor{}, err
	}
	return Tensor{Buf: b, Shape: s}, nil
}

// Flat is a whole buffer as a tensor of one dimension.
func Flat(b Buffer) Tensor { return Tensor{Buf: b, Shape: Of(b.Len())} }
