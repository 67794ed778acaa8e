// Package optim is optimizers for one flat vector of float32 parameters, and
// what a training step needs around them: learning-rate schedule, global norm,
// clipping, exponential moving average.
//
// The one idea: an update is a pure function of (parameters, gradients, state,
// learning rate, update count), to the bit, on any number of threads and on
// amd64 and arm64 alike. Scalars (bias corrections, rectification) are float64
// and computed once a step; elements are float32, in an order of operations
// written down with explicit conversions so that no compiler fuses a multiply
// into an add; sums are float64 over fixed blocks (Blocks), in fixed lanes.
//
//	c, err := optim.DefaultConfig("adamw")
//	o, err := optim.New(c, nil, len(params), nil) // one tensor, one thread
//	for t := int64(1); t <= steps; t++ {
//	    // ... fill grads ...
//	    o.Step(params, grads, c.LR, t)
//	}
//
// # Optimizers
//
//	adan     Xie et al., arXiv 2208.06677     proximal or decoupled weight decay
//	adam     Kingma & Ba, arXiv 1412.6980     weight decay as an L2 penalty
//	adamw    Loshchilov & Hutter, 1711.05101  decoupled weight decay
//	rmsprop  Hinton 2012, PyTorch's form      momentum, centered
//	acprop   Zhuang et al., arXiv 2110.05454  asynchronous, centered; rectified or not
//	sgdm     PyTorch's form                   momentum, dampening, Nesterov
//	lion     Chen et al., arXiv 2302.06675    sign momentum
//
// Defaults are those of the reference implementations. State is a list of named
// slots, each laid out like the parameters; a slot carries the name that the
// reference implementation gives it, so a checkpoint reads like a PyTorch
// optimizer's.
//
// An optimizer's Scalars are what its rule, as its docstring gives it, takes for
// one update, already rounded: whoever applies the rule elsewhere, in vector
// kernels or on a GPU, gets the same bits from the same scalars.
//
// # Clipping
//
// ClipScale is torch.nn.utils.clip_grad_norm_'s factor, min(1, max/(norm +
// 1e-6)). Adan's own max_grad_norm (Config.MaxGradNorm) is a second, different
// rule: min(1, max/(norm + eps)) with Adan's eps, 1e-8. Use one of the two.
//
// # What it does not do
//
// It knows no model, no device, no file format and no parameter groups: every
// element gets the same hyperparameters. The gradient transform AGR and the
// fused pass are package agr.
package optim
