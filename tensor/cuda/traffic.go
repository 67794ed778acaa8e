//go:build cuda

package cuda

import (
	"slices"
	"strings"

	"github.com/agrdist/agrdist/tensor"
)

// launched is a launch as its traffic is computed from it.
type launched struct {
	grid     grid
	args     []uint64
	to, from tensor.DType // of what is written and read, where the kernel's name tells them apart
}

// n is an argument that is a number.
func (l launched) n(i int) int64 { return int64(l.args[i]) }

func (l launched) size() int64 { return int64(l.to.Size()) }

// family is what kernels that differ in types and constants alone have in common.
type family struct {
	class string
	// bytes is how many bytes of memory a launch reads and how many it writes, together
	// and each once, without what has one element a channel, a sample or a group.
	// nil: the caller counts it (Pass).
	bytes func(l launched) int64
}

// passes are so many operands of n elements, n being the product of some arguments.
func passes(operands int64, n ...int) func(l launched) int64 {
	return func(l launched) int64 {
		bytes := operands * l.size()
		for _, i := range n {
			bytes *= l.n(i)
		}
		return bytes
	}
}

// casts is for kernels of (dst, src, n) between F32 and BF16.
func casts(l launched) int64 { return 6 * l.n(2) }

// families lists the kernels by name, without the types behind it. TestTraffic compares
// it with what the kernels touch.
var families = map[string]family{
	"fill":          {"elementwise", passes(1, 1)},
	"add":           {"addition", passes(3, 3)},
	"add_scaled":    {"addition", passes(3, 2)},
	"scale":         {"elementwise", passes(2, 2)},
	"silu":          {"elementwise", passes(2, 2)},
	"silu_grad":     {"elementwise", passes(3, 3)},
	"widen":         {"conversion", casts},
	"narrow":        {"conversion", casts},
	"add_channels":  {"addition", passes(2, 3)},
	"concat":        {"concatenation", passes(2, 3)},
	"split":         {"concatenation", passes(2, 3)},
	"q_sample":      {"input", passes(3, 5)},
	"upsample":      {"upsample", passes(5, 2)},
	"upsample_grad": {"upsample", passes(5, 2)},
	"embed":         {"input", passes(1, 2, 3)},
	"normal":        {"input", passes(1, 2, 3)},
	"dropout":       {"elementwise", passes(2, 3, 4)},
	"sampler_step":  {"sampler", samplerTraffic},
	"sum_columns":   {"column sums", sumTraffic},
	"mse":           {"loss", mseTraffic},

	"group_norm_kept":           {"norm", normTraffic},
	"group_norm_wide":           {"norm", normTraffic},
	"group_norm_silu_kept":      {"norm", normTraffic},
	"group_norm_silu_wide":      {"norm", normTraffic},
	"group_norm_kept_grad":      {"norm gradient", normGradTraffic},
	"group_norm_wide_grad":      {"norm gradient", normGradTraffic},
	"group_norm_silu_kept_grad": {"norm gradient", normGradTraffic},
	"group_norm_silu_wide_grad": {"norm gradient", normGradTraffic},
	"norm_affine":               {"norm gradient", passes(2, 3, 4)},
	"scale_shift":               {"norm", passes(4, 5, 6)},
	"scale_shift_grad":          {"norm gradient", passes(5, 8, 9)},

	"softmax":      {"attention", passes(2, 2, 3)},
	"softmax_grad": {"attention", passes(3, 3, 4)},
	"flash_8":      {"attention", flashTraffic(4, 5)}, "flash_16": {"attention", flashTraffic(4, 5)}, "flash_32": {"attention", flashTraffic(4, 5)},
	"flash_grad_q_8": {"attention", flashTraffic(6, 7)}, "flash_grad_q_16": {"attention", flashTraffic(6, 7)}, "flash_grad_q_32": {"attention", flashTraffic(6, 7)},
	"flash_grad_kv_8": {"attention", flashTraffic(7, 8)}, "flash_grad_kv_16": {"attention", flashTraffic(7, 8)}, "flash_grad_kv_32": {"attention", flashTraffic(7, 8)},
	"attention_scores":       {"attention", headTraffic(4, 0)},
	"attention_weigh":        {"attention", headTraffic(0, 1)},
	"attention_weigh_t":      {"attention", headTraffic(0, 1)},
	"attention_softmax":      {"attention", func(l launched) int64 { return l.n(3) * l.n(4) * (4 + l.size()) }},
	"attention_softmax_grad": {"attention", func(l launched) int64 { return 2 * l.n(5) * l.n(6) * (4 + l.size()) }},

	"window":    {"conversion", windowTraffic},
	"transpose": {"filter", transposeTraffic},
	"finish":    {"bias and residual", finishTraffic},
	"patches":   {"patches", patchTraffic},
	"gather":    {"patches", gatherTraffic},

	"pass_verdict": {"update", nothing},
	"pass_moved":   {"update", nothing},
	"digest":       {"digest", func(l launched) int64 { return 4 * l.n(2) }},
	"digest_sum":   {"digest", nothing},
}

// updates is the family of the kernels that work on all parameters.
var updates = family{class: "update"}

// nothing but partial results.
func nothing(launched) int64 { return 0 }

// familyOf finds a kernel's family and its types, which stand behind the family's name:
// one, or what it writes and what it reads.
func familyOf(name string) (f family, to, from tensor.DType) {
	if name == "pass_norms" || slices.ContainsFunc(rules[:], func(r rule) bool { return name == "pass_"+r.kernel || name == "pass_move_"+r.kernel }) {
		return updates, tensor.F32, tensor.F32
	}
	var types []tensor.DType
	for {
		if f, ok := families[name]; ok {
			types = append(types, tensor.F32, tensor.F32)
			if len(types) == 3 {
				types[1] = types[0]
			}
			return f, types[1], types[0]
		}
		at := strings.LastIndexByte(name, '_')
		switch {
		case at < 0:
			return family{}, 0, 0
		case name[at:] == "_bf16":
			types = append(types, tensor.BF16)
		case name[at:] == "_f32":
			types = append(types, tensor.F32)
		default:
			return family{}, 0, 0
		}
		name = name[:at]
	}
}

func sumTraffic(l launched) int64 { // out, x, rows, c, block, tile
	rows, c := l.n(2), l.n(3)
	blocks := (rows + l.n(4) - 1) / l.n(4)
	parts := int64(l.grid.x) / blocks / ((c + l.n(5) - 1) / l.n(5))
	return parts * rows * c * l.size() // the first type in their names is what they read
}

func samplerTraffic(l launched) int64 { // x, out, none, a, b, ids, n, per, ...
	operands := int64(3)
	if l.args[2] != 0 {
		operands++
	}
	if l.args[3] != 0 {
		operands += 2
		if l.args[21] != 0 { // keeps
			operands += 2
		}
	}
	return operands * l.n(6) * l.n(7) * 4
}

func mseTraffic(l launched) int64 { // loss, dpred, pred, target, per, scale
	operands := int64(2)
	if l.args[1] != 0 {
		operands++
	}
	return operands * int64(l.grid.x) * l.n(4) * l.size()
}

// normTraffic is x and y, [samples, pixels, c]; a block has a slab of some groups.
func normTraffic(l launched) int64 { // y, mean, rstd, x, gamma, beta, pixels, c, groups, slab
	slabs := (l.n(8) + l.n(9) - 1) / l.n(9)
	return 2 * int64(l.grid.x) / slabs * l.n(6) * l.n(7) * l.size()
}

// normGradTraffic is x, dy and dx, and what is added to it.
func normGradTraffic(l launched) int64 { // dx, ..., samples (8), pixels, c, ..., affine, first (21), second, sums
	operands := int64(3)
	for _, i := range []int{21, 22} {
		if l.args[i] != 0 {
			operands++
		}
	}
	return passes(operands, 8, 9, 10)(l)
}

// flashTraffic is so many operands of [n, l, c]; at is the place of l among the arguments.
func flashTraffic(operands int64, at int) func(l launched) int64 {
	return func(l launched) int64 { // ..., l, c, heads, dim, scale
		rows := l.n(at)
		heads := int64(l.grid.x) / ((rows + flashRows - 1) / flashRows)
		return operands * heads * rows * l.n(at+3) * l.size()
	}
}

// headTraffic is a product with scores [l, l] for each head, of so many bytes an element
// or of so many elements of the activations' type, and twice [l, dim].
func headTraffic(bytes, elements int64) func(l launched) int64 {
	return func(l launched) int64 { // dst, x, y, heads, l, c, dim, alpha
		rows, heads := l.n(4), int64(l.grid.y)
		return heads * (rows*rows*(bytes+elements*l.size()) + 2*rows*l.n(6)*l.size())
	}
}

func windowTraffic(l launched) int64 { // dst, src, n, height, width, channels, h, w, c, shift
	written := l.n(3) * l.n(4) * l.n(5)
	read := min(l.n(3), l.n(6)) * min(l.n(4), l.n(7)) * min(l.n(5), l.n(8))
	return l.n(2) * (written*int64(l.to.Size()) + read*int64(l.from.Size()))
}

func transposeTraffic(l launched) int64 { // dst, dstTap, dstRow, rows, columns, src, srcTap, srcRow, filled rows, columns
	return int64(l.grid.y) * (l.n(3)*l.n(4)*int64(l.to.Size()) + l.n(8)*l.n(9)*int64(l.from.Size()))
}

func finishTraffic(l launched) int64 { // y, src, bias, each, residual, n, pixels, channels, stride
	element := int64(l.to.Size() + l.from.Size())
	if l.args[4] != 0 {
		element += int64(l.to.Size())
	}
	return l.n(5) * l.n(6) * l.n(7) * element
}

// patchTraffic is the images [n, h, w, c] and their patches.
func patchTraffic(l launched) int64 { return patchedTraffic(l, l.size()) }

// gatherTraffic is the same with patches of F32.
func gatherTraffic(l launched) int64 { return patchedTraffic(l, 4) }

func patchedTraffic(l launched, patch int64) int64 { // dst, src, n, h, w, c, oh, ow, kernel
	return l.n(2) * l.n(5) * (l.n(3)*l.n(4)*l.size() + l.n(6)*l.n(7)*l.n(8)*l.n(8)*patch)
}
