package kernel

// Patch is a run of small square patches of vectors of channels, each taken from
// both sides by one matrix: Dst = L Src L^T, for the transforms of Winograd's
// minimal filtering (Lavin and Gray 2016, section 4.1). Element (i, j) of patch n
// of Src begins at Src[SrcAt+n*SrcStep+i*SrcRow+j*SrcCol], and of Dst likewise
// without an At. The assembly knows the offsets of the fields, and may read Slack
// floats past the end of all but Dst.
type Patch struct {
	Src, Dst []float32
	// WinogradOutput adds Bias, a value for each column, and Residual, which may be nil, is
	// laid out as Dst and may be Dst. The others have neither.
	Bias, Residual []float32
	// Zeros is what WinogradInput and WinogradGrad read for the rows outside of their limits: as
	// many zeros as a row of a patch has elements, SrcCol apart.
	Zeros []float32

	N, Cols                        int // patches; channels
	SrcAt, SrcRow, SrcCol, SrcStep int
	DstRow, DstCol, DstStep        int
	// WinogradInput, WinogradGrad and their rows take the rows and columns of a patch outside of [Lo, Hi) as
	// zero; they need not lie in Src, and SrcAt may be negative.
	RowLo, RowHi, ColLo, ColHi int
	// Row is the row of points that WinogradInputRow and WinogradGradRow make, where Dst
	// begins.
	Row int
}

// Transform is one of the matrices of F(4x4,3x3): outputs are made by tiles of 4x4
// from windows of 6x6 pixels through as many points. With d a window and g the
// taps, the tile is Output[Input d . Filter g]; and the gradient of the taps, for
// the gradient y of the tile, is FilterGrad[Input d . Grad y].
type Transform uint8

// The transforms, with the paper's names of the matrices.
const (
	WinogradInput      Transform = iota // B^T: 6x6 pixels to points
	WinogradFilter                      // G: 3x3 taps to points
	WinogradOutput                      // A^T: points to 4x4 pixels
	WinogradGrad                        // A: 4x4 pixels to points
	WinogradFilterGrad                  // G^T: points to 3x3 taps
	WinogradInputRow                    // one row of the points of WinogradInput, to the bit
	WinogradGradRow                     // of WinogradGrad
)

// transforms are the plain Go twins, from squares of in elements to out. They
// compute in float64, which costs nothing beside the loops around.
var transforms = [...]struct {
	in, out int
	line    func(x [6]float64) [6]float64
}{
	WinogradInput: {6, 6, inputLine}, WinogradFilter: {3, 6, filterLine}, WinogradOutput: {6, 4, outputLine},
	WinogradGrad: {4, 6, gradLine}, WinogradFilterGrad: {6, 3, filterGradLine},
	WinogradInputRow: {6, 6, inputLine}, WinogradGradRow: {4, 6, gradLine},
}

// The points are 0, a, -a, b, -b and infinity; the matrices follow
// from them by Cook's and Toom's interpolation, with the sign of a, -a so that all
// norms are positive. The paper's 1 and 2 lose twice the bits: 5/8 and 3/2 lie on
// both sides of 1 at about one ratio, which keeps the powers of all points close,
// and their own powers and products are exact in float32. A search over the
// sixteenths found no better pair by more than its noise.
const (
	a, b         = 5. / 8, 3. / 2
	a2, b2       = a * a, b * b
	norm0        = 1 / (a2 * b2)
	normA, normB = 1 / (2 * a2 * (b2 - a2)), 1 / (2 * b2 * (b2 - a2))
)

func inputLine(d [6]float64) (v [6]float64) {
	evenA, oddA := float64(b2*d[2])-d[4], float64(b2*d[1])-d[3]
	evenB, oddB := d[4]-float64(a2*d[2]), d[3]-float64(a2*d[1])
	return [6]float64{
		d[4] - float64((a2+b2)*d[2]) + float64(a2*b2*d[0]),
		evenA + float64(a*oddA), evenA - float64(a*oddA), evenB + float64(b*oddB), evenB - float64(b*oddB),
		d[5] - float64((a2+b2)*d[3]) + float64(a2*b2*d[1]),
	}
}

func filterLine(g [6]float64) (u [6]float64) {
	evenA, oddA := float64(normA*g[0])+float64(normA*a2*g[2]), float64(normA*a*g[1])
	evenB, oddB := float64(normB*g[0])+float64(normB*b2*g[2]), float64(normB*b*g[1])
	return [6]float64{norm0 * g[0], evenA + oddA, evenA - oddA, evenB + oddB, evenB - oddB, g[2]}
}

func outputLine(m [6]float64) (y [6]float64) {
	evenA, oddA, evenB, oddB := m[1]+m[2], m[1]-m[2], m[3]+m[4], m[3]-m[4]
	return [6]float64{
		m[0] + (evenA + evenB), float64(b*oddB) + float64(a*oddA), float64(b2*evenB) + float64(a2*evenA),
		m[5] + float64(b2*b*oddB) + float64(a2*a*oddA),
	}
}

func gradLine(y [6]float64) (v [6]float64) {
	evenA, oddA := y[0]+float64(a2*y[2]), float64(a*y[1])+float64(a2*a*y[3])
	evenB, oddB := y[0]+float64(b2*y[2]), float64(b*y[1])+float64(b2*b*y[3])
	return [6]float64{y[0], evenA + oddA, evenA - oddA, evenB + oddB, evenB - oddB, y[3]}
}

func filterGradLine(m [6]float64) (g [6]float64) {
	evenA, oddA, evenB, oddB := m[1]+m[2], m[1]-m[2], m[3]+m[4], m[3]-m[4]
	return [6]float64{
		float64(norm0*m[0]) + float64(normB*evenB) + float64(normA*evenA), float64(normB*b*oddB) + float64(normA*a*oddA),
		m[5] + float64(normB*b2*evenB) + float64(normA*a2*evenA),
	}
}

// limited says that a transform has limits of rows and columns.
func (tr Transform) limited() bool {
	return tr == WinogradInput || tr == WinogradGrad || tr.row()
}

// row says that a transform makes one row.
func (tr Transform) row() bool { return tr == WinogradInputRow || tr == WinogradGradRow }

func patchGo(tr Transform, p *Patch)       { patches(tr, p, transforms[tr].line) }
func patchPortable(tr Transform, p *Patch) { patches(tr, p, linesPortable[tr]) }

// patches runs a transform whose lines are computed in F.
func patches[F float32 | float64](tr Transform, p *Patch, line func(x [6]F) [6]F) {
	in, out := transforms[tr].in, transforms[tr].out
	for n := range p.N {
		for c := range p.Cols {
			var half [6][6]F // by row of Dst, then column of Src
			for j := range in {
				var src [6]F
				for i := range in {
					if !tr.limited() || i >= p.RowLo && i < p.RowHi && j >= p.ColLo && j < p.ColHi {
						src[i] = F(p.Src[p.SrcAt+n*p.SrcStep+i*p.SrcRow+j*p.SrcCol+c])
					}
				}
				for i, v := range line(src) {
					half[i][j] = v
				}
			}
			for i := range out {
				at := n*p.DstStep + i*p.DstRow + c
				if tr.row() {
					if i != p.Row {
						continue
					}
					at = n*p.DstStep + c
				}
				dst := line(half[i])
				for _, v := range dst[:out] {
					if p.Bias != nil {
						v += F(p.Bias[c])
					}
					if p.Residual != nil {
						v += F(p.Residual[at])
					}
					p.Dst[at] = float32(v)
					at += p.DstCol
				}
			}
		}
	}
}
