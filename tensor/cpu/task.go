package cpu

import "github.com/agrdist/agrdist/parallel"

// A task is the parallel loop of one operation. Its body is made into a closure
// once, so that running it allocates nothing; the arguments of the call under
// way lie beside it.
type task[T any] struct {
	args T
	f    func(i int)
	body func(args *T, i int)
}

func newTask[T any](body func(args *T, i int)) *task[T] {
	t := &task[T]{body: body}
	t.f = func(i int) { t.body(&t.args, i) }
	return t
}

// run calls body(&args, i) for i in [0, n).
func (t *task[T]) run(p *parallel.Pool, n int, args T) {
	t.args = args
	p.Run(n, t.f)
	var none T
	t.args = none // holds on to no buffer
}

// tasks are the parallel loops of all operations.
type tasks struct {
	copy, fill, add, blend, scale, silu, siluGrad *task[vecArgs]
	widen, narrow                                 *task[castArgs]
	addChannels, concat, split                    *task[rowArgs]
	qSample                                       *task[qSampleArgs]
	sumChannels                                   *task[sumArgs]
	mse                                           *task[mseArgs]
	normal, dropout                               *task[randomArgs]
	prep                                          *task[prepArgs]
	product                                       *task[product]
	productT                                      *task[productT]
	round                                         *task[vecArgs]
	pairedGrad                                    *task[pairedGrad]
	winogradFilter, winogradBlock                 *task[winograd]
	winogradInput, winogradProduct                *task[winograd]
	winogradGradBlock, winogradGradFilter         *task[winogradGrad]
	groupNorm, groupNormGrad                      *task[normArgs]
	softmax, softmaxGrad                          *task[softmaxArgs]
	attention, attentionGrad                      *task[attention]
	upsample, upsampleGrad                        *task[resampleArgs]
}

func newTasks() tasks {
	return tasks{
		copy: newTask(copySpan), fill: newTask(fillSpan), add: newTask(addSpan),
		blend: newTask(blendSpan), scale: newTask(scaleSpan),
		silu: newTask(siluSpan), siluGrad: newTask(siluGradSpan),
		widen: newTask(widenSpan), narrow: newTask(narrowSpan),
		addChannels: newTask(addChannelsRows), concat: newTask(concatRows), split: newTask(splitRows),
		qSample:     newTask(qSampleOne),
		sumChannels: newTask(sumBlock), mse: newTask(mseOne),
		normal: newTask(normalOne), dropout: newTask(dropoutSpan),
		prep: newTask(prepItem), product: newTask(productItem), productT: newTask(productTItem),
		round:          newTask(roundSpan),
		pairedGrad:     newTask(pairedGradItem),
		winogradFilter: newTask(winogradFilterItem), winogradBlock: newTask(winogradBlockItem),
		winogradInput:   newTask(winogradInputItem),
		winogradProduct: newTask(winogradProductItem), winogradGradBlock: newTask(winogradGradBlockItem),
		winogradGradFilter: newTask(winogradGradFilterItem),
		groupNorm:          newTask(groupNormItem), groupNormGrad: newTask(groupNormGradItem),
		softmax: newTask(softmaxRows), softmaxGrad: newTask(softmaxGradRows),
		attention: newTask(attentionItem), attentionGrad: newTask(attentionGradItem),
		upsample: newTask(upsampleRow), upsampleGrad: newTask(upsampleGradRow),
	}
}
