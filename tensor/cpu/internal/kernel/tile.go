package kernel

// Tile is one call of NN: C += A B on at most Rows x Cols elements. The assembly
// knows the offsets of the fields.
type Tile struct {
	// A: element k of row i under tap t is A[ARow[i]+Tap[t]+k], 0 <= k < K. ARow
	// has an entry for each row of a full tile; those past Rows name any valid
	// row.
	A    []float32
	ARow []int
	Tap  []int
	// B: row t*K+k begins at B[(t*K+k)*LDB].
	B []float32
	// C: row i begins at C[CRow[i]].
	C    []float32
	CRow []int

	K, LDB     int
	Rows, Cols int // of C, at most the set's
}

// TileT is one call of TN: C += A^T B on at most Rows x Cols elements, summed
// over segments of P rows each. The assembly knows the offsets of the fields.
type TileT struct {
	// A: row p of segment s begins at A[ASeg[s]+p*AStep].
	A    []float32
	ASeg []int
	// B: row p of segment s begins at B[BSeg[s]+p*BStep].
	B    []float32
	BSeg []int
	// C: row i begins at C[i*LDC].
	C []float32

	P, AStep, BStep int
	LDC             int
	Rows, Cols      int
}
