package kernel

// The assembly, written by neon.

//go:noescape
func nnNEON(t *Tile)

//go:noescape
func tnNEON(t *TileT)
