package kernel

// Grid is a matrix of which every column is treated alike: activations seen as
// pixels by channels. Row r of X, Y and Dst begins at r*LD. The assembly knows
// the offsets of the fields, and may read Slack floats past the end of X and Y.
type Grid struct {
	X, Y, Dst  []float32
	A, B, C, D []float32    // a value for each column
	Sum        [2][]float32 // a result for each column

	Rows, Cols, LD int
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
}
