package cpu

// tasks are the parallel loops of all operations.
type tasks struct {
	copy, fill, add, addScaled, scale, silu, siluGrad *task[vecArgs]
	widen, narrow                                     *task[castArgs]
	addChannels, concat, split                        *task[rowArgs]
	qSample                                           *task[qSampleArgs]
	sumChannels                                       *task[sumArgs]
	mse                                               *task[mseArgs]
	normal, dropout                                   *task[randomArgs]
	matMul                                            *task[matMulArgs]
	conv, convInputGrad, convWeightGrad               *task[convArgs]
	groupNorm, groupNormGrad                          *task[normArgs]
	softmax, softmaxGrad                              *task[softmaxArgs]
	upsample, upsampleGrad                            *task[resampleArgs]
}

func newTasks() tasks {
	return tasks{
		copy: newTask(copySpan), fill: newTask(fillSpan), add: newTask(addSpan),
		addScaled: newTask(addScaledSpan), scale: newTask(scaleSpan),
		silu: newTask(siluSpan), siluGrad: newTask(siluGradSpan),
		widen: newTask(widenSpan), narrow: newTask(narrowSpan),
		addChannels: newTask(addChannelsRows), concat: newTask(concatRows), split: newTask(splitRows),
		qSample:     newTask(qSampleOne),
		sumChannels: newTask(sumColumns), mse: newTask(mseOne),
		normal: newTask(normalOne), dropout: newTask(dropoutSpan),
		matMul: newTask(matMulRow),
		conv:   newTask(convRow), convInputGrad: newTask(convInputGradRow), convWeightGrad: newTask(convWeightGradRow),
		groupNorm: newTask(groupNormOne), groupNormGrad: newTask(groupNormGradOne),
		softmax: newTask(softmaxRows), softmaxGrad: newTask(softmaxGradRows),
		upsample: newTask(upsampleRow), upsampleGrad: newTask(upsampleGradRow),
	}
}
