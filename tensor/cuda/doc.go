// Package cuda computes on one NVIDIA GPU: tensor.Backend on gorgonia.org/cu.
// It is built with -tags cuda and is empty otherwise.
//
// The one idea: every operation is a launch on one stream whose grid is a
// function of the operands' shapes alone. No kernel adds floats atomically, no
// grid asks how many multiprocessors there are, so two runs give the same bits.
// The kernels of this project (kernels/*.cu) are compiled by NVRTC for the
// device at hand, without contraction of multiply and add, and kept on disk;
// convolutions come from cuDNN, matrix multiplications from cuBLASLt.
//
// The libraries' algorithms are chosen by their rules of thumb among those that are
// deterministic, never by timing; where cuDNN has none, a convolution is a matrix
// product of patches.
//
// Host values go through pinned memory and a stream of their own, so that input
// arrives while the device computes. Record makes CUDA graphs (tensor.Replayer).
//
// Beside the contract and all its optional interfaces there is the update pass
// (Pass), with the bits of package agr's; a digest of parameters (Digest); and a
// second stream for collectives (Lane).
//
// Operations return before they ran. A failure of the device sticks: Sync and
// Download report the first one.
//
// Activations may be F32 or BF16, with F32 arithmetic between; parameters,
// statistics and gradients of parameters are F32.
//
// What it does not do: it does not choose a device, talk to other ranks, or
// fall back to the host.
package cuda
