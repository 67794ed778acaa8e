package cpu

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
