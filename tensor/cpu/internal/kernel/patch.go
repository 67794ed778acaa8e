package kernel

// Patch is a run of small square patches of vectors of channels, each taken from
// both sides by one matrix: Dst = L Src L^T, for the transforms of Winograd's
// minimal filtering F(2x2,3x3) (Lavin and Gray 2016, section 4.1). Element (i, j) of patch n of Src begins at
// Src[n*SrcStep+i*SrcRow+j*SrcCol], and of Dst likewise. The assembly knows the
// offsets of the fields, and may read Slack floats past the end of all but Dst.
//
// Point 3 has the sign of d3-d1, not of the paper's d1-d3: no transform has a
// lone negative term then.
type Patch struct {
	Src, Dst []float32
	// WinogradOutput adds Bias, a value for each column, and Residual, which may be
	// nil, is laid out as Dst and may be Dst. The others have neither.
	Bias, Residual []float32

	N, Cols                 int // patches; channels
	SrcRow, SrcCol, SrcStep int
	DstRow, DstCol, DstStep int
}

// line is one dimension of a transform: L src.
type line func(src [4]float32) [4]float32

// input is B^T d of four pixels.
func input(d [4]float32) [4]float32 {
	return [4]float32{d[0] - d[2], d[1] + d[2], d[2] - d[1], d[3] - d[1]}
}

// filter is G g of three taps.
func filter(g [4]float32) [4]float32 {
	return [4]float32{g[0], (g[0] + g[1] + g[2]) * 0.5, (g[0] - g[1] + g[2]) * 0.5, g[2]}
}

// output is A^T m: two pixels.
func output(m [4]float32) [4]float32 { return [4]float32{m[0] + m[1] + m[2], m[1] - m[2] + m[3]} }

// patchGo transforms patches of in x in elements to out x out.
func patchGo(p *Patch, in, out int, f line) {
	var half [4][4]float32 // the columns done, by column then row
	var src [4]float32
	for n := range p.N {
		for c := range p.Cols {
			from, to := n*p.SrcStep+c, n*p.DstStep+c
			for i := range in {
				for j := range in {
					src[j] = p.Src[from+i*p.SrcRow+j*p.SrcCol]
				}
				dst := f(src)
				for j := range out {
					half[j][i] = dst[j]
				}
			}
			for j := range out {
				dst := f(half[j])
				for i := range out {
					at := to + i*p.DstRow + j*p.DstCol
					if p.Bias != nil {
						dst[i] += p.Bias[c]
					}
					if p.Residual != nil {
						dst[i] += p.Residual[at]
					}
					p.Dst[at] = dst[i]
				}
			}
		}
	}
}

func winogradInputGo(p *Patch)  { patchGo(p, 4, 4, input) }
func winogradFilterGo(p *Patch) { patchGo(p, 3, 4, filter) }
func winogradOutputGo(p *Patch) { patchGo(p, 4, 2, output) }
