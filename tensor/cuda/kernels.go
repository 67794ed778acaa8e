//go:build cuda

package cuda

import (
	"fmt"
	"sync"

	"github.com/agrdist/agrdist/tensor"
)

// pair is a kernel for activations of F32 and of BF16.
type pair [2]kernel

// of is the kernel for a type.
func (p *pair) of(dt tensor.DType) *kernel { return &p[dt] }

// vector is how many elements of a type make the 16 bytes that kernels move at
// a time.
func vector(dt tensor.DType) int { return 16 / dt.Size() }

// flashWidths are the head widths that have kernels; a head takes the first that
// is wide enough.
var flashWidths = [...]int{8, 16, 32}

// kernels are the entry points of all modules.
type kernels struct {
	// elementwise
	fill, add, addScaled, scale, silu, siluGrad pair
	widen, narrow                               kernel
	// rows
	addChannels, concat, split, qSample, upsample, upsampleGrad, embed pair
	addChannelsBF16                                                    kernel // e is BF16 too
	// random
	normal, dropout pair
	samplerStep     kernel
	// reduce
	sumColumns     pair   // to F32
	sumColumnsBF16 kernel // F32 to BF16
	mse            pair
	// norm: [without or with SiLU][the slab is kept, or read again]
	norm, normGrad [2][2]pair
	normAffine     kernel
	// scaleshift
	scaleShift, scaleShiftGrad kernel
	// softmax
	softmax, softmaxGrad pair
	// attention, by place in flashWidths
	flash, flashGradQ, flashGradKV                   [len(flashWidths)]pair
	attentionScores, attentionWeigh, attentionWeighT pair
	attentionSoftmax, attentionSoftmaxGrad           pair
	// conv, by the type that is written and the one that is read
	window, transpose, finish [2]pair
	patches, gather           pair
	// pass
	passNorms, passVerdict, passMoved kernel
	digest, digestSum                 kernel
	rules, moves                      [len(rules)]kernel // of rules: apply, and measure what that would do
}

// entry is one kernel of a module.
type entry struct {
	name string
	k    *kernel
}

// modules lists the entry points by file.
func (k *kernels) modules() map[string][]entry {
	both := func(name string, p *pair) []entry {
		return []entry{{name + "_f32", p.of(tensor.F32)}, {name + "_bf16", p.of(tensor.BF16)}}
	}
	join := func(lists ...[]entry) (all []entry) {
		for _, l := range lists {
			all = append(all, l...)
		}
		return all
	}
	between := func(name string, p *[2]pair) []entry {
		return join(both(name+"_f32", &p[tensor.F32]), both(name+"_bf16", &p[tensor.BF16]))
	}
	m := map[string][]entry{
		"elementwise": join(both("fill", &k.fill), both("add", &k.add), both("add_scaled", &k.addScaled),
			both("scale", &k.scale), both("silu", &k.silu), both("silu_grad", &k.siluGrad),
			[]entry{{"widen", &k.widen}, {"narrow", &k.narrow}}),
		"rows": join(both("add_channels", &k.addChannels), both("concat", &k.concat), both("split", &k.split),
			both("q_sample", &k.qSample), both("upsample", &k.upsample), both("upsample_grad", &k.upsampleGrad),
			both("embed", &k.embed), []entry{{"add_channels_bf16_bf16", &k.addChannelsBF16}}),
		"random": join(both("normal", &k.normal), both("dropout", &k.dropout), []entry{{"sampler_step", &k.samplerStep}}),
		"reduce": join(both("mse", &k.mse), []entry{
			{"sum_columns_f32_f32", k.sumColumns.of(tensor.F32)},
			{"sum_columns_bf16_f32", k.sumColumns.of(tensor.BF16)},
			{"sum_columns_f32_bf16", &k.sumColumnsBF16},
		}),
		"norm":       {{"norm_affine", &k.normAffine}},
		"scaleshift": {{"scale_shift", &k.scaleShift}, {"scale_shift_grad", &k.scaleShiftGrad}},
		"softmax":    join(both("softmax", &k.softmax), both("softmax_grad", &k.softmaxGrad)),
		"attention": join(both("attention_scores", &k.attentionScores), both("attention_weigh", &k.attentionWeigh),
			both("attention_weigh_t", &k.attentionWeighT), both("attention_softmax", &k.attentionSoftmax),
			both("attention_softmax_grad", &k.attentionSoftmaxGrad)),
		"conv": join(between("window", &k.window), between("transpose", &k.transpose), between("finish", &k.finish),
			both("patches", &k.patches), both("gather", &k.gather)),
		"pass": {
			{"pass_norms", &k.passNorms},
			{"pass_verdict", &k.passVerdict},
			{"pass_moved", &k.passMoved},
			{"digest", &k.digest},
			{"digest_sum", &k.digestSum},
		},
	}
	for s, silu := range []string{"", "silu_"} {
		for w, kept := range []string{"kept", "wide"} {
			name := "group_norm_" + silu + kept
			m["norm"] = join(m["norm"], both(name, &k.norm[s][w]), both(name+"_grad", &k.normGrad[s][w]))
		}
	}
	for i, width := range flashWidths {
		m["attention"] = join(m["attention"], both(fmt.Sprintf("flash_%d", width), &k.flash[i]),
			both(fmt.Sprintf("flash_grad_q_%d", width), &k.flashGradQ[i]),
			both(fmt.Sprintf("flash_grad_kv_%d", width), &k.flashGradKV[i]))
	}
	for i, r := range rules {
		m["pass"] = append(m["pass"], entry{"pass_" + r.kernel, &k.rules[i]}, entry{"pass_move_" + r.kernel, &k.moves[i]})
	}
	return m
}

// loadKernels compiles the modules side by side and binds their entry points.
func (b *Backend) loadKernels() error {
	all := b.kernels.modules()
	images, err := compileAll(cacheDir(b.config.CacheDir), b.arch, all)
	if err != nil {
		return err
	}
	for module, entries := range all {
		m, err := b.loadImage(module, images[module])
		if err != nil {
			return err
		}
		for _, e := range entries {
			e.k.name = e.name
			e.k.family, e.k.to, e.k.from = familyOf(e.name)
			if e.k.f, err = m.Function(e.name); err != nil {
				return fmt.Errorf("cuda: kernel %s of %s: %w", e.name, module, err)
			}
		}
	}
	return nil
}

// compileAll returns the machine code of each module.
func compileAll(dir, arch string, modules map[string][]entry) (map[string][]byte, error) {
	var (
		group  sync.WaitGroup
		mu     sync.Mutex
		images = map[string][]byte{}
		failed error
	)
	for module := range modules {
		group.Go(func() {
			text, err := source(module)
			var image []byte
			if err == nil {
				image, err = compile(dir, module, text, arch)
			}
			mu.Lock()
			defer mu.Unlock()
			images[module] = image
			if err != nil && failed == nil {
				failed = err
			}
		})
	}
	group.Wait()
	return images, failed
}
