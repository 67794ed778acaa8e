// Package kernel holds the inner loops of the host backend, in one plain Go form and in
// generated assembly: AVX2 and AVX-512 on amd64, NEON on arm64.
//
// Its one idea: a Tile finds its rows through tables of offsets. NN adds A B to a
// small block of C, where row i of A under tap t begins at ARow[i]+Tap[t]: with
// one tap that is a matrix product, with nine it is a 3x3 convolution on a padded
// image, and neither needs the image unrolled in memory. TN adds A^T B over
// segments of rows: the gradient of the weights of both.
//
// A Set is chosen once. All sets compute the same sums; they differ in the order
// of the additions inside a tile and in fused multiply-add, so their results
// differ in the last bits and one run uses one set. NEON rounds as AVX2 does, and so do the
// portable sets, of which a run may use several. Every loop multiplies every element: a zero does not hide a NaN. AVX512BF16
// and NEONBF16 are AVX512 and NEON with tiles whose operands are pairs of bf16 (bf16.go).
//
// The package starts no goroutine, allocates nothing and checks no bounds in
// assembly: a vector load may read up to Slack floats past the last element
// named, and its callers own that memory.
package kernel
