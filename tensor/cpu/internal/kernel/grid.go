package kernel

// Grid is a matrix of which every column is treated alike: activations seen as
// pixels by channels. Row r of X, Y and Dst begins at r*LD. The assembly knows
// the offsets of the fields, and may read Slack floats past the end of X and Y.
type Grid struct {
	X, Y, Dst  []float32
	A, B, C, D []float32    // a value for each column
	Sum        [2][]float32 // a result for each column

	Rows, Cols, LD int

	// Bits is the mask of the kernels with dropout, from MaskBits: Cols bits a row,
	// one after the other, where Cols is a multiple of 16. Keep is what the elements
	// with a 1 are multiplied with, the others with 0.
	Bits []uint64
	Keep float32
}

// Mask is the mask of Dropout: words of the Philox sequence (package rng) from a
// block on. The assembly knows the offsets of the fields.
type Mask struct {
	Key    [2]uint32
	Block  uint32 // of the first element
	Stream uint32
	Draw   [2]uint32
	Limit  uint32  // words below it drop their element
	Keep   float32 // what the other elements are multiplied with
	// Rounds are the two keys of each round: SetKey.
	Rounds [20]uint32
}

// SetKey sets the key, and the keys of the rounds that follow from it.
func (m *Mask) SetKey(seed uint64) {
	m.Key = [2]uint32{uint32(seed), uint32(seed >> 32)}
	k0, k1 := m.Key[0], m.Key[1]
	for i := 0; i < len(m.Rounds); i += 2 {
		m.Rounds[i], m.Rounds[i+1] = k0, k1
		k0 += 0x9E3779B9
		k1 += 0xBB67AE85
	}
}
