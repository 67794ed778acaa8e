package kernel

// Shape is the size of a full tile: the most that one call of NN or TN computes.
// It depends on the set and on how many columns the result has; it changes no
// bit of a result.
type Shape struct {
	Rows, Cols int // Cols is also the width of a packed panel of B
	set        Set
}

// MaxRows is the largest number of rows of a tile of any shape.
const MaxRows = 8

// MaxCols is the largest number of columns.
const MaxCols = 64

// Shape returns the tile for a result of n columns.
func (s Set) Shape(n int) Shape {
	switch {
	case (s.F32() == AVX512 || s == PortableAVX512) && (n+63)/64*64 <= n+n/4:
		return Shape{6, 64, s}
	case s == AVX2 || s.F32() == NEON:
		return Shape{6, 16, s}
	default:
		return Shape{8, 32, s}
	}
}

// Tile is one call of NN: C = [C +] A B [+ Init] [+ Residual] on at most Rows x
// Cols elements. The assembly knows the offsets of the fields.
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
	// Init is added to the sums where it is not nil: row i's begins at
	// Init[IRow[i]]. Residual, which may be nil or C, is laid out as C.
	Init     []float32
	IRow     []int
	Residual []float32

	K, LDB     int
	Rows, Cols int  // of C, at most the shape's
	Fresh      bool // C is written, not read
}

// TileT is one call of TN: C = [C +] A^T B on at most Rows x Cols elements,
// summed over segments of P rows each. The assembly knows the offsets of the
// fields.
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
	Fresh           bool // C is written, not read
}
