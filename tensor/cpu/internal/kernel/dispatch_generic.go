//go:build !amd64

package kernel

func supported(s Set) bool { return s == Go }

// NN is C += A B.
func (s Set) NN(t *Tile) { nnGo(t) }

// TN is C += A^T B.
func (s Set) TN(t *TileT) { tnGo(t) }
