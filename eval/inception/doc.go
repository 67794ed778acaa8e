// Package inception is the network whose features define FID, KID and the Inception
// Score: the port of TensorFlow's Inception v3 of 2015-12-05 that pytorch-fid and
// torch-fidelity use, forward only.
//
// Its one idea: it is an instrument, not a model to be trained. Batch norms are folded
// into the convolutions once; 1x1 and 3x3 convolutions are the backend's, all other
// kernels (5x5, 1x7, 7x1, 1x3, 3x1) are patches times a matrix; poolings and ReLU are
// loops on the host. The contract of tensor.Backend is not widened for it, and it runs
// on processors only.
//
// Features are pytorch-fid's 2048 values of the last pooling, logits torch-fidelity's
// 1008 without the bias. Weights are read from the published file, whose SHA-256 is
// checked before anything in it is interpreted, or from safetensors with the same names.
//
// The pickle inside a .pth is read by a reader of our own (checkpoint/pth): a library
// that allocates what a hostile size asks for, and makes an object of any global, is
// too much for a dictionary of tensors.
package inception
